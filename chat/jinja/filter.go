package jinja

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

type filterFunc func(st *state, v any, a args) (any, error)

// filters are Jinja's built-in filters that chat templates use.
var filters map[string]filterFunc

func init() { // map, select and their kin look filters and tests up by name
	filters = map[string]filterFunc{
		"abs": absFilter, "attr": attrFilter, "batch": batch, "capitalize": onText(capitalize), "center": center, "count": lengthFilter,
		"d": defaultFilter, "default": defaultFilter, "dictsort": dictsort,
		"e": escape, "escape": escape, "first": first, "float": floatFilter, "forceescape": escape,
		"format": formatFilter, "from_json": fromJSON, "fromjson": fromJSON, "groupby": groupby, "indent": indent, "int": intFilter, "items": items, "join": joinFilter, "last": last,
		"length": lengthFilter, "list": listFilter, "lower": onText(strings.ToLower),
		"map": mapFilter, "max": extreme(1), "min": extreme(-1),
		"reject": selecting(false, false), "rejectattr": selecting(true, false),
		"replace": replaceFilter, "reverse": reverse, "round": round, "safe": onText(same),
		"select": selecting(false, true), "selectattr": selecting(true, true), "slice": slice,
		"sort": sortFilter, "string": onText(same), "sum": sum, "title": onText(titleFilter),
		"tojson": tojson, "trim": trim, "truncate": truncate, "unique": unique, "upper": onText(strings.ToUpper),
		"urlencode": urlencode, "wordcount": wordcount,
	}
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

func same(s string) string { return s }

// onText makes a filter of a function over the printed value. The result is paid for
// at four bytes a byte: changing case may lengthen a letter.
func onText(f func(string) string) filterFunc {
	return func(st *state, v any, _ args) (any, error) {
		s, err := st.text(v)
		if err != nil {
			return nil, err
		}
		return f(s), st.spend(4 * int64(len(s)))
	}
}

func capitalize(s string) string {
	for i := range s {
		if i > 0 {
			return strings.ToUpper(s[:i]) + strings.ToLower(s[i:])
		}
	}
	return strings.ToUpper(s)
}

// titleFilter starts every word with a capital; a word begins behind white space or an opening bracket or dash.
func titleFilter(s string) string {
	return titled(s, func(prev rune) bool { return unicode.IsSpace(prev) || strings.ContainsRune("-({[<", prev) })
}

// titleMethod returns Python's str.title, where a word begins behind anything that is no letter.
func titleMethod(s string) string {
	return titled(s, func(prev rune) bool { return !unicode.IsLetter(prev) })
}

func titled(s string, begins func(prev rune) bool) string {
	prev := ' '
	return strings.Map(func(r rune) rune {
		start := begins(prev)
		prev = r
		if start {
			return unicode.ToTitle(r)
		}
		return unicode.ToLower(r)
	}, s)
}

func trim(st *state, v any, a args) (any, error) {
	s, err := st.text(v)
	if err != nil {
		return nil, err
	}
	return strip(st, s, a)
}

func absFilter(_ *state, v any, _ args) (any, error) {
	if i, ok := integer(v); ok {
		return max(i, -i), nil
	}
	f, ok := number(v)
	if !ok {
		return nil, errorf("%s is not a number", typeName(v))
	}
	return math.Abs(f), nil
}

func lengthFilter(st *state, v any, _ args) (any, error) {
	if s, ok := v.(string); ok {
		if err := st.spend(int64(len(s))); err != nil {
			return nil, err
		}
	}
	return length(v)
}

func defaultFilter(_ *state, v any, a args) (any, error) {
	_, undef := v.(undefined)
	if undef || truth(a.get(1, "boolean", false)) && !truth(v) {
		return a.get(0, "default_value", ""), nil
	}
	return v, nil
}

func escape(st *state, v any, _ args) (any, error) {
	s, err := st.text(v)
	if err != nil {
		return nil, err
	}
	if err := st.spend(5 * int64(len(s))); err != nil {
		return nil, err
	}
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;").Replace(s), nil
}

func first(st *state, v any, _ args) (any, error) {
	l, err := st.iterate(v)
	if err != nil || len(l) == 0 {
		return undefined{"the first element"}, err
	}
	return l[0], nil
}

func last(st *state, v any, _ args) (any, error) {
	l, err := st.iterate(v)
	if err != nil || len(l) == 0 {
		return undefined{"the last element"}, err
	}
	return l[len(l)-1], nil
}

func intFilter(_ *state, v any, a args) (any, error) {
	def, err := a.int(0, "default", 0)
	if err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok {
		s = strings.TrimSpace(s)
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return i, nil
		}
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return def, nil
		}
		v = f
	}
	if i, ok := integer(v); ok {
		return i, nil
	}
	f, ok := v.(float64)
	if !ok || math.IsNaN(f) || math.Abs(f) >= 1<<63 {
		return def, nil
	}
	return int64(f), nil
}

