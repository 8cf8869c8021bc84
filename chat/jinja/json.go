package jinja

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// FromJSON reads one JSON value as a template value. Objects become *Dict with their keys
// in the order of the file, whole numbers int64, other numbers float64.
// The error is encoding/json's. A value nested deeper than encoding/json allows (10,000) is one.
func FromJSON(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := fromTokens(dec)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return v, err
}

func fromTokens(dec *json.Decoder) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		if i, err := strconv.ParseInt(string(t), 10, 64); err == nil {
			return i, nil
		}
		return t.Float64()
	case json.Delim:
		if t == '[' {
			return arrayFromTokens(dec)
		}
		return dictFromTokens(dec)
	}
	return t, nil
}

func arrayFromTokens(dec *json.Decoder) (any, error) {
	items := []any{}
	for dec.More() {
		v, err := fromTokens(dec)
		if err != nil {
			return nil, err
		}
		items = append(items, v)
	}
	_, err := dec.Token()
	return items, err
}

func dictFromTokens(dec *json.Decoder) (any, error) {
	d := new(Dict)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		v, err := fromTokens(dec)
		if err != nil {
			return nil, err
		}
		d.Set(key, v)
	}
	_, err := dec.Token()
	return d, err
}

// fromJSON is a filter of llama.cpp's engine and of some trainers': the value that a text holds as JSON.
func fromJSON(st *state, v any, _ args) (any, error) {
	s, ok := v.(string)
	if !ok {
		return nil, errorf("%s is no text", typeName(v))
	}
	if err := st.spend(itemCost * int64(len(s))); err != nil {
		return nil, err
	}
	x, err := FromJSON([]byte(s))
	if err != nil {
		return nil, errorf("no JSON: %v", err)
	}
	return x, nil
}

// jsonWriter writes values as Python's json.dumps does.
type jsonWriter struct {
	st         *state
	b          strings.Builder
	indent     string // of one level; "" is everything on one line
	comma      string
	colon      string
	ascii      bool
	sortedKeys bool
}

func tojson(st *state, v any, a args) (any, error) {
	w := &jsonWriter{st: st, comma: ", ", colon: ": "}
	if n := a.get(1, "indent", nil); n != nil {
		width, err := a.int(1, "indent", 0)
		if err != nil {
			return nil, err
		}
		pad, err := st.repeat(" ", width)
		if err != nil {
			return nil, err
		}
		w.indent, w.comma = "\n"+pad.(string), ","
	}
	if seps, ok := list(a.get(2, "separators", nil)); ok && len(seps) == 2 {
		comma, ok := seps[0].(string)
		colon, ok2 := seps[1].(string)
		if !ok || !ok2 {
			return nil, errorf("separators: want two strings")
		}
		w.comma, w.colon = comma, colon
	}
	w.ascii = truth(a.get(0, "ensure_ascii", false))
	w.sortedKeys = truth(a.get(3, "sort_keys", false))
	if err := w.value(v, 0); err != nil {
		return nil, err
	}
	return w.b.String(), nil
}

func (w *jsonWriter) write(s string) error {
	w.b.WriteString(s)
	return w.st.spend(int64(len(s)))
}

func (w *jsonWriter) line(level int) error {
	if w.indent == "" {
		return nil
	}
	pad := w.indent[1:]
	if err := w.st.spend(int64(level) * int64(len(pad))); err != nil {
		return err
	}
	return w.write("\n" + strings.Repeat(pad, level))
}

func (w *jsonWriter) value(v any, level int) error {
	if err := w.st.enter(); err != nil {
		return err
	}
	defer w.st.leave()
	switch v := v.(type) {
	case nil:
		return w.write("null")
	case bool:
		return w.write(strconv.FormatBool(v))
	case int64:
		return w.write(strconv.FormatInt(v, 10))
	case float64:
		return w.write(jsonFloat(v))
	case string:
		return w.text(v)
	case []any:
		return w.items(v, level)
	case tuple:
		return w.items(v, level)
	case *Dict:
		return w.dict(v, level)
	}
	return errorf("%s cannot be written as JSON%s", typeName(v), missing(v))
}

func jsonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return floatText(f)
}

func (w *jsonWriter) text(s string) error {
	if err := w.st.spend(2 * int64(len(s))); err != nil {
		return err
	}
	b := &w.b
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r < ' ' || w.ascii && r >= 0x7f && r <= 0xffff:
			fmt.Fprintf(b, `\u%04x`, r)
		case w.ascii && r > 0xffff:
			fmt.Fprintf(b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return nil
}

func (w *jsonWriter) items(items []any, level int) error {
	if len(items) == 0 {
		return w.write("[]")
	}
	if err := w.write("["); err != nil {
		return err
	}
	for i, x := range items {
		if err := w.separate(i, level); err != nil {
			return err
		}
		if err := w.value(x, level+1); err != nil {
			return err
		}
	}
	if err := w.line(level); err != nil {
		return err
	}
	return w.write("]")
}

// separate writes what stands in front of element i.
func (w *jsonWriter) separate(i, level int) error {
	if i > 0 {
		if err := w.write(w.comma); err != nil {
			return err
		}
	}
	return w.line(level + 1)
}

func (w *jsonWriter) dict(d *Dict, level int) error {
	if len(d.keys) == 0 {
		return w.write("{}")
	}
	keys := d.keys
	if w.sortedKeys {
		sorted, err := w.st.sorted(keys, nil, true, false)
		if err != nil {
			return err
		}
		keys = sorted.([]any)
	}
	if err := w.write("{"); err != nil {
		return err
	}
	for i, k := range keys {
		if err := w.separate(i, level); err != nil {
			return err
		}
		if err := w.key(k); err != nil {
			return err
		}
		if err := w.write(w.colon); err != nil {
			return err
		}
		if err := w.value(d.values[k], level+1); err != nil {
			return err
		}
	}
	if err := w.line(level); err != nil {
		return err
	}
	return w.write("}")
}

func (w *jsonWriter) key(k any) error {
	if s, ok := k.(string); ok {
		return w.text(s)
	}
	if f, ok := k.(float64); ok {
		return w.text(jsonFloat(f))
	}
	s := map[bool]string{true: "true", false: "false"}
	switch k := k.(type) {
	case nil:
		return w.text("null")
	case bool:
		return w.text(s[k])
	}
	t, err := w.st.text(k)
	if err != nil {
		return err
	}
	return w.text(t)
}
