package hostile

import (
	"encoding/binary"
	"fmt"
	"slices"

	"finetune/gguf"
)

// rawFile is a GGUF file as a list of what is in it, which may be what no reader takes. Package gguf writes valid files only,
// so this reads and writes its own: version 3, little-endian.
type rawFile struct {
	keys     []rawKey
	tensors  []rawTensor
	align    int
	lieKeys  int64 // added to the counts that the header says
	lieCount int64
}

// rawKey is a key with its value as bytes.
type rawKey struct {
	name  string
	kind  gguf.Kind
	value []byte // an array's begins with its elements' kind and their number
}

// rawTensor is a description with its data.
type rawTensor struct {
	name  string
	dims  []uint64
	kind  uint32
	data  []byte
	shift int64 // added to the offset that the header says
}

// cursor reads a file that is known to be valid; what is not is a bug of the tests.
type cursor struct {
	b  []byte
	at int
}

func (c *cursor) take(n int) []byte {
	c.at += n
	return c.b[c.at-n : c.at]
}

func (c *cursor) u32() uint32    { return binary.LittleEndian.Uint32(c.take(4)) }
func (c *cursor) u64() uint64    { return binary.LittleEndian.Uint64(c.take(8)) }
func (c *cursor) string() string { return string(c.take(int(c.u64()))) }

// widths are the bytes of a value of each kind that has a fixed number of them.
var widths = map[gguf.Kind]int{
	gguf.KindUint8: 1, gguf.KindInt8: 1, gguf.KindBool: 1, gguf.KindUint16: 2, gguf.KindInt16: 2,
	gguf.KindUint32: 4, gguf.KindInt32: 4, gguf.KindFloat32: 4, gguf.KindUint64: 8, gguf.KindInt64: 8, gguf.KindFloat64: 8,
}

func (c *cursor) value(kind gguf.Kind) {
	switch kind {
	case gguf.KindString:
		c.string()
	case gguf.KindArray:
		of, n := gguf.Kind(c.u32()), int(c.u64())
		for range n {
			c.value(of)
		}
	default:
		c.take(widths[kind])
	}
}

// parse reads a valid file.
func parse(b []byte) *rawFile {
	c := &cursor{b: b, at: 8}
	f := &rawFile{align: 32}
	tensors, keys := int(c.u64()), int(c.u64())
	for range keys {
		k := rawKey{name: c.string(), kind: gguf.Kind(c.u32())}
		begin := c.at
		c.value(k.kind)
		k.value = slices.Clone(b[begin:c.at])
		if k.name == "general.alignment" {
			f.align = int(binary.LittleEndian.Uint32(k.value))
		}
		f.keys = append(f.keys, k)
	}
	offsets := make([]int, tensors)
	for i := range tensors {
		t := rawTensor{name: c.string(), dims: make([]uint64, c.u32())}
		for j := range t.dims {
			t.dims[j] = c.u64()
		}
		t.kind = c.u32()
		offsets[i] = int(c.u64())
		f.tensors = append(f.tensors, t)
	}
	data := b[padded(c.at, f.align):]
	for i := range f.tensors {
		n, ok := f.tensors[i].bytes()
		if !ok {
			panic(fmt.Sprintf("hostile: tensor %q has no size", f.tensors[i].name))
		}
		f.tensors[i].data = slices.Clone(data[offsets[i] : offsets[i]+n])
	}
	return f
}

func padded(n, align int) int { return (n + align - 1) / align * align }

// mostData is what a mutated tensor may take in a file, in bytes; where its shape says more, the file has less.
const mostData = 4 << 20

// bytes returns what data of the tensor's type and shape takes; ok is false where that is nothing sensible, or too much.
func (t *rawTensor) bytes() (n int, ok bool) {
	typ := gguf.Type(t.kind)
	if !slices.Contains(gguf.Types(), typ) || len(t.dims) == 0 {
		return 0, false
	}
	rows := uint64(1)
	for _, d := range t.dims[1:] {
		if d == 0 || d > mostData || rows*d > mostData {
			return 0, false
		}
		rows *= d
	}
	if t.dims[0] > mostData || t.dims[0]%uint64(typ.BlockSize()) != 0 {
		return 0, false
	}
	all := t.dims[0] / uint64(typ.BlockSize()) * uint64(typ.BlockBytes()) * rows
	return int(all), all <= mostData
}

// fit repeats or cuts the data so that it is as long as type and shape say.
func (t *rawTensor) fit() {
	n, ok := t.bytes()
	if !ok || n == len(t.data) {
		return
	}
	if len(t.data) == 0 {
		t.data = make([]byte, 32)
	}
	for len(t.data) < n {
		t.data = append(t.data, t.data[:min(len(t.data), n-len(t.data))]...)
	}
	t.data = t.data[:n]
}

// encode returns the file's bytes.
func (f *rawFile) encode() []byte {
	le := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	b := append([]byte("GGUF"), 3, 0, 0, 0)
	b = le.AppendUint64(b, uint64(int64(len(f.tensors))+f.lieCount))
	b = le.AppendUint64(b, uint64(int64(len(f.keys))+f.lieKeys))
	for _, k := range f.keys {
		b = append(le.AppendUint32(text(b, k.name), uint32(k.kind)), k.value...)
	}
	offset := 0
	for _, t := range f.tensors {
		b = le.AppendUint32(text(b, t.name), uint32(len(t.dims)))
		for _, d := range t.dims {
			b = le.AppendUint64(b, d)
		}
		b = le.AppendUint64(le.AppendUint32(b, t.kind), uint64(int64(offset)+t.shift))
		offset = padded(offset+len(t.data), f.align)
	}
	for _, t := range f.tensors {
		b = append(b, make([]byte, padded(len(b), f.align)-len(b))...)
		b = append(b, t.data...)
	}
	return append(b, make([]byte, padded(len(b), f.align)-len(b))...)
}

// key returns the key of that name, nil for none.
func (f *rawFile) key(name string) *rawKey {
	for i := range f.keys {
		if f.keys[i].name == name {
			return &f.keys[i]
		}
	}
	return nil
}
