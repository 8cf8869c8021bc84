package gguf

import (
	"fmt"
	"math"
	"strings"
)

// Type is a ggml tensor type, by its id in llama.cpp files.
type Type uint32

// The tensor types of ggml. The ids that are missing belonged to types which ggml
// has removed.
const (
	TypeF32     Type = 0
	TypeF16     Type = 1
	TypeQ4_0    Type = 2
	TypeQ4_1    Type = 3
	TypeQ5_0    Type = 6
	TypeQ5_1    Type = 7
	TypeQ8_0    Type = 8
	TypeQ8_1    Type = 9
	TypeQ2_K    Type = 10
	TypeQ3_K    Type = 11
	TypeQ4_K    Type = 12
	TypeQ5_K    Type = 13
	TypeQ6_K    Type = 14
	TypeQ8_K    Type = 15
	TypeIQ2_XXS Type = 16
	TypeIQ2_XS  Type = 17
	TypeIQ3_XXS Type = 18
	TypeIQ1_S   Type = 19
	TypeIQ4_NL  Type = 20
	TypeIQ3_S   Type = 21
	TypeIQ2_S   Type = 22
	TypeIQ4_XS  Type = 23
	TypeI8      Type = 24
	TypeI16     Type = 25
	TypeI32     Type = 26
	TypeI64     Type = 27
	TypeF64     Type = 28
	TypeIQ1_M   Type = 29
	TypeBF16    Type = 30
	TypeTQ1_0   Type = 34
	TypeTQ2_0   Type = 35
	TypeMXFP4   Type = 39
	TypeNVFP4   Type = 40
	TypeQ1_0    Type = 41
	TypeQ2_0    Type = 42
)

// typeInfo is one row of the table of types: a block is the smallest piece that
// can be stored, and a row of a tensor is a whole number of blocks.
type typeInfo struct {
	name  string // ggml_type_name
	block int    // elements a block
	bytes int    // bytes a block
}

var typeTable = [...]typeInfo{
	TypeF32:     {"f32", 1, 4},
	TypeF16:     {"f16", 1, 2},
	TypeQ4_0:    {"q4_0", 32, 18},
	TypeQ4_1:    {"q4_1", 32, 20},
	TypeQ5_0:    {"q5_0", 32, 22},
	TypeQ5_1:    {"q5_1", 32, 24},
	TypeQ8_0:    {"q8_0", 32, 34},
	TypeQ8_1:    {"q8_1", 32, 36},
	TypeQ2_K:    {"q2_K", 256, 84},
	TypeQ3_K:    {"q3_K", 256, 110},
	TypeQ4_K:    {"q4_K", 256, 144},
	TypeQ5_K:    {"q5_K", 256, 176},
	TypeQ6_K:    {"q6_K", 256, 210},
	TypeQ8_K:    {"q8_K", 256, 292},
	TypeIQ2_XXS: {"iq2_xxs", 256, 66},
	TypeIQ2_XS:  {"iq2_xs", 256, 74},
	TypeIQ3_XXS: {"iq3_xxs", 256, 98},
	TypeIQ1_S:   {"iq1_s", 256, 50},
	TypeIQ4_NL:  {"iq4_nl", 32, 18},
	TypeIQ3_S:   {"iq3_s", 256, 110},
	TypeIQ2_S:   {"iq2_s", 256, 82},
	TypeIQ4_XS:  {"iq4_xs", 256, 136},
	TypeI8:      {"i8", 1, 1},
	TypeI16:     {"i16", 1, 2},
	TypeI32:     {"i32", 1, 4},
	TypeI64:     {"i64", 1, 8},
	TypeF64:     {"f64", 1, 8},
	TypeIQ1_M:   {"iq1_m", 256, 56},
	TypeBF16:    {"bf16", 1, 2},
	TypeTQ1_0:   {"tq1_0", 256, 54},
	TypeTQ2_0:   {"tq2_0", 256, 66},
	TypeMXFP4:   {"mxfp4", 32, 17},
	TypeNVFP4:   {"nvfp4", 64, 36},
	TypeQ1_0:    {"q1_0", 128, 18},
	TypeQ2_0:    {"q2_0", 64, 18},
}

func (t Type) info() typeInfo {
	if int64(t) < int64(len(typeTable)) {
		return typeTable[t]
	}
	return typeInfo{}
}

