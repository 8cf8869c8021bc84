package jinja

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxWidth bounds the width and the precision of a field: a template may ask for any, and is charged for what it gets.
const maxWidth = 1 << 20

// field is how one value is to be written: of "%-8.3f" or "{:<8.3f}".
type field struct {
	fill      rune
	align     byte // < > ^ or =, which puts the fill behind the sign; 0 is the type's own
	sign      byte // + or a blank in front of numbers that are not negative; 0 is neither
	alternate bool // 0x and the like in front
	comma     bool // between thousands
	width     int
	precision int // -1: not given
	verb      byte
}

// percent writes what Python's format % value does: value is a tuple of values, a dict for names in brackets, or one value.
func (st *state) percent(format string, value any) (any, error) {
	values, isTuple := value.(tuple)
	if !isTuple {
		values = tuple{value}
	}
	var b strings.Builder
	used := 0
	next := func() (any, error) {
		if used == len(values) {
			return nil, errorf("not enough values for the format %s", quote(format))
		}
		used++
		return values[used-1], nil
	}
	named := false
	for rest := format; rest != ""; {
		text, tail, found := strings.Cut(rest, "%")
		b.WriteString(text)
		if !found {
			break
		}
		v, f, after, err := st.percentField(tail, value, next, &named)
		if err != nil {
			return nil, err
		}
		rest = after
		if f.verb == '%' {
			b.WriteByte('%')
			continue
		}
		s, err := st.percentText(v, f)
		if err != nil {
			return nil, err
		}
		b.WriteString(s)
	}
	if _, isDict := value.(*Dict); used < len(values) && !named && !isDict {
		return nil, errorf("not all values are used by the format %s", quote(format))
	}
	return b.String(), st.spend(int64(b.Len()) + int64(len(format)))
}

// percentField reads what stands behind a "%", and the value that it is for.
func (st *state) percentField(s string, all any, next func() (any, error), named *bool) (v any, f field, rest string, err error) {
	f = field{fill: ' ', precision: -1}
	key, hasKey := "", false
	if strings.HasPrefix(s, "(") {
		name, after, ok := strings.Cut(s[1:], ")")
		if !ok {
			return nil, f, "", errorf("format: a name is not closed, want )")
		}
		key, hasKey, s = name, true, after
	}
	for ; s != "" && strings.IndexByte("#0- +", s[0]) >= 0; s = s[1:] {
		switch s[0] {
		case '#':
			f.alternate = true
		case '0':
			if f.align == 0 {
				f.fill, f.align = '0', '='
			}
		case '-':
			f.fill, f.align = ' ', '<'
		default:
			if f.sign != '+' {
				f.sign = s[0]
			}
		}
	}
	if f.width, s, err = percentNumber(s, next); err != nil {
		return nil, f, "", err
	}
	if f.width < 0 {
		f.fill, f.align, f.width = ' ', '<', -f.width
	}
	if strings.HasPrefix(s, ".") {
		if f.precision, s, err = percentNumber(s[1:], next); err != nil {
			return nil, f, "", err
		}
	}
	s = strings.TrimLeft(s, "hlL")
	if s == "" {
		return nil, f, "", errorf("format ends inside of a field")
	}
	f.verb, rest = s[0], s[1:]
	switch {
	case f.verb == '%':
	case hasKey:
		d, ok := all.(*Dict)
		if !ok {
			return nil, f, "", errorf("format: %%(%s) wants a dict, got %s", key, typeName(all))
		}
		*named = true
		if v, ok = d.Get(key); !ok {
			return nil, f, "", errorf("format: no value named %q", key)
		}
	default:
		v, err = next()
	}
	return v, f, rest, err
}

// percentNumber reads a width or a precision, "*" from the values.
func percentNumber(s string, next func() (any, error)) (int, string, error) {
	if strings.HasPrefix(s, "*") {
		v, err := next()
		if err != nil {
			return 0, "", err
		}
		n, ok := integer(v)
		if !ok || n > maxWidth || n < -maxWidth {
			return 0, "", errorf("format: * wants an int up to %d", maxWidth)
		}
		return int(n), s[1:], nil
	}
	return leadingNumber(s)
}

