package safetensors

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

const (
	lengthBytes = 8         // before the header: its length, little endian
	maxHeader   = 100 << 20 // the format's own limit is 100 MB
)

// File is an open file. Its methods may be used by several goroutines at once, but
// for Close.
type File struct {
	path     string
	r        io.ReaderAt
	close    func() error
	start    int64 // of the data
	metadata map[string]string
	tensors  []Tensor
	index    map[string]int
}

// Open opens a file and checks its header. Errors are *FormatError and
// *UnsupportedError with the path, or those of the file system. The caller closes
// the File.
func Open(path string) (*File, error) {
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
	f, err := Decode(file, info.Size())
	if err != nil {
		file.Close()
		return nil, withPath(err, path)
	}
	f.path, f.close = path, file.Close
	return f, nil
}

// Decode reads the header of a file of size bytes. r stays in use until Close.
func Decode(r io.ReaderAt, size int64) (*File, error) {
	text, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	f := &File{r: r, start: lengthBytes + int64(len(text)), close: func() error { return nil }}
	if f.metadata, f.tensors, err = parseHeader(text); err != nil {
		return nil, err
	}
	if err := f.checkLayout(size - f.start); err != nil {
		return nil, err
	}
	f.index = map[string]int{}
	for i, t := range f.tensors {
		f.index[t.Name] = i
	}
	return f, nil
}

// readHeader returns the JSON. Its length is checked against the file before
// anything is allocated by it.
func readHeader(r io.ReaderAt, size int64) ([]byte, error) {
	var length [lengthBytes]byte
	if size < lengthBytes {
		return nil, formatErr("has %d bytes, want %d with the length of the header", size, lengthBytes)
	}
	if n, err := r.ReadAt(length[:], 0); n < lengthBytes {
		return nil, cut(err)
	}
	n := binary.LittleEndian.Uint64(length[:])
	switch {
	case n > maxHeader:
		return nil, formatErr("header has %d bytes, the format takes at most %d", n, maxHeader)
	case int64(n) > size-lengthBytes:
		return nil, formatErr("header ends at byte %d, file has %d", lengthBytes+n, size)
	}
	text := make([]byte, n)
	if got, err := r.ReadAt(text, lengthBytes); got < len(text) {
		return nil, cut(err)
	}
	return text, nil
}

// checkLayout puts the tensors in the order of their data, which has to fill the
// rest of the file without gap or overlap.
func (f *File) checkLayout(size int64) error {
	slices.SortFunc(f.tensors, func(a, b Tensor) int { // an empty tensor comes before the one that starts where it does
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.bytes, b.bytes), cmp.Compare(a.Name, b.Name))
	})
	end := int64(0)
	for _, t := range f.tensors {
		switch {
		case t.offset < end:
			return formatErr("tensor %q: data starts at byte %d, inside another tensor, which ends at %d", t.Name, t.offset, end)
		case t.offset > end:
			return formatErr("tensor %q: data starts at byte %d, want %d: the format has no gaps", t.Name, t.offset, end)
		case t.bytes > size-t.offset:
			return formatErr("tensor %q: data ends at byte %d, file has %d", t.Name, t.offset+t.bytes, size)
		}
		end = t.offset + t.bytes
	}
	if end != size {
		return formatErr("file has %d bytes of data, its tensors %d", size, end)
	}
	return nil
}

// Close closes the file. A second Close does nothing.
func (f *File) Close() error {
	if f.r == nil {
		return nil
	}
	f.r = nil
	return f.close()
}

// Path returns the path given to Open, empty after Decode.
func (f *File) Path() string { return f.path }

// Tensors returns the tensors in the order of their data.
func (f *File) Tensors() []Tensor { return slices.Clone(f.tensors) }

// Metadata returns the free texts of the header, nil if there are none.
func (f *File) Metadata() map[string]string { return f.metadata }

// Data returns a copy of a tensor's bytes, row after row, little endian. A file that
// was closed is os.ErrClosed, one that was shortened meanwhile a *FormatError.
func (f *File) Data(name string) ([]byte, error) {
	i, ok := f.index[name]
	if !ok {
		return nil, f.noTensor(name)
	}
	return f.Part(name, 0, f.tensors[i].bytes)
}

// Part returns bytes start to end-1 of what Data returns.
func (f *File) Part(name string, start, end int64) ([]byte, error) {
	i, ok := f.index[name]
	switch {
	case !ok:
		return nil, f.noTensor(name)
	case start < 0 || end < start || end > f.tensors[i].bytes:
		return nil, fmt.Errorf("safetensors: tensor %q: bytes %d to %d, it has %d", name, start, end, f.tensors[i].bytes)
	case f.r == nil:
		return nil, os.ErrClosed
	}
	b := make([]byte, end-start)
	if n, err := f.r.ReadAt(b, f.start+f.tensors[i].offset+start); n < len(b) { // a full buffer may come with io.EOF
		return nil, withPath(cut(err), f.path)
	}
	return b, nil
}

func (f *File) noTensor(name string) error {
	return withPath(formatErr("tensor %q: not in the file", name), f.path)
}

// cut says that the file is shorter than it was when it was opened.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return formatErr("file ends before its data does")
	}
	return err
}
