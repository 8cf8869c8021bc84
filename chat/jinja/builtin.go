package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// builtin is a function of the language, called with the state for its budget.
type builtin func(st *state, a args) (any, error)

// globals are the functions every template sees; the caller's variables come first.
var globals = map[string]builtin{
	"range":           rangeFunc,
	"namespace":       namespaceFunc,
	"dict":            dictFunc,
	"joiner":          joinerFunc,
	"cycler":          cyclerFunc,
	"raise_exception": raiseException,
}

func rangeFunc(st *state, a args) (any, error) {
	bounds := make([]int64, len(a.positional))
	for i, v := range a.positional {
		n, ok := integer(v)
		if !ok {
			return nil, errorf("range: argument is %s, want int%s", typeName(v), missing(v))
		}
		bounds[i] = n
	}
	from, to, step := int64(0), int64(0), int64(1)
	switch len(bounds) {
	case 1:
		to = bounds[0]
	case 2:
		from, to = bounds[0], bounds[1]
	case 3:
		from, to, step = bounds[0], bounds[1], bounds[2]
	default:
		return nil, errorf("range: got %d arguments, want 1 to 3", len(bounds))
	}
	if step == 0 {
		return nil, errorf("range: step is 0")
	}
	items := []any{}
	for i := from; step > 0 && i < to || step < 0 && i > to; {
		if err := st.spend(itemCost); err != nil {
			return nil, err
		}
		items = append(items, i)
		next := i + step
		if (next > i) != (step > 0) { // past 64 bits
			break
		}
		i = next
	}
	return items, nil
}

func namespaceFunc(st *state, a args) (any, error) {
	d, err := dictFunc(st, a)
	if err != nil {
		return nil, err
	}
	return &namespace{*d.(*Dict)}, nil
}

func dictFunc(st *state, a args) (any, error) {
	d := new(Dict)
	for _, v := range a.positional {
		from, ok := v.(*Dict)
		if !ok {
			return nil, errorf("dict: argument is %s, want dict", typeName(v))
		}
		if err := st.spend(4 * itemCost * int64(len(from.keys))); err != nil {
			return nil, err
		}
		for _, k := range from.keys {
			d.Set(k, from.values[k])
		}
	}
	for _, name := range sortedKeys(a.named) {
		d.Set(name, a.named[name])
	}
	return d, nil
}

// joiner gives nothing when it is first called, and then its text.
type joiner struct {
	text any
	used bool
}

func joinerFunc(_ *state, a args) (any, error) {
	return &joiner{text: a.get(0, "sep", ", ")}, nil
}

func (j *joiner) call() any {
	if !j.used {
		j.used = true
		return ""
	}
	return j.text
}

// cycler gives its items in turn, by next(), current and reset().
type cycler struct {
	items []any
	at    int
}

func cyclerFunc(_ *state, a args) (any, error) {
	if len(a.positional) == 0 {
		return nil, errorf("cycler: want at least one value")
	}
	return &cycler{items: a.positional}, nil
}

var cyclerMethods = map[string]methodFunc{
	"next": func(_ *state, recv any, _ args) (any, error) {
		c := recv.(*cycler)
		v := c.items[c.at]
		c.at = (c.at + 1) % len(c.items)
		return v, nil
	},
	"reset": func(_ *state, recv any, _ args) (any, error) {
		recv.(*cycler).at = 0
		return nil, nil
	},
}

func raiseException(st *state, a args) (any, error) {
	msg, err := st.text(a.get(0, "message", ""))
	if err != nil {
		return nil, err
	}
	return nil, &Error{Msg: msg, Err: ErrRaised}
}

// Strftime returns the function that templates call as strftime_now, with its clock
// stopped at now.
func Strftime(now time.Time) Func {
	return func(a []any) (any, error) {
		if len(a) != 1 {
			return nil, fmt.Errorf("strftime_now: got %d arguments, want a format", len(a))
		}
		format, ok := a[0].(string)
		if !ok {
			return nil, fmt.Errorf("strftime_now: argument is %s, want string", typeName(a[0]))
		}
		return strftime(now, format)
	}
}

// layouts gives Go's layout of each strftime directive.
var layouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'd': "02", 'e': "_2", 'm': "01", 'y': "06", 'Y': "2006",
	'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'j': "002", 'Z': "MST", 'z': "-0700",
	'F': "2006-01-02", 'T': "15:04:05", 'h': "Jan", 'D': "01/02/06", 'R': "15:04", 'r': "03:04:05 PM",
	'c': "Mon Jan _2 15:04:05 2006", 'x': "01/02/06", 'X': "15:04:05", 'k': "15", 'l': "03", // of the C locale
}

// directive writes what strftime does for one letter.
func directive(now time.Time, letter byte) (string, bool) {
	switch letter {
	case '%':
		return "%", true
	case 'n':
		return "\n", true
	case 't':
		return "\t", true
	case 'w':
		return strconv.Itoa(int(now.Weekday())), true
	case 'u':
		return strconv.Itoa((int(now.Weekday())+6)%7 + 1), true
	case 'C':
		return fmt.Sprintf("%02d", now.Year()/100), true
	case 's':
		return strconv.FormatInt(now.Unix(), 10), true
	case 'V':
		_, week := now.ISOWeek()
		return fmt.Sprintf("%02d", week), true
	}
	layout, ok := layouts[letter]
	return now.Format(layout), ok
}

func strftime(now time.Time, format string) (string, error) {
	var out []byte
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out = append(out, format[i])
			continue
		}
		i++
		bare := format[i] == '-' && i+1 < len(format) // glibc's: without zeros in front
		if bare {
			i++
		}
		text, ok := directive(now, format[i])
		if !ok {
			return "", fmt.Errorf("strftime_now: %%%c is not supported", format[i])
		}
		if trimmed := strings.TrimLeft(text, "0 "); bare && trimmed != "" {
			text = trimmed
		} else if bare && text != "" {
			text = "0"
		}
		out = append(out, text...)
	}
	return string(out), nil
}
