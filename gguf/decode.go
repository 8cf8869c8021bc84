package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
)

const magic = "GGUF"

// Limits on what a file may ask of its reader.
const (
	// MaxHeader is the most bytes that key-value pairs and tensor descriptions may
	// take together. Real headers have a few megabytes; without a limit a damaged
	// count would read a model's weights as metadata.
	MaxHeader = 1 << 30

	// MaxAlignment is the largest general.alignment that is read or written.
	MaxAlignment = 1 << 20

	// maxNesting is how deep arrays may lie in arrays. It bounds the stack.
	maxNesting = 16
)

const defaultAlignment = 32

// header is what one file holds before its data section.
type header struct {
	version   int
	order     binary.ByteOrder
	alignment int64
	kvs       []KV
	index     map[string]int // key to index in kvs
	tensors   []Tensor
	data      int64 // where the data section starts, in bytes from the start of the file
}

// decodeHeader reads and checks the header of a file of size bytes.
func decodeHeader(r io.ReaderAt, size int64) (*header, error) {
	d := &decoder{
		r:     bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10),
		order: binary.LittleEndian,
		size:  size,
	}
	h := &header{alignment: defaultAlignment, index: map[string]int{}}
	if err := d.start(h); err != nil {
		return nil, err
	}
	nTensors, err := d.uint64("the number of tensors")
	if err != nil {
		return nil, err
	}
	nKV, err := d.uint64("the number of key-value pairs")
	if err != nil {
		return nil, err
	}
	if err := d.keyValues(h, nKV); err != nil {
		return nil, err
	}
	if err := d.tensors(h, nTensors); err != nil {
		return nil, err
	}
	h.data = pad(d.pos, h.alignment)
	return h, h.checkData(size)
}

// start reads magic and version, and learns the byte order from the version: the
// spec gives no other mark, but a version that fills the upper half only is one
// written the other way round.
func (d *decoder) start(h *header) error {
	var b [4]byte
	n, err := io.ReadFull(d.r, b[:min(4, d.size)])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	d.pos = int64(n)
	switch {
	case !strings.HasPrefix(magic, string(b[:n])):
		return formatErr("not a GGUF file: it starts with %q%s, want %q", b[:n], otherFormat(b[:]), magic)
	case n < len(magic):
		return truncatedErr("the file ends at byte %d, inside the magic", n)
	}
	version, err := d.uint32("the version")
	if err != nil {
		return err
	}
	if version != 0 && version&0xffff == 0 {
		d.order = binary.BigEndian
		version = version>>24 | version>>8&0xff00 // the lower half is zero
	}
	switch {
	case version == 0:
		return formatErr("version 0 does not exist")
	case version != 2 && version != 3:
		return unsupportedErr("GGUF version %d, want 2 or 3", version)
	}
	h.version, h.order = int(version), d.order
	return nil
}

// otherFormat names what people most often take for a GGUF file.
func otherFormat(magic []byte) string {
	switch string(magic) {
	case "PK\x03\x04":
		return " (a zip archive, as a PyTorch checkpoint is)"
	case "lmgg", "tjgg", "fmgg", "algg":
		return " (a ggml file from before GGUF)"
	case "FUGG":
		return " (GGUF with its magic the wrong way round)"
	}
	return ""
}

func (d *decoder) keyValues(h *header, count uint64) error {
	const least = 8 + 1 + 4 + 1 // length, key, kind, value
	if err := d.count(count, least, "key-value pairs"); err != nil {
		return err
	}
	for range count {
		key, err := d.string("a key")
		if err != nil {
			return err
		}
		if key == "" || len(key) > math.MaxUint16 {
			return formatErr("a key has %d bytes, the format takes 1 to %d", len(key), math.MaxUint16)
		}
		if _, ok := h.index[key]; ok {
			return formatErr("key %q: is there twice", key)
		}
		value, err := d.value("the value of " + quote(key))
		if err != nil {
			return err
		}
		h.index[key] = len(h.kvs)
		h.kvs = append(h.kvs, KV{key, value})
	}
	if i, ok := h.index[keyAlignment]; ok {
		return h.setAlignment(h.kvs[i].Value)
	}
	return nil
}

func (h *header) setAlignment(v Value) (err error) {
	h.alignment, err = alignmentOf(v)
	return err
}

// alignmentOf checks a value of general.alignment.
func alignmentOf(v Value) (int64, error) {
	n, ok := v.(uint32)
	switch {
	case !ok:
		return 0, formatErr("key %q: a %s, want uint32", keyAlignment, kindName(v))
	case n == 0 || n&(n-1) != 0:
		return 0, formatErr("key %q: %d is no power of two", keyAlignment, n)
	case n > MaxAlignment:
		return 0, unsupportedErr("key %q: %d, want at most %d", keyAlignment, n, MaxAlignment)
	}
	return int64(n), nil
}

func (d *decoder) tensors(h *header, count uint64) error {
	const least = 8 + 1 + 4 + 4 + 8 // length, name, dimensions, type, offset
	if err := d.count(count, least, "tensors"); err != nil {
		return err
	}
	seen := map[string]bool{}
	for range count {
		t, err := d.tensor()
		if err != nil {
			return err
		}
		if seen[t.Name] {
			return formatErr("tensor %q: is there twice", t.Name)
		}
		if t.Offset%h.alignment != 0 {
			return formatErr("tensor %q: starts at byte %d of the data, no multiple of the alignment %d", t.Name, t.Offset, h.alignment)
		}
		seen[t.Name] = true
		h.tensors = append(h.tensors, t)
	}
	return nil
}

// tensor reads the description of one tensor and checks all but its place.
func (d *decoder) tensor() (Tensor, error) {
	var t Tensor
	var err error
	if t.Name, err = d.string("the name of a tensor"); err != nil {
		return t, err
	}
	what := "tensor " + quote(t.Name)
	dims, err := d.uint32(what)
	if err != nil {
		return t, err
	}
	if dims > maxDims {
		return t, formatErr("tensor %s: has %d dimensions, ggml takes at most %d", quote(t.Name), dims, maxDims)
	}
	for range dims {
		ne, err := d.uint64(what)
		if err != nil {
			return t, err
		}
		t.Shape = append(t.Shape, int64(ne)) // layout refuses what turns negative
	}
	if dims == 0 { // a scalar, to ggml a row of one
		t.Shape = []int64{1}
	}
	typ, err := d.uint32(what)
	if err != nil {
		return t, err
	}
	offset, err := d.uint64(what)
	if err != nil {
		return t, err
	}
	if offset > maxBytes {
		return t, formatErr("tensor %s: starts at byte %d of the data, more than can be counted", quote(t.Name), offset)
	}
	t.Type, t.Offset = Type(typ), int64(offset)
	_, err = t.layout()
	return t, err
}

// checkData checks that the data of every tensor lies inside a file of size bytes.
func (h *header) checkData(size int64) error {
	for _, t := range h.tensors {
		if end := h.data + t.Offset + t.Bytes(); end > size {
			return truncatedErr("tensor %q: data ends at byte %d, file has %d", t.Name, end, size)
		}
	}
	return nil
}

// pad rounds n up to a multiple of alignment, a power of two.
func pad(n, alignment int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }
