package inspect

import (
	"math"
	"reflect"
	"strconv"

	"finetune/gguf"
)

// Arrays of more than maxArray elements (vocabularies, merges, scores) are cut
// to their first headArray.
const (
	maxArray  = 16
	headArray = 8
)

// LongArray stands for an array that is too long to show.
type LongArray struct {
	Elements string `json:"elements"` // their kind, such as string
	Count    int    `json:"count"`
	First    []any  `json:"first"`
}

// shorten returns a metadata value in a form that JSON can hold: numbers,
// bools and strings as they are, NaN and infinities as strings, short arrays
// as lists, long ones as a LongArray.
func shorten(v any) any {
	switch v := v.(type) {
	case float32:
		return finite(float64(v), 32, v)
	case float64:
		return finite(v, 64, v)
	case gguf.Array:
		return shortenArray(v)
	}
	return v
}

// finite returns number, or the name of what JSON has no number for.
func finite(v float64, bits int, number any) any {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'g', -1, bits)
	}
	return number
}

// shortenArray keeps all elements, or the first ones and their count.
func shortenArray(a gguf.Array) any {
	n := a.Len()
	if n > maxArray {
		n = headArray
	}
	values := reflect.ValueOf(a.Values())
	list := make([]any, n) // not nil: an empty array is [] in JSON
	for i := range list {
		list[i] = shorten(values.Index(i).Interface())
	}
	if a.Len() > maxArray {
		return LongArray{Elements: a.Kind().String(), Count: a.Len(), First: list}
	}
	return list
}
