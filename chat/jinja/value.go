package jinja

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Values are nil (None), bool, int64, float64, string, []any (list), tuple, *Dict,
// undefined, *namespace, *loop, Func and macro. None of them is changed after it was
// made, except a namespace by "set ns.x" and the loop by its for.

// Func is a function that a template may call. Keyword arguments are refused.
type Func func(args []any) (any, error)

type tuple []any

// undefined is a name or an element that is not there: it prints as nothing and is
// false, and an operation on it is an error that tells its name.
type undefined struct{ name string }

// Dict is a mapping that keeps its keys in the order they were set.
// The zero value is an empty Dict.
type Dict struct {
	keys   []any
	values map[any]any
}

// Set adds or replaces an entry. The key is a string, int64, float64, bool or nil.
func (d *Dict) Set(key, value any) {
	if d.values == nil {
		d.values = map[any]any{}
	}
	if _, ok := d.values[key]; !ok {
		d.keys = append(d.keys, key)
	}
	d.values[key] = normal(value)
}

// Get returns the entry of a key.
func (d *Dict) Get(key any) (any, bool) {
	if !hashable(key) {
		return nil, false
	}
	v, ok := d.values[key]
	return v, ok
}

// Keys returns the keys in order. The caller must not change the slice.
func (d *Dict) Keys() []any { return d.keys }

type namespace struct{ Dict }

// loop is the variable of that name inside a for.
type loop struct {
	items []any
	i     int
	last  any // what loop.changed saw
	seen  bool

	depth int      // of recursion, from 0
	again *forNode // what loop(items) renders, if the loop is recursive
	scope *scope   // where the loop stands
}

func hashable(v any) bool {
	switch v.(type) {
	case nil, bool, int64, float64, string:
		return true
	}
	return false
}

// normal maps the Go values callers pass to the ones the package computes with.
func normal(v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case func(args []any) (any, error):
		return Func(v)
	}
	return v
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "none"
	case bool:
		return "bool"
	case int64:
		return "int"
	case float64:
		return "float"
	case string:
		return "string"
	case []any:
		return "list"
	case tuple:
		return "tuple"
	case *Dict:
		return "dict"
	case undefined:
		return "undefined"
	case *namespace:
		return "namespace"
	case *loop:
		return "loop"
	case *named:
		return "tuple"
	}
	return "function"
}

func truth(v any) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case tuple:
		return len(v) > 0
	case *Dict:
		return len(v.keys) > 0
	}
	return true
}

// list returns the elements of a list or tuple.
func list(v any) ([]any, bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case tuple:
		return v, true
	case *named:
		return v.tuple, true
	}
	return nil, false
}

// number returns v as a float64; a bool counts as 0 or 1, as in Python.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case int64:
		return v, true
	}
	return 0, false
}

// iterate returns what a for loop over v visits.
func (st *state) iterate(v any) ([]any, error) {
	if l, ok := list(v); ok {
		return l, nil
	}
	switch v := v.(type) {
	case undefined:
		return nil, nil
	case nil:
		if st.loose {
			return nil, nil
		}
	case *Dict:
		return v.keys, nil
	case string:
		if err := st.spend(int64(len(v)) * itemCost); err != nil {
			return nil, err
		}
		chars := make([]any, 0, len(v))
		for _, r := range v {
			chars = append(chars, string(r))
		}
		return chars, nil
	}
	return nil, errorf("%s cannot be iterated", typeName(v))
}

func length(v any) (int64, error) {
	switch v := v.(type) {
	case *named:
		return int64(len(v.tuple)), nil
	case string:
		return int64(utf8.RuneCountInString(v)), nil
	case []any:
		return int64(len(v)), nil
	case tuple:
		return int64(len(v)), nil
	case *Dict:
		return int64(len(v.keys)), nil
	case undefined:
		return 0, nil
	}
	return 0, errorf("%s has no length", typeName(v))
}

