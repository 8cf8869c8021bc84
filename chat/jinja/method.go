package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

type methodFunc func(st *state, recv any, a args) (any, error)

// method returns the function behind recv.name(…), nil if there is none.
func method(recv any, name string) methodFunc {
	switch recv := recv.(type) {
	case string:
		if f, ok := stringMethods[name]; ok {
			return func(st *state, _ any, a args) (any, error) {
				if err := st.spend(int64(len(recv))); err != nil {
					return nil, err
				}
				v, err := f(st, recv, a)
				return v, within("string method "+quote(name), err)
			}
		}
	case *Dict:
		return dictMethods[name]
	case []any, tuple, *named:
		return listMethods[name]
	case *cycler:
		return cyclerMethods[name]
	case *loop:
		return loopMethods[name]
	}
	return nil
}

// stringMethods are Python's, over code points, without those that change nothing here.
var stringMethods = map[string]func(st *state, s string, a args) (any, error){
	"strip": strip,
	"lstrip": func(_ *state, s string, a args) (any, error) {
		return stripWith(s, a, strings.TrimLeftFunc)
	},
	"rstrip": func(_ *state, s string, a args) (any, error) {
		return stripWith(s, a, strings.TrimRightFunc)
	},
	"upper":      changed(strings.ToUpper),
	"lower":      changed(strings.ToLower),
	"title":      changed(titleMethod),
	"capitalize": changed(capitalize),
	"startswith": affix(strings.HasPrefix),
	"endswith":   affix(strings.HasSuffix),
	"removeprefix": func(_ *state, s string, a args) (any, error) {
		p, err := a.str(0, "prefix", "")
		return strings.TrimPrefix(s, p), err
	},
	"removesuffix": func(_ *state, s string, a args) (any, error) {
		p, err := a.str(0, "suffix", "")
		return strings.TrimSuffix(s, p), err
	},
	"replace":    replace,
	"split":      func(st *state, s string, a args) (any, error) { return split(st, s, a, false) },
	"rsplit":     func(st *state, s string, a args) (any, error) { return split(st, s, a, true) },
	"splitlines": splitlines,
	"partition":  func(_ *state, s string, a args) (any, error) { return partition(s, a, strings.Index, false) },
	"rpartition": func(_ *state, s string, a args) (any, error) { return partition(s, a, strings.LastIndex, true) },
	"find":       find(strings.Index),
	"rfind":      find(strings.LastIndex),
	"count": func(_ *state, s string, a args) (any, error) {
		sub, err := a.str(0, "sub", "")
		return int64(strings.Count(s, sub)), err
	},
	"join": func(st *state, s string, a args) (any, error) {
		l, err := st.iterate(a.get(0, "iterable", undefined{"the list"}))
		if err != nil {
			return nil, err
		}
		return st.joinTexts(l, s)
	},
	"format":   formatMethod,
	"index":    indexMethod(strings.Index),
	"rindex":   indexMethod(strings.LastIndex),
	"swapcase": changed(swapcase),
	"casefold": changed(func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "ß", "ss") }),
	"center":   padMethod('^'),
	"ljust":    padMethod('<'),
	"rjust":    padMethod('>'),
	"zfill": func(st *state, s string, a args) (any, error) {
		width, err := a.int(0, "width", 0)
		if err != nil {
			return nil, err
		}
		if width > maxWork {
			return nil, st.spend(width)
		}
		sign := ""
		if s != "" && (s[0] == '-' || s[0] == '+') {
			sign, s = s[:1], s[1:]
		}
		return st.padded(sign, s, field{fill: '0', align: '=', width: int(width)})
	},
	"isnumeric": all(unicode.IsNumber),
	"isdecimal": all(unicode.IsDigit),
	"isdigit":   all(unicode.IsDigit),
	"isalpha":   all(unicode.IsLetter),
	"isalnum":   all(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }),
	"isspace":   all(unicode.IsSpace),
	"isupper":   changedNothing(strings.ToUpper, unicode.IsUpper),
	"islower":   changedNothing(strings.ToLower, unicode.IsLower),
}

func swapcase(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsUpper(r) {
			return unicode.ToLower(r)
		}
		return unicode.ToUpper(r)
	}, s)
}

