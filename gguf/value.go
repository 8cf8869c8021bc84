package gguf

import "fmt"

// Kind is the type of a metadata value, by its id in GGUF files.
type Kind uint32

// The kinds of values. KindArray is an array of any kind, arrays included.
const (
	KindUint8 Kind = iota
	KindInt8
	KindUint16
	KindInt16
	KindUint32
	KindInt32
	KindFloat32
	KindBool
	KindString
	KindArray
	KindUint64
	KindInt64
	KindFloat64
)

// kindTable holds for each kind its name and the fewest bytes one value takes in a
// file: a string has an 8-byte length, an array a 4-byte kind and an 8-byte count.
var kindTable = [...]struct {
	name  string
	bytes int64
}{
	KindUint8: {"uint8", 1}, KindInt8: {"int8", 1}, KindUint16: {"uint16", 2}, KindInt16: {"int16", 2},
	KindUint32: {"uint32", 4}, KindInt32: {"int32", 4}, KindFloat32: {"float32", 4}, KindBool: {"bool", 1},
	KindString: {"string", 8}, KindArray: {"array", 12},
	KindUint64: {"uint64", 8}, KindInt64: {"int64", 8}, KindFloat64: {"float64", 8},
}

func (k Kind) known() bool { return int64(k) < int64(len(kindTable)) }

// String returns the kind's Go name, such as "uint32", "string" or "array".
func (k Kind) String() string {
	if k.known() {
		return kindTable[k].name
	}
	return fmt.Sprintf("kind(%d)", uint32(k))
}

// Value is a metadata value: a uint8, int8, uint16, int16, uint32, int32, uint64,
// int64, float32, float64, bool, string or [Array].
type Value = any

// KV is a key and its value.
type KV struct {
	Key   string
	Value Value
}

// element are the Go types that an array can hold.
type element interface {
	uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64 | int64 | float32 | float64 | bool | string | Array
}

// Array is an array of values of one kind. The zero Array is an empty array of uint8.
type Array struct {
	values any // a slice of one of the types of element, never nil inside but for the zero Array
}

// ArrayOf returns an array over values, which it keeps and which must not change.
func ArrayOf[T element](values ...T) Array {
	if values == nil {
		values = []T{}
	}
	return Array{values}
}

// Values returns the elements as a Go slice of their own type: []uint8, []int8, …,
// []string, or []Array for an array of arrays. It must not be changed.
func (a Array) Values() any {
	if a.values == nil {
		return []uint8{}
	}
	return a.values
}

// Kind returns the kind of the elements.
func (a Array) Kind() Kind {
	kind, _ := sliceOf(a.Values())
	return kind
}

// Len returns the number of elements.
func (a Array) Len() int {
	_, n := sliceOf(a.Values())
	return n
}

// String returns a value for people to read: of an array the kind and the count, no
// elements.
func (a Array) String() string { return fmt.Sprintf("[%d]%s", a.Len(), a.Kind()) }

// noKind is what sliceOf and KindOf say of a Go value that GGUF cannot hold.
const noKind = Kind(len(kindTable))

// KindOf returns the kind of a value, and false if GGUF has none for its Go type.
// Note that int and uint have none: a file must say how many bits it keeps.
func KindOf(v Value) (Kind, bool) {
	kind := noKind
	switch v.(type) {
	case uint8:
		kind = KindUint8
	case int8:
		kind = KindInt8
	case uint16:
		kind = KindUint16
	case int16:
		kind = KindInt16
	case uint32:
		kind = KindUint32
	case int32:
		kind = KindInt32
	case uint64:
		kind = KindUint64
	case int64:
		kind = KindInt64
	case float32:
		kind = KindFloat32
	case float64:
		kind = KindFloat64
	case bool:
		kind = KindBool
	case string:
		kind = KindString
	case Array:
		kind = KindArray
	}
	return kind, kind != noKind
}

// sliceOf returns the kind and the number of the elements of a slice.
func sliceOf(v any) (Kind, int) {
	switch s := v.(type) {
	case []uint8:
		return KindUint8, len(s)
	case []int8:
		return KindInt8, len(s)
	case []uint16:
		return KindUint16, len(s)
	case []int16:
		return KindInt16, len(s)
	case []uint32:
		return KindUint32, len(s)
	case []int32:
		return KindInt32, len(s)
	case []uint64:
		return KindUint64, len(s)
	case []int64:
		return KindInt64, len(s)
	case []float32:
		return KindFloat32, len(s)
	case []float64:
		return KindFloat64, len(s)
	case []bool:
		return KindBool, len(s)
	case []string:
		return KindString, len(s)
	case []Array:
		return KindArray, len(s)
	}
	return noKind, 0
}

// asUint returns the value of a whole number of any width that is not negative.
func asUint(v Value) (uint64, bool) {
	if n, ok := v.(uint64); ok {
		return n, true
	}
	n, ok := asInt(v)
	return uint64(n), ok && n >= 0
}

// asInt returns the value of a whole number of any width that an int64 can hold.
func asInt(v Value) (int64, bool) {
	switch n := v.(type) {
	case uint8:
		return int64(n), true
	case int8:
		return int64(n), true
	case uint16:
		return int64(n), true
	case int16:
		return int64(n), true
	case uint32:
		return int64(n), true
	case int32:
		return int64(n), true
	case uint64:
		return int64(n), int64(n) >= 0
	case int64:
		return n, true
	}
	return 0, false
}

// asInts widens an array of whole numbers of any width.
func asInts(a Array) ([]int64, bool) {
	switch s := a.Values().(type) {
	case []uint8:
		return widen(s), true
	case []int8:
		return widen(s), true
	case []uint16:
		return widen(s), true
	case []int16:
		return widen(s), true
	case []uint32:
		return widen(s), true
	case []int32:
		return widen(s), true
	case []int64:
		return widen(s), true
	case []uint64:
		for _, n := range s {
			if int64(n) < 0 {
				return nil, false
			}
		}
		return widen(s), true
	}
	return nil, false
}

func widen[T uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64 | int64](s []T) []int64 {
	wide := make([]int64, len(s))
	for i, n := range s {
		wide[i] = int64(n)
	}
	return wide
}
