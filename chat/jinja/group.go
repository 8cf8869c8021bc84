package jinja

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// batch cuts a list into lists of n; the last is filled up where a fill is given.
func batch(st *state, v any, a args) (any, error) {
	l, n, err := st.listAndCount(v, a, "linecount")
	if err != nil {
		return nil, err
	}
	fill := a.get(1, "fill_with", nil)
	out := []any{}
	for part := range slices.Chunk(l, n) {
		part = slices.Clone(part)
		if fill != nil && len(part) < n {
			if err := st.spend(itemCost * int64(n-len(part))); err != nil {
				return nil, err
			}
			for len(part) < n {
				part = append(part, fill)
			}
		}
		out = append(out, part)
	}
	return out, nil
}

// slice deals a list into n lists, the first ones longer; with a fill all are as long.
func slice(st *state, v any, a args) (any, error) {
	l, n, err := st.listAndCount(v, a, "slices")
	if err != nil {
		return nil, err
	}
	if err := st.spend(itemCost * int64(n)); err != nil {
		return nil, err
	}
	fill := a.get(1, "fill_with", nil)
	out := make([]any, n)
	each, more, at := len(l)/n, len(l)%n, 0
	for i := range out {
		to := at + each
		if i < more {
			to++
		}
		part := slices.Clone(l[at:to])
		if part == nil {
			part = []any{}
		}
		if fill != nil && i >= more && more > 0 {
			part = append(part, fill)
		}
		out[i], at = part, to
	}
	return out, nil
}

func (st *state) listAndCount(v any, a args, name string) ([]any, int, error) {
	l, err := st.iterate(v)
	if err != nil {
		return nil, 0, err
	}
	n, err := a.int(0, name, 0)
	if err != nil {
		return nil, 0, err
	}
	if n < 1 {
		return nil, 0, errorf("argument %q is %d, want 1 or more", name, n)
	}
	return l, int(min(n, maxWork)), st.spend(itemCost * int64(len(l)))
}

// groupby gathers the elements by an attribute: a list of (grouper, list), ordered by the grouper.
func groupby(st *state, v any, a args) (any, error) {
	l, err := st.iterate(v)
	if err != nil {
		return nil, err
	}
	attr := a.get(0, "attribute", nil)
	sensitive := truth(a.get(2, "case_sensitive", false))
	sorted, err := st.sorted(l, attr, sensitive, false)
	if err != nil {
		return nil, err
	}
	keys, err := st.pluck(sorted.([]any), attr, a.get(1, "default", nil))
	if err != nil {
		return nil, err
	}
	out := []any{}
	var group []any
	for i, x := range sorted.([]any) {
		group = append(group, x)
		if i+1 < len(keys) {
			same, err := st.equal(folded(keys[i], sensitive), folded(keys[i+1], sensitive))
			if err != nil {
				return nil, err
			}
			if same {
				continue
			}
		}
		pair := new(Dict) // a tuple whose two parts have names too
		pair.Set("grouper", keys[i-len(group)+1])
		pair.Set("list", group)
		out, group = append(out, &named{tuple{keys[i-len(group)+1], group}, pair}), nil
	}
	return out, nil
}

// named is a tuple whose parts have names.
type named struct {
	tuple
	names *Dict
}

func folded(v any, sensitive bool) any {
	if s, ok := v.(string); ok && !sensitive {
		return strings.ToLower(s)
	}
	return v
}

// attrFilter is x|attr("name").
func attrFilter(_ *state, v any, a args) (any, error) {
	name, err := a.str(0, "name", "")
	if err != nil {
		return nil, err
	}
	if _, isDict := v.(*Dict); isDict {
		return undefined{name}, nil // of Python's objects, not the elements of a dict
	}
	return attribute(v, name)
}

func formatFilter(st *state, v any, a args) (any, error) {
	s, err := st.text(v)
	if err != nil {
		return nil, err
	}
	if len(a.named) > 0 && len(a.positional) > 0 {
		return nil, errorf("format takes values or named values, not both")
	}
	if len(a.named) > 0 {
		d := new(Dict)
		for _, name := range sortedKeys(a.named) {
			d.Set(name, a.named[name])
		}
		return st.percent(s, d)
	}
	return st.percent(s, tuple(a.positional))
}

// center puts blanks on both sides.
func center(st *state, v any, a args) (any, error) {
	s, err := st.text(v)
	if err != nil {
		return nil, err
	}
	width, err := a.int(0, "width", 80)
	if err != nil {
		return nil, err
	}
	return centered(st, s, width, ' ')
}

// centered is Python's str.center: of an odd number of blanks the left gets the larger part where the width is odd.
func centered(st *state, s string, width int64, fill rune) (any, error) {
	n := int64(utf8.RuneCountInString(s))
	if width <= n {
		return s, nil
	}
	if err := st.spend(width * int64(utf8.RuneLen(fill))); err != nil {
		return nil, err
	}
	left := (width-n)/2 + (width-n)&width&1
	return strings.Repeat(string(fill), int(left)) + s + strings.Repeat(string(fill), int(width-n-left)), nil
}

// truncate cuts at a word's end, or inside of a word with killwords, and puts an ellipsis behind; a few characters more than
// the length (leeway) are let through.
func truncate(st *state, v any, a args) (any, error) {
	s, err := st.text(v)
	if err != nil {
		return nil, err
	}
	length, err := a.int(0, "length", 255)
	if err != nil {
		return nil, err
	}
	end, err := a.str(2, "end", "...")
	if err != nil {
		return nil, err
	}
	leeway := a.get(3, "leeway", nil)
	more, ok := integer(leeway)
	if leeway == nil {
		more, ok = 5, true
	}
	if !ok {
		return nil, errorf("argument %q is %s, want int", "leeway", typeName(leeway))
	}
	runes := []rune(s)
	if err := st.spend(4 * int64(len(runes))); err != nil {
		return nil, err
	}
	tail := int64(utf8.RuneCountInString(end))
	switch n := int64(len(runes)); {
	case length < tail:
		return nil, errorf("length %d is shorter than the end %s", length, quote(end))
	case n <= length+more:
		return s, nil
	}
	cut := string(runes[:length-tail])
	if !truth(a.get(1, "killwords", false)) {
		if i := strings.LastIndexByte(cut, ' '); i >= 0 {
			cut = cut[:i]
		}
	}
	return cut + end, nil
}

// wordcount counts runs of letters, digits and underscores.
func wordcount(st *state, v any, _ args) (any, error) {
	s, err := st.text(v)
	if err != nil {
		return nil, err
	}
	words := strings.FieldsFunc(s, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return int64(len(words)), st.spend(int64(len(s)) + itemCost*int64(len(words)))
}

// urlencode escapes all but letters, digits, and "-_.~/".
func urlencode(st *state, v any, _ args) (any, error) {
	s, err := st.text(v)
	if err != nil {
		return nil, err
	}
	if err := st.spend(3 * int64(len(s))); err != nil {
		return nil, err
	}
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String(), nil
}
