package gguf

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"finetune/internal/atomicfile"
)

// Builder collects the contents of a GGUF file and writes it: version 3, little
// endian, keys and tensors in the order in which they were added. Tensor data is
// fetched while it is written, one tensor at a time, so a Builder holds no model.
//
// The first error sticks: it is returned by Err, WriteTo and WriteFile. A Builder is
// for one goroutine.
type Builder struct {
	kvs     []KV
	index   map[string]int
	tensors []Tensor
	sources []func(io.Writer) error // one a tensor
	names   map[string]bool
	err     error
}

// NewBuilder returns a Builder of a file without keys and tensors.
func NewBuilder() *Builder {
	return &Builder{index: map[string]int{}, names: map[string]bool{}}
}

// Err returns the first error of Set, AddTensor and their kin.
func (b *Builder) Err() error { return b.err }

func (b *Builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// Set gives key a value: one of the types of [Value], or a slice of them such as
// []string, which becomes an [Array] and must not change until the file is written. A
// key that was set before keeps its place.
// Setting general.alignment, a uint32, sets the alignment of the file.
func (b *Builder) Set(key string, value any) {
	if a, ok := arrayOf(value); ok {
		value = a
	}
	if err := checkKV(key, value); err != nil {
		b.fail(err)
		return
	}
	if i, ok := b.index[key]; ok {
		b.kvs[i].Value = value
		return
	}
	b.index[key] = len(b.kvs)
	b.kvs = append(b.kvs, KV{key, value})
}

// SetAll sets many keys, such as those of another file.
func (b *Builder) SetAll(kvs []KV) {
	for _, kv := range kvs {
		b.Set(kv.Key, kv.Value)
	}
}

// arrayOf wraps a slice of a type that an array can hold.
func arrayOf(v any) (Array, bool) {
	if _, ok := v.(Array); ok {
		return Array{}, false
	}
	kind, _ := sliceOf(v)
	return Array{v}, kind != noKind
}

func checkKV(key string, v Value) error {
	if key == "" || len(key) > math.MaxUint16 {
		return formatErr("key %s: has %d bytes, the format takes 1 to %d", quote(key), len(key), math.MaxUint16)
	}
	if _, ok := KindOf(v); !ok {
		return fmt.Errorf("gguf: key %q: a value of Go type %T has no kind in GGUF", key, v)
	}
	if key == keyAlignment {
		_, err := alignmentOf(v)
		return err
	}
	return nil
}

// AddTensor adds a tensor with the given data, which must stay unchanged until the
// file is written. shape is ggml's ne, fastest dimension first, 1 to 4 of them.
func (b *Builder) AddTensor(name string, t Type, shape []int64, data []byte) {
	tensor := Tensor{Name: name, Type: t, Shape: shape}
	if want, err := tensor.layout(); err == nil && want != int64(len(data)) {
		b.fail(fmt.Errorf("gguf: tensor %q: %d bytes of data, %s of shape %v has %d", name, len(data), t, shape, want))
		return
	}
	b.AddTensorFunc(name, t, shape, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// AddTensorFunc adds a tensor whose data is written by src when its turn comes, each
// time the file is written. Writing fails if src writes more or less than the bytes
// that type and shape have.
func (b *Builder) AddTensorFunc(name string, t Type, shape []int64, src func(io.Writer) error) {
	tensor := Tensor{Name: name, Type: t, Shape: slices.Clone(shape)}
	if _, err := tensor.layout(); err != nil {
		b.fail(err)
		return
	}
	if b.names[name] {
		b.fail(fmt.Errorf("gguf: tensor %q: added twice", name))
		return
	}
	b.names[name] = true
	b.tensors = append(b.tensors, tensor)
	b.sources = append(b.sources, src)
}

// CopyTensor adds a tensor of f under its own name. f must stay open until the file
// is written.
func (b *Builder) CopyTensor(f *File, name string) {
	t, ok := f.Tensor(name)
	if !ok {
		b.fail(f.errorf("tensor %q: %w", name, ErrNoTensor))
		return
	}
	b.AddTensorFunc(name, t.Type, t.Shape, func(w io.Writer) error {
		data, err := f.Data(name)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
}

// WriteFile writes the file to path. It appears there whole or not at all, see
// package atomicfile.
func (b *Builder) WriteFile(path string) error {
	if b.err != nil {
		return b.err
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := b.WriteTo(w)
		return err
	})
}

// WriteTo writes the file to w and returns the number of bytes written.
func (b *Builder) WriteTo(w io.Writer) (int64, error) {
	if b.err != nil {
		return 0, b.err
	}
	return b.write(w, b.kvs, 0, len(b.tensors))
}

// write writes a file with the given keys and the tensors from index i to j-1.
func (b *Builder) write(w io.Writer, kvs []KV, i, j int) (int64, error) {
	buf := bufio.NewWriterSize(w, 1<<20)
	e := &encoder{w: buf, alignment: b.alignment()}
	e.header(kvs, b.tensors[i:j])
	for ; i < j; i++ {
		e.data(b.tensors[i], b.sources[i])
	}
	if e.err == nil {
		e.err = buf.Flush()
	}
	return e.n - int64(buf.Buffered()), e.err
}

func (b *Builder) alignment() int64 {
	if i, ok := b.index[keyAlignment]; ok {
		alignment, _ := alignmentOf(b.kvs[i].Value) // Set has checked it
		return alignment
	}
	return defaultAlignment
}

// encoder writes with a sticky error and counts the bytes.
type encoder struct {
	w         io.Writer
	n         int64
	alignment int64
	err       error
	scratch   []byte
}

func (e *encoder) Write(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	var n int
	n, e.err = e.w.Write(p)
	e.n += int64(n)
	return n, e.err
}

// header writes everything before the data section, and the padding up to it. Each
// tensor starts where the padded one before it ends, as llama.cpp demands.
func (e *encoder) header(kvs []KV, tensors []Tensor) {
	const version = 3
	e.Write([]byte(magic))
	e.put(uint32(version))
	e.put(uint64(len(tensors)))
	e.put(uint64(len(kvs)))
	for _, kv := range kvs {
		kind, _ := KindOf(kv.Value)
		e.string(kv.Key)
		e.put(uint32(kind))
		e.value(kv.Value)
	}
	offset := int64(0)
	for _, t := range tensors {
		e.string(t.Name)
		e.put(uint32(len(t.Shape)))
		e.put(t.Shape)
		e.put(uint32(t.Type))
		e.put(uint64(offset))
		offset += pad(t.Bytes(), e.alignment)
	}
	e.pad()
}

// data writes one tensor and the padding after it.
func (e *encoder) data(t Tensor, src func(io.Writer) error) {
	if e.err != nil {
		return
	}
	start := e.n
	limited := &limitedWriter{w: e, left: t.Bytes()}
	err := src(limited)
	switch {
	case e.err != nil: // of the file; src has seen it too
		return
	case limited.over:
		e.err = fmt.Errorf("gguf: tensor %q: its source wrote more than the %d bytes it has", t.Name, t.Bytes())
	case err != nil:
		e.err = fmt.Errorf("gguf: tensor %q: %w", t.Name, err)
	case limited.left > 0:
		e.err = fmt.Errorf("gguf: tensor %q: its source wrote %d bytes, want %d", t.Name, e.n-start, t.Bytes())
	}
	e.pad()
}

// limitedWriter takes at most left bytes and remembers when it was given more.
type limitedWriter struct {
	w    io.Writer
	left int64
	over bool
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		l.over = true
		return 0, io.ErrShortWrite
	}
	n, err := l.w.Write(p)
	l.left -= int64(n)
	return n, err
}

func (e *encoder) pad() {
	if n := pad(e.n, e.alignment) - e.n; n > 0 {
		e.Write(bytes.Repeat([]byte{0}, int(n)))
	}
}

// value writes a value without its kind.
func (e *encoder) value(v Value) {
	switch v := v.(type) {
	case string:
		e.string(v)
	case Array:
		e.array(v)
	default:
		e.put(v)
	}
}

func (e *encoder) array(a Array) {
	e.put(uint32(a.Kind()))
	e.put(uint64(a.Len()))
	switch s := a.Values().(type) {
	case []string:
		for _, v := range s {
			e.string(v)
		}
	case []Array:
		for _, v := range s {
			e.array(v)
		}
	default:
		e.put(s)
	}
}

func (e *encoder) string(s string) {
	e.put(uint64(len(s)))
	io.WriteString(e, s)
}

// put writes a number, a bool or a slice of them.
func (e *encoder) put(v any) {
	var err error
	e.scratch, err = binary.Append(e.scratch[:0], binary.LittleEndian, v)
	if err != nil {
		panic(fmt.Sprintf("gguf: internal error: %v", err))
	}
	e.Write(e.scratch)
}
