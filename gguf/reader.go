package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
)

// Keys that the format itself gives a meaning.
const (
	keyAlignment    = "general.alignment"
	keyArchitecture = "general.architecture"
)

// File is an open GGUF model: one file, or all parts of a split one. Its methods may
// be used by several goroutines at once, but for Close.
type File struct {
	path    string // empty after Decode
	head    *header
	parts   []*part
	tensors []Tensor
	index   map[string]int // tensor name to index in tensors
}

// part is one file of a model.
type part struct {
	path  string
	head  *header
	r     io.ReaderAt // nil after Close
	data  []byte      // the whole file when it is mapped, else nil
	close func() error
}

// Open opens a model. Given the first part of a split model, NAME-00001-of-0000N.gguf,
// it opens the other parts beside it; their names follow from path, never from
// anything inside a file. Where the system can, files are mapped into memory and
// tensor data is read when it is touched; nobody may shorten them until Close, but
// replacing them by a rename, as Builder.WriteFile does, is safe.
//
// Errors are *FormatError, *TruncatedError and *UnsupportedError with the path, or
// those of the file system, such as *fs.PathError for a file that is not there.
// The caller closes the File.
func Open(path string) (*File, error) {
	first, err := openPart(path)
	if err != nil {
		return nil, err
	}
	parts, err := openSiblings(first)
	if err != nil {
		return nil, err
	}
	f := newFile(parts)
	f.path = path
	if len(parts) > 1 {
		if err := f.joinSplit(); err != nil {
			f.Close()
			return nil, withPath(err, path)
		}
	}
	return f, nil
}

// Decode reads a model from r, which holds one GGUF file of size bytes and stays in
// use until Close. A part of a split model is taken alone, as it is.
func Decode(r io.ReaderAt, size int64) (*File, error) {
	head, err := decodeHeader(r, size)
	if err != nil {
		return nil, err
	}
	return newFile([]*part{{head: head, r: r, close: func() error { return nil }}}), nil
}

func openPart(path string) (*part, error) {
	// Asked before opening, which would wait for the other end of a named pipe.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, &FormatError{path, "not a regular file"}
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	p := &part{path: path, r: file, close: file.Close}
	if p.head, err = decodeHeader(file, info.Size()); err != nil {
		file.Close()
		return nil, withPath(err, path)
	}
	// A file that cannot be mapped, by its system or its size, is read instead.
	if data, unmap, err := mapFile(file, info.Size()); err == nil {
		file.Close()
		p.r, p.data, p.close = nil, data, unmap
	}
	return p, nil
}

func newFile(parts []*part) *File {
	f := &File{head: parts[0].head, parts: parts, index: map[string]int{}}
	for i, p := range parts {
		for _, t := range p.head.tensors {
			t.part = i
			f.index[t.Name] = len(f.tensors)
			f.tensors = append(f.tensors, t)
		}
	}
	return f
}

// Close unmaps and closes the files. Data that was handed out must not be used
// afterwards. A second Close does nothing.
func (f *File) Close() error {
	var first error
	for _, p := range f.parts {
		if p.close == nil {
			continue
		}
		if err := p.close(); err != nil && first == nil {
			first = err
		}
		p.r, p.data, p.close = nil, nil, nil
	}
	return first
}

// Path returns the path given to Open, empty after Decode.
func (f *File) Path() string { return f.path }

// Paths returns the paths of all parts, one for a model in one file.
func (f *File) Paths() []string {
	var paths []string
	for _, p := range f.parts {
		paths = append(paths, p.path)
	}
	return paths
}

// Version returns the version of the format, 2 or 3.
func (f *File) Version() int { return f.head.version }

// ByteOrder returns the byte order of the first part.
func (f *File) ByteOrder() binary.ByteOrder { return f.head.order }

// Alignment returns the alignment of tensor data in bytes.
func (f *File) Alignment() int64 { return f.head.alignment }

// KVs returns the key-value pairs in file order, those of the first part when the
// model is split, without the split.* keys that only the parts are described by.
func (f *File) KVs() []KV { return slices.Clone(f.head.kvs) }

// Tensors returns the tensors of all parts in file order.
func (f *File) Tensors() []Tensor { return slices.Clone(f.tensors) }

// Tensor returns the tensor with the given name, and false if there is none.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.index[name]
	if !ok {
		return Tensor{}, false
	}
	return f.tensors[i], true
}

// Data returns the bytes of a tensor, rows of blocks as ggml keeps them in memory on
// a little-endian machine, Tensor.Bytes of them. The bytes are a view of the mapped
// file where there is one, so they are read-only and valid until Close; else a copy.
//
// The data of a big-endian file is turned round in a copy for the types whose blocks
// are single numbers; for quantized types Data returns an *UnsupportedError.
// A tensor that is not there is ErrNoTensor, a closed file os.ErrClosed.
func (f *File) Data(name string) ([]byte, error) {
	t, _ := f.Tensor(name) // Part says if there is none
	return f.Part(name, 0, t.Bytes())
}

// Part returns bytes from to to-1 of what Data returns, whole blocks of the tensor's
// type, without reading the others.
func (f *File) Part(name string, from, to int64) ([]byte, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return nil, f.errorf("tensor %q: %w", name, ErrNoTensor)
	}
	if block := int64(t.Type.BlockBytes()); from < 0 || from > to || to > t.Bytes() || from%block != 0 || to%block != 0 {
		return nil, f.errorf("tensor %q: bytes %d to %d: want whole blocks of %d within %d bytes", name, from, to, block, t.Bytes())
	}
	p := f.parts[t.part]
	if p.close == nil {
		return nil, f.errorf("tensor %q: %w", name, os.ErrClosed)
	}
	if p.head.order == binary.BigEndian {
		return p.swapped(t, from, to)
	}
	return p.bytes(t, from, to)
}

// Forget takes what was read of mapped files out of the memory of this process, where
// the system can do that (Linux), so that who goes through a model once never has all
// of it there. Data that was handed out stays valid and is read again when touched.
func (f *File) Forget() {
	for _, p := range f.parts {
		if p.data != nil {
			forget(p.data)
		}
	}
}

// bytes returns a part of the data of t as it lies in the file.
func (p *part) bytes(t Tensor, from, to int64) ([]byte, error) {
	start, n := p.head.data+t.Offset+from, to-from
	if p.data != nil {
		return p.data[start : start+n : start+n], nil
	}
	b := make([]byte, n)
	if got, err := p.r.ReadAt(b, start); got < len(b) { // a full buffer may come with io.EOF
		return nil, withPath(unexpected(err), p.path)
	}
	return b, nil
}

// swapped returns a little-endian copy of a part of the data of a tensor of a
// big-endian file.
func (p *part) swapped(t Tensor, from, to int64) ([]byte, error) {
	if t.Type.BlockSize() != 1 {
		return nil, withPath(unsupportedErr("tensor %q: big-endian data of type %s", t.Name, t.Type), p.path)
	}
	b, err := p.bytes(t, from, to)
	if err != nil {
		return nil, err
	}
	b = slices.Clone(b)
	for number := range slices.Chunk(b, t.Type.BlockBytes()) {
		slices.Reverse(number)
	}
	return b, nil
}

// errorf makes an error that names the file.
func (f *File) errorf(format string, args ...any) error {
	if f.path == "" {
		return fmt.Errorf("gguf: "+format, args...)
	}
	return fmt.Errorf("gguf: %q: "+format, append([]any{f.path}, args...)...)
}
