package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"reflect"
	"strconv"
)

// decoder reads a header. Every read goes through need, so that nothing is
// allocated which the file does not have.
type decoder struct {
	r     *bufio.Reader
	order binary.ByteOrder
	pos   int64
	size  int64 // of the file
}

// value reads a kind and a value of that kind.
func (d *decoder) value(what string) (Value, error) {
	kind, err := d.uint32(what)
	if err != nil {
		return nil, err
	}
	if Kind(kind) == KindArray {
		return d.array(what, 1)
	}
	v, err := d.slice(what, Kind(kind), 1, 0)
	if err != nil {
		return nil, err
	}
	return reflect.ValueOf(v).Index(0).Interface(), nil
}

// array reads the kind and the number of elements, then the elements.
func (d *decoder) array(what string, depth int) (Array, error) {
	if depth > maxNesting {
		return Array{}, unsupportedErr("%s: arrays lie more than %d deep", what, maxNesting)
	}
	kind, err := d.uint32(what)
	if err != nil {
		return Array{}, err
	}
	count, err := d.uint64(what)
	if err != nil {
		return Array{}, err
	}
	values, err := d.slice(what, Kind(kind), count, depth)
	return Array{values}, err
}

// slice reads count values of one kind into a Go slice of their type.
func (d *decoder) slice(what string, kind Kind, count uint64, depth int) (any, error) {
	if !kind.known() {
		return nil, formatErr("%s: kind %d does not exist", what, uint32(kind))
	}
	if err := d.count(count, kindTable[kind].bytes, what); err != nil {
		return nil, err
	}
	switch kind {
	case KindUint8:
		return numbers[uint8](d, count)
	case KindInt8:
		return numbers[int8](d, count)
	case KindUint16:
		return numbers[uint16](d, count)
	case KindInt16:
		return numbers[int16](d, count)
	case KindUint32:
		return numbers[uint32](d, count)
	case KindInt32:
		return numbers[int32](d, count)
	case KindUint64:
		return numbers[uint64](d, count)
	case KindInt64:
		return numbers[int64](d, count)
	case KindFloat32:
		return numbers[float32](d, count)
	case KindFloat64:
		return numbers[float64](d, count)
	case KindBool:
		return d.bools(what, count)
	case KindString:
		return collect(count, func() (string, error) { return d.string(what) })
	default:
		return collect(count, func() (Array, error) { return d.array(what, depth+1) })
	}
}

// numbers reads count values of fixed width; count has passed decoder.count.
func numbers[T any](d *decoder, count uint64) ([]T, error) {
	values := make([]T, count)
	if err := binary.Read(d.r, d.order, values); err != nil {
		return nil, unexpected(err)
	}
	d.pos += int64(binary.Size(values))
	return values, nil
}

// bools reads one byte a value; the spec allows 0 and 1 only.
func (d *decoder) bools(what string, count uint64) ([]bool, error) {
	raw, err := numbers[uint8](d, count)
	values := make([]bool, len(raw))
	for i, b := range raw {
		if b > 1 {
			return nil, formatErr("%s: a bool is %d, want 0 or 1", what, b)
		}
		values[i] = b == 1
	}
	return values, err
}

// collect reads values whose width varies. The slice grows as the file delivers.
func collect[T any](count uint64, read func() (T, error)) ([]T, error) {
	values := make([]T, 0, min(count, 4096))
	for range count {
		v, err := read()
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

func (d *decoder) uint32(what string) (uint32, error) {
	b, err := d.fixed(4, what)
	return d.order.Uint32(b[:4]), err
}

func (d *decoder) uint64(what string) (uint64, error) {
	b, err := d.fixed(8, what)
	return d.order.Uint64(b[:]), err
}

// fixed reads the n bytes of one number, at most 8.
func (d *decoder) fixed(n int64, what string) (b [8]byte, err error) {
	if err := d.need(n, what); err != nil {
		return b, err
	}
	if _, err := io.ReadFull(d.r, b[:n]); err != nil {
		return b, unexpected(err)
	}
	d.pos += n
	return b, nil
}

func (d *decoder) string(what string) (string, error) {
	n, err := d.uint64(what)
	if err != nil {
		return "", err
	}
	if err := d.count(n, 1, what); err != nil {
		return "", err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(d.r, b); err != nil {
		return "", unexpected(err)
	}
	d.pos += int64(n)
	return string(b), nil
}

// count checks that the file has room for count elements of at least least bytes.
func (d *decoder) count(count uint64, least int64, what string) error {
	if count > math.MaxInt64/uint64(least) {
		return truncatedErr("%s: count is %d, and %d bytes are left", what, count, d.size-d.pos)
	}
	return d.need(int64(count)*least, what)
}

// need checks that n more bytes are there, and that the header stays below its limit.
func (d *decoder) need(n int64, what string) error {
	switch {
	case n > d.size-d.pos:
		return truncatedErr("%s: needs %d bytes from byte %d on, file has %d", what, n, d.pos, d.size)
	case n > MaxHeader-d.pos:
		return unsupportedErr("%s: needs %d bytes from byte %d on, headers are read up to %d", what, n, d.pos, MaxHeader)
	}
	return nil
}

// unexpected turns the end of a file that became shorter while it was read into a
// truncation; other errors of the file system pass.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return truncatedErr("the file became shorter while it was read")
	}
	return err
}

// quote quotes a name from the file, cut where it is too long to read.
func quote(name string) string {
	const most = 100
	if len(name) > most {
		return strconv.Quote(name[:most]) + "…"
	}
	return strconv.Quote(name)
}
