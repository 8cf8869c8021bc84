package jinja

import (
	"strings"
	"unicode"
)

type testFunc func(st *state, v any, a args) (bool, error)

// tests are what may follow "is".
var tests map[string]testFunc

func init() {
	tests = map[string]testFunc{
		"defined": func(_ *state, v any, _ args) (bool, error) {
			_, undef := v.(undefined)
			return !undef, nil
		},
		"undefined": kindTest(func(v any) bool { _, ok := v.(undefined); return ok }),
		"none":      kindTest(func(v any) bool { return v == nil }),
		"boolean":   kindTest(func(v any) bool { _, ok := v.(bool); return ok }),
		"true":      kindTest(func(v any) bool { return v == true }),
		"false":     kindTest(func(v any) bool { return v == false }),
		"integer":   kindTest(func(v any) bool { _, ok := v.(int64); return ok }),
		"float":     kindTest(func(v any) bool { _, ok := v.(float64); return ok }),
		"number":    kindTest(func(v any) bool { _, ok := number(v); return ok }),
		"string":    kindTest(func(v any) bool { _, ok := v.(string); return ok }),
		"mapping":   kindTest(func(v any) bool { _, ok := v.(*Dict); return ok }),
		"sequence":  kindTest(isSequence),
		"iterable":  kindTest(isSequence),
		"callable":  kindTest(func(v any) bool { return typeName(v) == "function" }),
		"escaped":   kindTest(func(any) bool { return false }), // nothing is marked as safe, because nothing is escaped
		"filter":    textTest(func(s string) bool { return filters[s] != nil }),
		"test":      textTest(func(s string) bool { return tests[s] != nil }),
		"lower":     textTest(func(s string) bool { return s == strings.ToLower(s) && strings.IndexFunc(s, unicode.IsLower) >= 0 }),
		"upper":     textTest(func(s string) bool { return s == strings.ToUpper(s) && strings.IndexFunc(s, unicode.IsUpper) >= 0 }),
		"odd":       remainderTest(2, 1),
		"even":      remainderTest(2, 0),
		"divisibleby": func(_ *state, v any, a args) (bool, error) {
			n, err := a.int(0, "num", 0)
			if err != nil {
				return false, err
			}
			return divides(v, n, 0)
		},
		"in": func(st *state, v any, a args) (bool, error) {
			return st.contains(a.get(0, "seq", undefined{"the container"}), v)
		},
		"sameas": func(st *state, v any, a args) (bool, error) {
			other := a.get(0, "other", undefined{"the other value"})
			if typeName(v) != typeName(other) {
				return false, nil
			}
			return st.equal(v, other)
		},
		"eq": compareTest("=="), "equalto": compareTest("=="), "ne": compareTest("!="),
		"lt": compareTest("<"), "lessthan": compareTest("<"), "le": compareTest("<="),
		"gt": compareTest(">"), "greaterthan": compareTest(">"), "ge": compareTest(">="),
		"==": compareTest("=="), "!=": compareTest("!="), "<": compareTest("<"), "<=": compareTest("<="),
		">": compareTest(">"), ">=": compareTest(">="),
	}
}

func kindTest(f func(any) bool) testFunc {
	return func(_ *state, v any, _ args) (bool, error) { return f(v), nil }
}

func isSequence(v any) bool {
	switch v.(type) {
	case string, []any, tuple, *named, *Dict, undefined:
		return true
	}
	return false
}

func textTest(f func(string) bool) testFunc {
	return func(st *state, v any, _ args) (bool, error) {
		s, err := st.text(v)
		if err != nil {
			return false, err
		}
		return f(s), st.spend(4 * int64(len(s)))
	}
}

func compareTest(op string) testFunc {
	return func(st *state, v any, a args) (bool, error) {
		return st.compare(op, v, a.get(0, "other", undefined{"the other value"}))
	}
}

func remainderTest(n, want int64) testFunc {
	return func(_ *state, v any, _ args) (bool, error) { return divides(v, n, want) }
}

func divides(v any, n, want int64) (bool, error) {
	i, ok := integer(v)
	if !ok {
		return false, errorf("%s is not an int", typeName(v))
	}
	if n == 0 {
		return false, errorf("division by zero")
	}
	return intArithmetic("%", i, n) == want, nil
}