// indexMethod is find, but what is not there is an error.
func indexMethod(index func(s, sub string) int) func(*state, string, args) (any, error) {
	return func(st *state, s string, a args) (any, error) {
		at, err := find(index)(st, s, a)
		if err == nil && at == int64(-1) {
			return nil, errorf("the text is not there")
		}
		return at, err
	}
}

// padMethod makes center, ljust and rjust.
func padMethod(align byte) func(*state, string, args) (any, error) {
	return func(st *state, s string, a args) (any, error) {
		width, err := a.int(0, "width", 0)
		if err != nil {
			return nil, err
		}
		with, err := a.str(1, "fillchar", " ")
		if err != nil {
			return nil, err
		}
		fill := []rune(with)
		switch {
		case len(fill) != 1:
			return nil, errorf("fill is %s, want one character", quote(with))
		case align == '^':
			return centered(st, s, width, fill[0])
		case width > maxWork:
			return nil, st.spend(width)
		}
		return st.padded("", s, field{fill: fill[0], align: align, width: int(max(width, 0))})
	}
}

func strip(_ *state, s string, a args) (any, error) {
	return stripWith(s, a, strings.TrimFunc)
}

func stripWith(s string, a args, with func(string, func(rune) bool) string) (any, error) {
	if a.get(0, "chars", nil) == nil {
		return with(s, unicode.IsSpace), nil
	}
	chars, err := a.str(0, "chars", "")
	if err != nil {
		return nil, err
	}
	set := make(map[rune]bool, len(chars))
	for _, r := range chars {
		set[r] = true
	}
	return with(s, func(r rune) bool { return set[r] }), nil
}

func changed(f func(string) string) func(*state, string, args) (any, error) {
	return func(st *state, s string, _ args) (any, error) { return f(s), st.spend(3 * int64(len(s))) }
}

func changedNothing(f func(string) string, is func(rune) bool) func(*state, string, args) (any, error) {
	return func(_ *state, s string, _ args) (any, error) { return f(s) == s && strings.IndexFunc(s, is) >= 0, nil }
}

func all(is func(rune) bool) func(*state, string, args) (any, error) {
	return func(_ *state, s string, _ args) (any, error) {
		return s != "" && strings.IndexFunc(s, func(r rune) bool { return !is(r) }) < 0, nil
	}
}

// affix makes startswith and endswith, which take a string or a tuple of them.
func affix(has func(s, affix string) bool) func(*state, string, args) (any, error) {
	return func(st *state, s string, a args) (any, error) {
		want := a.get(0, "prefix", undefined{"the argument"})
		options, ok := want.(tuple)
		if !ok {
			options = tuple{want}
		}
		for _, o := range options {
			p, ok := o.(string)
			if !ok {
				return nil, errorf("argument is %s, want string", typeName(o))
			}
			if err := st.spend(stepCost); err != nil {
				return nil, err
			}
			if has(s, p) {
				return true, nil
			}
		}
		return false, nil
	}
}

func replace(st *state, s string, a args) (any, error) {
	old, err := a.str(0, "old", "")
	if err != nil {
		return nil, err
	}
	with, err := a.str(1, "new", "")
	if err != nil {
		return nil, err
	}
	limit := a.get(2, "count", nil)
	n := int64(-1)
	if limit != nil {
		if n, err = a.int(2, "count", -1); err != nil {
			return nil, err
		}
	}
	found := int64(strings.Count(s, old))
	if n >= 0 {
		found = min(found, n)
	}
	if err := st.spend(2*int64(len(s)) + found*int64(len(with))); err != nil { // < 2^40: both factors are paid for
		return nil, err
	}
	return strings.Replace(s, old, with, int(found)), nil
}

// split splits as Python does: without a separator runs of white space divide and the ends are trimmed.
func split(st *state, s string, a args, fromRight bool) (any, error) {
	limit, err := a.int(1, "maxsplit", -1)
	if err != nil {
		return nil, err
	}
	if err := st.spend(itemCost * int64(len(s))); err != nil {
		return nil, err
	}
	if a.get(0, "sep", nil) == nil {
		if limit >= 0 {
			return nil, unsupported("split on white space with a limit")
		}
		return texts(strings.Fields(s)), nil
	}
	sep, err := a.str(0, "sep", "")
	if err != nil {
		return nil, err
	}
	if sep == "" {
		return nil, errorf("empty separator")
	}
	if limit < 0 || limit > int64(len(s)) {
		return texts(strings.Split(s, sep)), nil
	}
	if !fromRight {
		return texts(strings.SplitN(s, sep, int(limit)+1)), nil
	}
	parts := strings.Split(s, sep)
	if keep := len(parts) - int(limit); keep > 1 {
		parts = append([]string{strings.Join(parts[:keep], sep)}, parts[keep:]...)
	}
	return texts(parts), nil
}