func leadingNumber(s string) (int, string, error) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	if i == 0 {
		return 0, s, nil
	}
	n, err := strconv.Atoi(s[:i])
	if err != nil || n > maxWidth {
		return 0, "", &Error{Msg: "field of " + s[:i] + " places is too wide", Err: ErrLimit}
	}
	return n, s[i:], nil
}

func (st *state) percentText(v any, f field) (string, error) {
	switch f.verb {
	case 's', 'r', 'a':
		s, err := st.converted(v, f.verb)
		if err != nil {
			return "", err
		}
		if f.align == '=' {
			f.fill, f.align = ' ', '>'
		}
		if f.align == 0 {
			f.align = '>'
		}
		return st.padded("", cutRunes(s, f.precision), f)
	case 'c':
		s, ok := v.(string)
		if n, isInt := integer(v); isInt && n >= 0 && n <= utf8.MaxRune {
			s, ok = string(rune(n)), true
		}
		if !ok || utf8.RuneCountInString(s) != 1 {
			return "", errorf("format: %%c wants one character")
		}
		f.align = max(f.align, '>')
		return st.padded("", s, f)
	case 'd', 'i', 'u', 'o', 'x', 'X':
		n, ok := number(v)
		if !ok || math.IsNaN(n) || math.Abs(n) >= 1<<63 {
			return "", errorf("format: %%%c wants a number, got %s%s", f.verb, typeName(v), missing(v))
		}
		i, ok := integer(v)
		if !ok {
			i = int64(n)
		}
		if f.verb == 'i' || f.verb == 'u' {
			f.verb = 'd'
		}
		return st.intText(i, f)
	case 'e', 'E', 'f', 'F', 'g', 'G':
		n, ok := number(v)
		if !ok {
			return "", errorf("format: %%%c wants a number, got %s%s", f.verb, typeName(v), missing(v))
		}
		return st.floatField(n, f)
	}
	return "", errorf("format: unknown field %%%c", f.verb)
}

// converted is a value as text: by str, or by repr for r and a.
func (st *state) converted(v any, how byte) (string, error) {
	if how == 's' {
		return st.text(v)
	}
	var b strings.Builder
	err := st.repr(&b, v, "Undefined")
	return b.String(), err
}

func cutRunes(s string, n int) string {
	if n < 0 || utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n])
}

// intText writes an integer by f: d, b, o, x, X.
func (st *state) intText(i int64, f field) (string, error) {
	digits := strconv.FormatUint(magnitude(i), map[byte]int{'d': 10, 'b': 2, 'o': 8, 'x': 16, 'X': 16}[f.verb])
	prefix := ""
	if f.alternate && f.verb != 'd' {
		prefix = "0" + string(f.verb)
	}
	if f.verb == 'X' {
		digits = strings.ToUpper(digits)
	}
	if f.precision > len(digits) && f.precision <= maxWidth {
		if err := st.spend(int64(f.precision)); err != nil {
			return "", err
		}
		digits = strings.Repeat("0", f.precision-len(digits)) + digits
	}
	if f.comma {
		digits = thousands(digits)
	}
	return st.padded(signOf(i < 0, f)+prefix, digits, f)
}

func magnitude(i int64) uint64 {
	if i < 0 {
		return -uint64(i)
	}
	return uint64(i)
}

func signOf(negative bool, f field) string {
	switch {
	case negative:
		return "-"
	case f.sign != 0 && f.sign != '-':
		return string(f.sign)
	}
	return ""
}

func thousands(digits string) string {
	whole, fraction, _ := strings.Cut(digits, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		return whole + "." + fraction
	}
	return whole
}