func floatFilter(_ *state, v any, a args) (any, error) {
	if s, ok := v.(string); ok {
		if f, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil {
			return f, nil
		}
	}
	if f, ok := number(v); ok {
		return f, nil
	}
	return a.get(0, "default", 0.0), nil
}

// round rounds as Jinja does: "common" rounds a half to the even neighbour, as Python does.
func round(_ *state, v any, a args) (any, error) {
	f, ok := number(v)
	if !ok {
		return nil, errorf("%s is not a number", typeName(v))
	}
	digits, err := a.int(0, "precision", 0)
	if err != nil {
		return nil, err
	}
	method, err := a.str(1, "method", "common")
	if err != nil {
		return nil, err
	}
	how, ok := map[string]func(float64) float64{"common": math.RoundToEven, "ceil": math.Ceil, "floor": math.Floor}[method]
	if !ok {
		return nil, errorf("method %q, want common, ceil or floor", method)
	}
	scale := math.Pow(10, float64(digits))
	return how(f*scale) / scale, nil
}

// indent moves every line but the first to the right; blank lines only when asked.
func indent(st *state, v any, a args) (any, error) {
	s, err := st.text(v)
	if err != nil {
		return nil, err
	}
	pad, ok := a.get(0, "width", int64(4)).(string)
	if !ok {
		width, err := a.int(0, "width", 4)
		if err != nil {
			return nil, err
		}
		p, err := st.repeat(" ", width)
		if err != nil {
			return nil, err
		}
		pad = p.(string)
	}
	lines := strings.Split(s, "\n")
	if err := st.spend(int64(len(lines)) * int64(len(pad)+itemCost)); err != nil {
		return nil, err
	}
	blank := truth(a.get(2, "blank", false))
	for i, line := range lines {
		if i > 0 && (blank || line != "") || i == 0 && truth(a.get(1, "first", false)) {
			lines[i] = pad + line
		}
	}
	return strings.Join(lines, "\n"), st.spend(int64(len(s)))
}

func joinFilter(st *state, v any, a args) (any, error) {
	sep, err := a.str(0, "d", "")
	if err != nil {
		return nil, err
	}
	l, err := st.iterate(v)
	if err != nil {
		return nil, err
	}
	if attr := a.get(1, "attribute", nil); attr != nil {
		if l, err = st.pluck(l, attr, nil); err != nil {
			return nil, err
		}
	}
	return st.joinTexts(l, sep)
}