// Types returns all types that ggml has, by rising id.
func Types() []Type {
	var ts []Type
	for i, info := range typeTable {
		if info.block > 0 {
			ts = append(ts, Type(i))
		}
	}
	return ts
}

// String returns ggml_type_name's spelling, such as "f32" or "q4_K", and
// "type(31)" for an id that ggml does not have or has removed.
func (t Type) String() string {
	if name := t.info().name; name != "" {
		return name
	}
	return fmt.Sprintf("type(%d)", uint32(t))
}

// ParseType returns the type with the given ggml name, in upper or lower case.
func ParseType(name string) (Type, error) {
	for i, info := range typeTable {
		if info.name != "" && strings.EqualFold(info.name, name) {
			return Type(i), nil
		}
	}
	return 0, fmt.Errorf("gguf: tensor type %q: not known", name)
}

// BlockSize returns the elements in a block, 0 for an unknown type.
func (t Type) BlockSize() int { return t.info().block }

// BlockBytes returns the bytes of a block, 0 for an unknown type.
func (t Type) BlockBytes() int { return t.info().bytes }

// RowBytes returns the bytes of n elements that lie in one row. It is an error
// when n is not a whole number of blocks or the type is unknown.
func (t Type) RowBytes(n int64) (int64, error) {
	info := t.info()
	switch {
	case info.block == 0:
		return 0, unsupportedErr("tensor %s is unknown or was removed from ggml", t)
	case n < 0 || n%int64(info.block) != 0:
		return 0, formatErr("a row of %d elements is no multiple of the %d in a block of %s", n, info.block, t)
	case n/int64(info.block) > maxBytes/int64(info.bytes):
		return 0, formatErr("a row of %d elements of %s has more bytes than can be counted", n, t)
	}
	return n / int64(info.block) * int64(info.bytes), nil
}

// maxName is ggml's GGML_MAX_NAME: a tensor's name and its final zero take 64 bytes.
const maxName = 64

// maxBytes bounds the offset and the bytes of a tensor, so that sums of a few of them
// stay far from the largest int64.
const maxBytes = 1 << 60

// maxDims is ggml's GGML_MAX_DIMS.
const maxDims = 4

// Tensor describes one tensor of a file.
type Tensor struct {
	Name   string
	Type   Type
	Shape  []int64 // ggml's ne, fastest dimension first, 1 to 4 of them; not to be changed
	Offset int64   // bytes from the start of the data section of the file it lies in

	part int // index of that file among the parts of a split model
}

// Elements returns the number of elements, the product of the shape.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, ne := range t.Shape {
		n *= ne
	}
	return n
}

// Bytes returns the bytes that the tensor takes in the file, without padding.
func (t Tensor) Bytes() int64 {
	n, _ := t.layout()
	return n
}

// layout checks name, shape and type and returns the bytes of the data.
func (t Tensor) layout() (int64, error) {
	switch {
	case t.Name == "":
		return 0, formatErr("a tensor has no name")
	case len(t.Name) >= maxName:
		return 0, unsupportedErr("tensor %q: its name has %d bytes, ggml takes at most %d", t.Name, len(t.Name), maxName-1)
	case len(t.Shape) < 1 || len(t.Shape) > maxDims:
		return 0, formatErr("tensor %q: has %d dimensions, ggml takes 1 to %d", t.Name, len(t.Shape), maxDims)
	}
	elements := int64(1)
	for _, ne := range t.Shape {
		if ne < 0 || ne > 0 && elements > math.MaxInt64/ne {
			return 0, formatErr("tensor %q: shape %v has more elements than can be counted", t.Name, t.Shape)
		}
		elements *= ne
	}
	if _, err := t.Type.RowBytes(t.Shape[0]); err != nil {
		return 0, inTensor(t.Name, err)
	}
	n, err := t.Type.RowBytes(elements)
	return n, inTensor(t.Name, err)
}

// inTensor puts the tensor's name before the message of an error of RowBytes.
func inTensor(name string, err error) error {
	switch e := err.(type) {
	case *FormatError:
		e.Msg = fmt.Sprintf("tensor %q: %s", name, e.Msg)
	case *UnsupportedError:
		e.Msg = fmt.Sprintf("tensor %q: %s", name, e.Msg)
	}
	return err
}