// floatField writes a number by f: e, E, f, F, g, G, %.
func (st *state) floatField(x float64, f field) (string, error) {
	precision := f.precision
	if precision < 0 {
		precision = 6
	}
	if err := st.spend(int64(precision)); err != nil {
		return "", err
	}
	verb, tail := f.verb|0x20, ""
	if f.verb == '%' {
		x, verb, tail = x*100, 'f', "%"
	}
	text := ""
	switch {
	case math.IsNaN(x):
		text = "nan"
	case math.IsInf(x, 0):
		text = "inf"
	case verb == 'g':
		text = generalText(math.Abs(x), max(precision, 1), f.alternate)
	default:
		text = strconv.FormatFloat(math.Abs(x), verb, precision, 64)
	}
	if f.verb >= 'A' && f.verb <= 'Z' {
		text = strings.ToUpper(text)
	}
	if f.comma {
		text = thousands(text)
	}
	return st.padded(signOf(x < 0 || x == 0 && math.Signbit(x), f), text+tail, f)
}

// generalText is C's %g: an exponent from digits on or below 1e-4, no zeros at the end unless they are asked for.
func generalText(x float64, digits int, zeros bool) string {
	exponent := 0
	if x != 0 {
		e := strconv.FormatFloat(x, 'e', digits-1, 64)
		exponent, _ = strconv.Atoi(e[strings.IndexByte(e, 'e')+1:])
	}
	if exponent < -4 || exponent >= digits {
		mantissa, power, _ := strings.Cut(strconv.FormatFloat(x, 'e', digits-1, 64), "e")
		if !zeros && strings.Contains(mantissa, ".") {
			mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
		}
		return mantissa + "e" + power
	}
	s := strconv.FormatFloat(x, 'f', max(digits-1-exponent, 0), 64)
	if !zeros && strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// padded fills a field up to its width; sign stands in front of the text, and with align = in front of the fill. Numbers go to the right.
func (st *state) padded(sign, text string, f field) (string, error) {
	missing := f.width - utf8.RuneCountInString(sign) - utf8.RuneCountInString(text)
	if missing <= 0 {
		return sign + text, st.spend(int64(len(text)))
	}
	if f.fill == 0 {
		f.fill = ' '
	}
	if err := st.spend(int64(missing * utf8.RuneLen(f.fill))); err != nil {
		return "", err
	}
	fill := func(n int) string { return strings.Repeat(string(f.fill), n) }
	switch f.align {
	case '<':
		return sign + text + fill(missing), nil
	case '^':
		return fill(missing/2) + sign + text + fill(missing-missing/2), nil
	case '=':
		return sign + fill(missing) + text, nil
	}
	return fill(missing) + sign + text, nil
}

// formatMethod is Python's str.format: "{} {0} {name} {a.b[c]!r:>8}".
func formatMethod(st *state, s string, a args) (any, error) {
	var b strings.Builder
	auto := 0
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		if i+1 < len(s) && s[i+1] == s[i] {
			b.WriteByte(s[i])
			s = s[i+2:]
			continue
		}
		if s[i] == '}' {
			return nil, errorf("format: a } without its {")
		}
		inner, rest, ok := strings.Cut(s[i+1:], "}")
		if !ok || strings.Contains(inner, "{") {
			return nil, errorf("format: a field is not closed, want }")
		}
		text, err := st.braceField(inner, a, &auto)
		if err != nil {
			return nil, err
		}
		b.WriteString(text)
		s = rest
	}
	return b.String(), st.spend(int64(b.Len()))
}

// braceField writes one field of str.format: name!conversion:spec.
func (st *state) braceField(inner string, a args, auto *int) (string, error) {
	name, spec, _ := strings.Cut(inner, ":")
	name, conversion, converts := strings.Cut(name, "!")
	v, err := st.braceValue(name, a, auto)
	if err != nil {
		return "", err
	}
	if converts {
		if len(conversion) != 1 || strings.IndexByte("sra", conversion[0]) < 0 {
			return "", errorf("format: unknown conversion !%s", conversion)
		}
		if v, err = st.converted(v, conversion[0]); err != nil {
			return "", err
		}
	}
	return st.formatSpec(v, spec)
}