func (st *state) joinTexts(l []any, sep string) (any, error) {
	var b strings.Builder
	for i, x := range l {
		s, err := st.text(x)
		if err != nil {
			return nil, err
		}
		if err := st.spend(int64(len(s)) + int64(len(sep))); err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

func listFilter(st *state, v any, _ args) (any, error) {
	l, err := st.iterate(v)
	if err != nil {
		return nil, err
	}
	if err := st.spend(itemCost * int64(len(l))); err != nil {
		return nil, err
	}
	return append([]any{}, l...), nil
}

func reverse(st *state, v any, a args) (any, error) {
	l, err := listFilter(st, v, a)
	if err != nil {
		return nil, err
	}
	slices.Reverse(l.([]any))
	if _, ok := v.(string); ok {
		return likeThe(v, l.([]any)), nil
	}
	return l, nil
}

func replaceFilter(st *state, v any, a args) (any, error) {
	s, err := st.text(v)
	if err != nil {
		return nil, err
	}
	return replace(st, s, a)
}

// path reads an attribute such as "function.name" or a number.
func (st *state) path(v, attr any) (any, error) {
	s, ok := attr.(string)
	if !ok {
		return st.element(v, attr)
	}
	for part := range strings.SplitSeq(s, ".") {
		var err error
		var key any = part
		if i, e := strconv.ParseInt(part, 10, 64); e == nil {
			key = i
		}
		if v, err = st.element(v, key); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// pluck returns the attribute of every element.
func (st *state) pluck(l []any, attr, def any) ([]any, error) {
	out := make([]any, 0, len(l))
	for _, x := range l {
		if err := st.spend(2 * itemCost); err != nil {
			return nil, err
		}
		v, err := st.path(x, attr)
		if err != nil {
			return nil, err
		}
		if _, undef := v.(undefined); undef && def != nil {
			v = def
		}
		out = append(out, v)
	}
	return out, nil
}

func mapFilter(st *state, v any, a args) (any, error) {
	l, err := st.iterate(v)
	if err != nil {
		return nil, err
	}
	if attr, ok := a.named["attribute"]; ok {
		return anyList(st.pluck(l, attr, a.named["default"]))
	}
	name, err := a.str(0, "filter", "")
	if err != nil {
		return nil, err
	}
	f, ok := filters[name]
	if !ok {
		return nil, unsupported("filter %q", name)
	}
	out := make([]any, 0, len(l))
	for _, x := range l {
		if err := st.enter(); err != nil {
			return nil, err
		}
		y, err := f(st, x, args{a.positional[1:], a.named})
		st.leave()
		if err != nil {
			return nil, err
		}
		out = append(out, y)
	}
	return out, nil
}

func anyList(l []any, err error) (any, error) { return l, err }

// selecting makes select, reject, selectattr and rejectattr: keep the elements whose value,
// or attribute, passes a test, or is true when none is named.
func selecting(byAttr, want bool) filterFunc {
	return func(st *state, v any, a args) (any, error) {
		l, err := st.iterate(v)
		if err != nil {
			return nil, err
		}
		rest := a.positional
		var attr any
		if byAttr {
			if len(rest) == 0 {
				return nil, errorf("want the name of an attribute")
			}
			attr, rest = rest[0], rest[1:]
		}
		test, rest, err := testArgument(rest)
		if err != nil {
			return nil, err
		}
		kept := []any{}
		for _, x := range l {
			if err := st.spend(2 * itemCost); err != nil {
				return nil, err
			}
			y := x
			if byAttr {
				if y, err = st.path(x, attr); err != nil {
					return nil, err
				}
			}
			ok, err := test(st, y, args{positional: rest})
			if err != nil {
				return nil, err
			}
			if ok == want {
				kept = append(kept, x)
			}
		}
		return kept, nil
	}
}

func testArgument(a []any) (testFunc, []any, error) {
	if len(a) == 0 {
		return func(_ *state, v any, _ args) (bool, error) { return truth(v), nil }, nil, nil
	}
	name, _ := a[0].(string)
	test, ok := tests[name]
	if !ok {
		return nil, nil, unsupported("test %q", name)
	}
	return test, a[1:], nil
}

func items(st *state, v any, _ args) (any, error) {
	d, ok := v.(*Dict)
	if !ok {
		if _, undef := v.(undefined); undef {
			return []any{}, nil
		}
		return nil, errorf("%s is not a dict", typeName(v))
	}
	return st.pairs(d)
}

func (st *state) pairs(d *Dict) (any, error) {
	if err := st.spend(4 * itemCost * int64(len(d.keys))); err != nil {
		return nil, err
	}
	out := make([]any, len(d.keys))
	for i, k := range d.keys {
		out[i] = tuple{k, d.values[k]}
	}
	return out, nil
}

func dictsort(st *state, v any, a args) (any, error) {
	pairs, err := items(st, v, a)
	if err != nil {
		return nil, err
	}
	by, err := a.str(1, "by", "key")
	if err != nil {
		return nil, err
	}
	at := map[string]int64{"key": 0, "value": 1}[by]
	return st.sorted(pairs.([]any), at, truth(a.get(0, "case_sensitive", false)), truth(a.get(2, "reverse", false)))
}

func sortFilter(st *state, v any, a args) (any, error) {
	l, err := st.iterate(v)
	if err != nil {
		return nil, err
	}
	return st.sorted(l, a.get(2, "attribute", nil), truth(a.get(1, "case_sensitive", false)), truth(a.get(0, "reverse", false)))
}

// sorted orders a copy of l by the attribute of its elements, or by themselves.
func (st *state) sorted(l []any, attr any, caseSensitive, descending bool) (any, error) {
	keys := l
	if attr != nil {
		var err error
		if keys, err = st.pluck(l, attr, nil); err != nil {
			return nil, err
		}
	}
	if err := st.spend(4 * itemCost * int64(len(l))); err != nil {
		return nil, err
	}
	keys = slices.Clone(keys)
	for i, k := range keys {
		if s, ok := k.(string); ok && !caseSensitive {
			keys[i] = strings.ToLower(s)
			if err := st.spend(int64(len(s))); err != nil {
				return nil, err
			}
		}
	}
	index := make([]int, len(l))
	for i := range index {
		index[i] = i
	}
	var failed error
	slices.SortStableFunc(index, func(i, j int) int {
		if failed != nil {
			return 0
		}
		c, err := st.order(keys[i], keys[j])
		if failed = err; failed == nil {
			failed = st.spend(stepCost)
		}
		if descending {
			return -c
		}
		return c
	})
	out := make([]any, len(l))
	for i, j := range index {
		out[i] = l[j]
	}
	return out, failed
}

func unique(st *state, v any, a args) (any, error) {
	l, err := st.iterate(v)
	if err != nil {
		return nil, err
	}
	keys := l
	if attr := a.get(1, "attribute", nil); attr != nil {
		if keys, err = st.pluck(l, attr, nil); err != nil {
			return nil, err
		}
	}
	var seen, out []any
	for i, k := range keys {
		if s, ok := k.(string); ok && !truth(a.get(0, "case_sensitive", false)) {
			k = strings.ToLower(s)
		}
		in, err := st.contains(seen, k)
		if err != nil {
			return nil, err
		}
		if !in {
			seen, out = append(seen, k), append(out, l[i])
		}
	}
	return out, nil
}

// extreme makes min (sign -1) and max (sign 1).
func extreme(sign int) filterFunc {
	return func(st *state, v any, a args) (any, error) {
		l, err := st.sorted2(v, a)
		if err != nil || len(l) == 0 {
			return undefined{"the extreme of nothing"}, err
		}
		if sign < 0 {
			return l[0], nil
		}
		return l[len(l)-1], nil
	}
}

func (st *state) sorted2(v any, a args) ([]any, error) {
	l, err := st.iterate(v)
	if err != nil {
		return nil, err
	}
	s, err := st.sorted(l, a.get(1, "attribute", nil), truth(a.get(0, "case_sensitive", false)), false)
	if err != nil {
		return nil, err
	}
	return s.([]any), nil
}

func sum(st *state, v any, a args) (any, error) {
	l, err := st.iterate(v)
	if err != nil {
		return nil, err
	}
	if attr := a.get(0, "attribute", nil); attr != nil {
		if l, err = st.pluck(l, attr, nil); err != nil {
			return nil, err
		}
	}
	total := a.get(1, "start", int64(0))
	for _, x := range l {
		if total, err = st.binary("+", total, x); err != nil {
			return nil, err
		}
	}
	return total, st.spend(stepCost * int64(len(l)))
}