func splitlines(st *state, s string, _ args) (any, error) {
	if err := st.spend(itemCost * int64(len(s))); err != nil {
		return nil, err
	}
	if s == "" {
		return []any{}, nil
	}
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return texts(strings.Split(strings.TrimSuffix(s, "\n"), "\n")), nil
}

func texts(parts []string) []any {
	out := make([]any, len(parts))
	for i, p := range parts {
		out[i] = p
	}
	return out
}

// partition cuts s at the separator in three; without it, the whole is the first or the last part.
func partition(s string, a args, index func(s, sep string) int, lastPart bool) (any, error) {
	sep, err := a.str(0, "sep", "")
	if err != nil {
		return nil, err
	}
	if sep == "" {
		return nil, errorf("empty separator")
	}
	i := index(s, sep)
	switch {
	case i >= 0:
		return tuple{s[:i], sep, s[i+len(sep):]}, nil
	case lastPart:
		return tuple{"", "", s}, nil
	}
	return tuple{s, "", ""}, nil
}

func find(index func(s, sub string) int) func(*state, string, args) (any, error) {
	return func(_ *state, s string, a args) (any, error) {
		sub, err := a.str(0, "sub", "")
		if err != nil {
			return nil, err
		}
		i := index(s, sub)
		if i < 0 {
			return int64(-1), nil
		}
		return int64(utf8.RuneCountInString(s[:i])), nil
	}
}

var dictMethods = map[string]methodFunc{
	"get": func(_ *state, recv any, a args) (any, error) {
		if v, ok := recv.(*Dict).Get(a.get(0, "key", nil)); ok {
			return v, nil
		}
		return a.get(1, "default", nil), nil
	},
	"items": func(st *state, recv any, _ args) (any, error) { return st.pairs(recv.(*Dict)) },
	"keys":  func(_ *state, recv any, _ args) (any, error) { return recv.(*Dict).keys, nil },
	"copy":  func(_ *state, recv any, _ args) (any, error) { return recv, nil }, // nothing changes it
	"values": func(st *state, recv any, _ args) (any, error) {
		d := recv.(*Dict)
		if err := st.spend(itemCost * int64(len(d.keys))); err != nil {
			return nil, err
		}
		out := make([]any, len(d.keys))
		for i, k := range d.keys {
			out[i] = d.values[k]
		}
		return out, nil
	},
}

var listMethods = map[string]methodFunc{
	"copy": func(_ *state, recv any, _ args) (any, error) { return recv, nil }, // nothing changes it
	"index": func(st *state, recv any, a args) (any, error) {
		l, _ := list(recv)
		for i, x := range l {
			if same, err := st.equal(x, a.get(0, "value", nil)); err != nil || same {
				return int64(i), err
			}
		}
		return nil, errorf("index: value is not in the list")
	},
	"count": func(st *state, recv any, a args) (any, error) {
		l, _ := list(recv)
		n := int64(0)
		for _, x := range l {
			same, err := st.equal(x, a.get(0, "value", nil))
			if err != nil {
				return nil, err
			}
			if same {
				n++
			}
		}
		return n, nil
	},
}

var loopMethods = map[string]methodFunc{
	"cycle": func(_ *state, recv any, a args) (any, error) {
		if len(a.positional) == 0 {
			return nil, errorf("loop.cycle: want at least one value")
		}
		return a.positional[recv.(*loop).i%len(a.positional)], nil
	},
	"changed": func(st *state, recv any, a args) (any, error) {
		l := recv.(*loop)
		now := any(tuple(a.positional))
		same, err := st.equal(l.last, now)
		if err != nil {
			return nil, err
		}
		isNew := !l.seen || !same
		l.last, l.seen = now, true
		return isNew, nil
	},
}