// braceValue finds the value of "0", "name", "name.attribute" or "name[key]"; an empty name takes the next argument.
func (st *state) braceValue(name string, a args, auto *int) (any, error) {
	end := strings.IndexAny(name, ".[")
	if end < 0 {
		end = len(name)
	}
	first, path := name[:end], name[end:]
	if first == "" {
		first = strconv.Itoa(*auto)
		*auto++
	}
	var v any
	if i, err := strconv.Atoi(first); err == nil {
		if i < 0 || i >= len(a.positional) {
			return nil, errorf("format: no argument %d", i)
		}
		v = a.positional[i]
	} else {
		var ok bool
		if v, ok = a.named[first]; !ok {
			return nil, errorf("format: no argument %q", first)
		}
	}
	for path != "" {
		var key any
		if path[0] == '.' {
			end := strings.IndexAny(path[1:], ".[")
			if end < 0 {
				end = len(path) - 1
			}
			key, path = path[1:end+1], path[end+1:]
		} else {
			in, rest, ok := strings.Cut(path[1:], "]")
			if !ok {
				return nil, errorf("format: a [ is not closed")
			}
			key, path = in, rest
			if i, err := strconv.ParseInt(in, 10, 64); err == nil {
				key = i
			}
		}
		var err error
		if v, err = st.element(v, key); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// formatSpec writes a value by Python's format specification [[fill]align][sign][#][0][width][,][.precision][type].
func (st *state) formatSpec(v any, spec string) (string, error) {
	f, err := parseSpec(spec)
	if err != nil {
		return "", err
	}
	_, isBool := v.(bool)
	i, isInt := integer(v)
	x, isNumber := number(v)
	if isBool && f.verb == 0 {
		isInt, isNumber = false, false
	}
	switch {
	case isInt && (f.verb == 0 || strings.IndexByte("dboxX", f.verb) >= 0):
		if f.verb == 0 {
			f.verb = 'd'
		}
		return st.intText(i, f)
	case isNumber && f.verb == 0 && f.precision < 0:
		return st.padded(signOf(x < 0, f), strings.TrimPrefix(floatText(x), "-"), f)
	case isNumber && (f.verb == 0 || strings.IndexByte("eEfFgG%", f.verb) >= 0):
		if f.verb == 0 {
			f.verb = 'g'
		}
		return st.floatField(x, f)
	case f.verb != 0 && f.verb != 's' || isNumber:
		return "", errorf("format: %q does not fit %s", string(f.verb), typeName(v))
	}
	s, err := st.text(v)
	if err != nil {
		return "", err
	}
	if f.align == 0 {
		f.align = '<'
	}
	return st.padded("", cutRunes(s, f.precision), f)
}

func parseSpec(spec string) (field, error) {
	f := field{fill: ' ', precision: -1}
	runes := []rune(spec)
	isAlign := func(r rune) bool { return strings.ContainsRune("<>^=", r) }
	switch {
	case len(runes) > 1 && isAlign(runes[1]):
		f.fill, f.align, spec = runes[0], byte(runes[1]), string(runes[2:])
	case len(runes) > 0 && isAlign(runes[0]):
		f.align, spec = byte(runes[0]), string(runes[1:])
	}
	if spec != "" && strings.IndexByte("+- ", spec[0]) >= 0 {
		f.sign, spec = spec[0], spec[1:]
	}
	if strings.HasPrefix(spec, "#") {
		f.alternate, spec = true, spec[1:]
	}
	if strings.HasPrefix(spec, "0") && f.align == 0 {
		f.fill, f.align = '0', '='
	}
	var err error
	if f.width, spec, err = leadingNumber(spec); err != nil {
		return f, err
	}
	if strings.HasPrefix(spec, ",") {
		f.comma, spec = true, spec[1:]
	}
	if strings.HasPrefix(spec, ".") {
		if f.precision, spec, err = leadingNumber(spec[1:]); err != nil {
			return f, err
		}
	}
	if len(spec) > 1 {
		return f, &Error{Msg: fmt.Sprintf("format specification with %q is not supported", spec), Err: ErrUnsupported}
	}
	if spec != "" {
		f.verb = spec[0]
	}
	return f, nil
}
