package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"unicode/utf8"
)

// Builder collects a file and writes it in the form of Hugging Face's own library,
// so that what that library wrote is written again byte for byte: the metadata
// first, then the tensors by falling element size and by name, the header padded
// with spaces to eight bytes.
//
// Data is fetched while it is written, one tensor at a time. A Builder is for one
// goroutine; its first error sticks.
type Builder struct {
	metadata map[string]string
	tensors  []pending
	names    map[string]bool
	err      error
}

type pending struct {
	Tensor
	data func() ([]byte, error)
}

// NewBuilder returns a Builder of a file with the given metadata, which may be nil.
func NewBuilder(metadata map[string]string) *Builder {
	return &Builder{metadata: metadata, names: map[string]bool{}}
}

// Add adds a tensor, whose bytes data returns when their turn comes.
func (b *Builder) Add(name string, d DType, shape []int64, data func() ([]byte, error)) {
	t := Tensor{Name: name, DType: d, Shape: slices.Clone(shape), bytes: d.Size()}
	if t.Shape == nil {
		t.Shape = []int64{}
	}
	for _, n := range shape {
		if n < 0 || n > 0 && t.bytes > math.MaxInt64/n {
			b.fail("tensor %q: shape %v has more elements than can be counted", name, shape)
			return
		}
		t.bytes *= n
	}
	switch {
	case d.Size() == 0:
		b.fail("tensor %q: type %q, want F32, F16 or BF16", name, string(d))
	case name == metadataKey || !utf8.ValidString(name):
		b.fail("tensor %q: the name cannot be written", name)
	case b.names[name]:
		b.fail("tensor %q: added twice", name)
	}
	b.names[name] = true
	b.tensors = append(b.tensors, pending{t, data})
}

func (b *Builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("safetensors: "+format, args...)
	}
}

// WriteTo writes the file and returns the number of bytes written.
func (b *Builder) WriteTo(w io.Writer) (int64, error) {
	if b.err != nil {
		return 0, b.err
	}
	slices.SortStableFunc(b.tensors, func(s, t pending) int {
		return cmp.Or(cmp.Compare(order(s.DType), order(t.DType)), cmp.Compare(s.Name, t.Name))
	})
	header, err := b.header()
	if err != nil {
		return 0, err
	}
	written, err := w.Write(header)
	total := int64(written)
	for _, t := range b.tensors {
		if err != nil {
			return total, err
		}
		var data []byte
		if data, err = t.data(); err != nil {
			return total, fmt.Errorf("safetensors: tensor %q: %w", t.Name, err)
		}
		if int64(len(data)) != t.bytes {
			return total, fmt.Errorf("safetensors: tensor %q: %d bytes of data, %s of shape %v has %d",
				t.Name, len(data), t.DType, t.Shape, t.bytes)
		}
		written, err = w.Write(data)
		total += int64(written)
	}
	return total, err
}

// order returns the order of the data: larger elements first, which keeps all of them
// aligned.
func order(d DType) int { return slices.Index([]DType{F32, BF16, F16}, d) }

// header returns the length and the padded JSON text.
func (b *Builder) header() ([]byte, error) {
	text := bytes.NewBuffer(make([]byte, lengthBytes))
	text.WriteByte('{')
	if len(b.metadata) > 0 {
		text.WriteString(quote(metadataKey) + ":{")
		for i, key := range slices.Sorted(maps.Keys(b.metadata)) {
			comma(text, i)
			text.WriteString(quote(key) + ":" + quote(b.metadata[key]))
		}
		text.WriteByte('}')
	}
	offset := int64(0)
	for i, t := range b.tensors {
		comma(text, i+min(len(b.metadata), 1))
		shape, _ := json.Marshal(t.Shape) // numbers always can be
		fmt.Fprintf(text, `%s:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`,
			quote(t.Name), t.DType, shape, offset, offset+t.bytes)
		offset += t.bytes
	}
	text.WriteByte('}')
	for text.Len()%lengthBytes != 0 {
		text.WriteByte(' ')
	}
	n := text.Len() - lengthBytes
	if n > maxHeader {
		return nil, fmt.Errorf("safetensors: header has %d bytes, the format takes at most %d", n, maxHeader)
	}
	binary.LittleEndian.PutUint64(text.Bytes(), uint64(n))
	return text.Bytes(), nil
}

func comma(text *bytes.Buffer, i int) {
	if i > 0 {
		text.WriteByte(',')
	}
}

// quote returns s as JSON, with <, > and & as they are.
func quote(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(fmt.Sprintf("safetensors: internal error: %v", err))
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}