func (st *state) equal(a, b any) (bool, error) {
	if err := st.enter(); err != nil {
		return false, err
	}
	defer st.leave()
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && x == y, nil
	}
	switch a := a.(type) {
	case nil:
		return b == nil, nil
	case string:
		b, ok := b.(string)
		if ok && len(a) == len(b) {
			return a == b, st.spend(int64(len(a)))
		}
		return false, nil
	case []any:
		b, ok := b.([]any)
		if !ok {
			return false, nil
		}
		return st.equalLists(a, b)
	case tuple:
		b, ok := b.(tuple)
		if !ok {
			return false, nil
		}
		return st.equalLists(a, b)
	case *Dict:
		b, ok := b.(*Dict)
		if !ok || len(a.keys) != len(b.keys) {
			return false, nil
		}
		for _, k := range a.keys {
			y, ok := b.values[k]
			if !ok {
				return false, nil
			}
			if same, err := st.equal(a.values[k], y); err != nil || !same {
				return false, err
			}
		}
		return true, nil
	case undefined:
		_, ok := b.(undefined)
		return ok, nil
	case *namespace:
		return any(a) == b, nil
	case *loop:
		return any(a) == b, nil
	}
	return false, nil
}

func (st *state) equalLists(a, b []any) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if same, err := st.equal(a[i], b[i]); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// order compares numbers or strings: negative, 0 or positive.
func (st *state) order(a, b any) (int, error) {
	x, ok := number(a)
	y, ok2 := number(b)
	if ok && ok2 {
		switch {
		case x < y:
			return -1, nil
		case x > y:
			return 1, nil
		}
		return 0, nil
	}
	s, ok := a.(string)
	t, ok2 := b.(string)
	if ok && ok2 {
		return strings.Compare(s, t), st.spend(int64(min(len(s), len(t))))
	}
	return 0, errorf("%s and %s cannot be ordered", typeName(a), typeName(b))
}

// contains returns what "item in v" does.
func (st *state) contains(v, item any) (bool, error) {
	switch v := v.(type) {
	case string:
		s, ok := item.(string)
		if !ok {
			return false, errorf("%s in string: want a string on the left", typeName(item))
		}
		return strings.Contains(v, s), st.spend(int64(len(v)))
	case *Dict:
		_, ok := v.Get(item)
		return ok, nil
	case undefined:
		return false, nil
	}
	l, ok := list(v)
	if !ok {
		return false, errorf("in: %s is not a container", typeName(v))
	}
	for _, x := range l {
		if same, err := st.equal(x, item); err != nil || same {
			return same, err
		}
	}
	return false, nil
}

// text returns what Python's str does: what {{ v }} prints.
func (st *state) text(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, st.spend(int64(len(s)))
	}
	var b strings.Builder
	err := st.repr(&b, v, "")
	return b.String(), err
}

// repr writes Python's repr of v; undefined is empty at the top and "Undefined" inside a list.
func (st *state) repr(b *strings.Builder, v any, undef string) error {
	if err := st.enter(); err != nil {
		return err
	}
	defer st.leave()
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		b.WriteString(map[bool]string{true: "True", false: "False"}[v])
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		b.WriteString(floatText(v))
	case string:
		if err := st.spend(int64(len(v))); err != nil {
			return err
		}
		b.WriteString(quote(v))
	case []any:
		return st.reprItems(b, "[", v, "]")
	case tuple:
		if len(v) == 1 {
			return st.reprItems(b, "(", v, ",)")
		}
		return st.reprItems(b, "(", v, ")")
	case *named:
		return st.repr(b, v.tuple, undef)
	case *Dict:
		b.WriteByte('{')
		for i, k := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := st.repr(b, k, "Undefined"); err != nil {
				return err
			}
			b.WriteString(": ")
			if err := st.repr(b, v.values[k], "Undefined"); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case undefined:
		b.WriteString(undef)
	default:
		fmt.Fprintf(b, "<%s>", typeName(v))
	}
	return nil
}

func (st *state) reprItems(b *strings.Builder, open string, items []any, end string) error {
	b.WriteString(open)
	for i, x := range items {
		if i > 0 {
			b.WriteString(", ")
		}
		if err := st.repr(b, x, "Undefined"); err != nil {
			return err
		}
	}
	b.WriteString(end)
	return nil
}

// quote writes a string as Python's repr does: single quotes unless only they occur inside.
func quote(s string) string {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	var b strings.Builder
	b.WriteByte(q)
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte(q)
	return b.String()
}

// floatText writes a float as Python does: the shortest digits that read back, with a
// point or an exponent.
func floatText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case f != 0 && (math.Abs(f) < 1e-4 || math.Abs(f) >= 1e16):
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
