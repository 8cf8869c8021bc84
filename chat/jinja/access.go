package jinja

import "strconv"

// attribute returns x.name where no method of that name is called.
func attribute(v any, name string) (any, error) {
	switch v := v.(type) {
	case *Dict:
		if x, ok := v.Get(name); ok {
			return x, nil
		}
	case *namespace:
		if x, ok := v.Get(name); ok {
			return x, nil
		}
	case *loop:
		return v.attribute(name)
	case *named:
		if x, ok := v.names.Get(name); ok {
			return x, nil
		}
	case *macro:
		return v.attribute(name), nil
	case *cycler:
		if name == "current" {
			return v.items[v.at], nil
		}
	case undefined:
		return nil, errorf("%q of %q, which is undefined", name, v.name)
	}
	return undefined{name}, nil
}

func (l *loop) attribute(name string) (any, error) {
	n := len(l.items)
	switch name {
	case "index":
		return int64(l.i + 1), nil
	case "index0":
		return int64(l.i), nil
	case "revindex":
		return int64(n - l.i), nil
	case "revindex0":
		return int64(n - l.i - 1), nil
	case "first":
		return l.i == 0, nil
	case "last":
		return l.i == n-1, nil
	case "length":
		return int64(n), nil
	case "depth": // counts recursion only
		return int64(l.depth + 1), nil
	case "depth0":
		return int64(l.depth), nil
	case "previtem":
		if l.i > 0 {
			return l.items[l.i-1], nil
		}
	case "nextitem":
		if l.i+1 < n {
			return l.items[l.i+1], nil
		}
	}
	return undefined{"loop." + name}, nil
}

func (x *attrExpr) eval(st *state) (any, error) {
	v, err := st.eval(x.x)
	if err != nil {
		return nil, err
	}
	return attribute(v, x.name)
}

func (x *indexExpr) eval(st *state) (any, error) {
	v, err := st.eval(x.x)
	if err != nil {
		return nil, err
	}
	i, err := st.eval(x.i)
	if err != nil {
		return nil, err
	}
	return st.element(v, i)
}

// element returns v[i]. What is not there is undefined.
func (st *state) element(v, i any) (any, error) {
	if name, ok := i.(string); ok {
		return attribute(v, name)
	}
	if u, ok := v.(undefined); ok {
		return nil, errorf("element of %q, which is undefined", u.name)
	}
	if d, ok := v.(*Dict); ok {
		if x, ok := d.Get(i); ok {
			return x, nil
		}
		return undefined{"the element"}, nil
	}
	n, ok := i.(int64)
	if !ok {
		return undefined{"the element"}, nil
	}
	items, err := st.sequence(v)
	if err != nil {
		return undefined{"the element"}, nil
	}
	at := n
	if n < 0 {
		n += int64(len(items))
	}
	if n < 0 || n >= int64(len(items)) {
		return undefined{"element " + strconv.FormatInt(at, 10)}, nil
	}
	return items[n], nil
}

// sequence returns the elements of a list or the characters of a string.
func (st *state) sequence(v any) ([]any, error) {
	switch v.(type) {
	case []any, tuple, *named, string:
		return st.iterate(v)
	}
	return nil, errorf("%s has no elements by number%s", typeName(v), missing(v))
}

func (x *sliceExpr) eval(st *state) (any, error) {
	v, err := st.eval(x.x)
	if err != nil {
		return nil, err
	}
	items, err := st.sequence(v)
	if err != nil {
		return nil, err
	}
	var at [3]*int64
	for i, b := range x.bounds {
		if b == nil {
			continue
		}
		bound, err := st.eval(b)
		if err != nil {
			return nil, err
		}
		if bound == nil {
			continue
		}
		n, ok := integer(bound)
		if !ok {
			return nil, errorf("slice bound is %s, want int%s", typeName(bound), missing(bound))
		}
		at[i] = &n
	}
	if at[2] != nil && *at[2] == 0 {
		return nil, errorf("slice step is 0")
	}
	if err := st.spend(itemCost * int64(len(items))); err != nil {
		return nil, err
	}
	return likeThe(v, cut(items, at)), nil
}

// cut follows Python's slices: negative bounds count from the end, bounds past an end stop at it.
func cut(items []any, at [3]*int64) []any {
	n, step := int64(len(items)), int64(1)
	if at[2] != nil {
		step = *at[2]
	}
	low, high := int64(0), n
	if step < 0 {
		low, high = -1, n-1
	}
	bound := func(b *int64, def int64) int64 {
		if b == nil {
			return def
		}
		i := *b
		if i < 0 {
			i += n
		}
		return min(max(i, low), high)
	}
	var out []any
	if step > 0 {
		from, to := bound(at[0], low), bound(at[1], high)
		for i := from; i < to; i += min(step, n) {
			out = append(out, items[i])
		}
		return out
	}
	from, to := bound(at[0], high), bound(at[1], low)
	for i := from; i > to; i += max(step, -n-1) {
		out = append(out, items[i])
	}
	return out
}

// likeThe gives the elements the type of the value they came from.
func likeThe(v any, items []any) any {
	switch v.(type) {
	case string:
		b := make([]byte, 0, len(items))
		for _, x := range items {
			b = append(b, x.(string)...)
		}
		return string(b)
	case tuple:
		return tuple(items)
	}
	if items == nil {
		items = []any{}
	}
	return items
}
