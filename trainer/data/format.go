package data

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// format is a form that records come in, known by their fields.
type format struct {
	name   string   // what --format calls it
	fields []string // that a record must have
	uses   []string // and may have
	parse  func(o object) (record, error)
}

// formats are looked through in this order: the first whose fields a record has is its format.
var formats []*format

// besides are fields that go with every question and answer, and with chats.
var besides = []string{"system", "system_prompt", "history"}

func init() { // the parsers look at the table
	formats = []*format{
		{"messages", []string{"messages"}, []string{"tools", "functions", "system", "system_prompt"}, func(o object) (record, error) { return chatRecord(o, "messages") }},
		{"sharegpt", []string{"conversations"}, []string{"tools", "functions", "system", "system_prompt"}, func(o object) (record, error) { return chatRecord(o, "conversations") }},
		{"sharegpt", []string{"conversation"}, []string{"tools", "functions", "system", "system_prompt"}, func(o object) (record, error) { return chatRecord(o, "conversation") }},
		{"preferences", []string{"chosen", "rejected"}, append([]string{"prompt", "question", "instruction", "input", "tools"}, besides...), preferenceRecord},
		{"completion", []string{"prompt", "completion"}, []string{"tools", "functions", "system", "system_prompt"}, completionRecord},
	}
	for _, question := range questionFields {
		for _, answer := range answerFields {
			f := &format{name: question + "-" + answer, fields: []string{question, answer}, uses: besides}
			switch {
			case question == "instruction" && answer == "output":
				f.name = "alpaca"
				fallthrough
			case question == "instruction":
				f.uses = append([]string{"input"}, besides...)
			}
			f.parse = func(o object) (record, error) { return questionRecord(o, question, answer) }
			formats = append(formats, f)
		}
	}
	formats = append(formats, &format{"text", []string{"text"}, nil, func(o object) (record, error) {
		text, err := o.text("text")
		return record{Kind: kindText, Text: text}, err
	}})
}

// Fields that questions and answers are found in, those first that are taken where there are several.
var (
	questionFields = []string{"instruction", "question", "query", "prompt", "input", "user"}
	answerFields   = []string{"output", "response", "answer", "completion", "reply", "assistant"}
)

const wantedFields = `want "text", "prompt" and "completion", "messages", "instruction" and "output", or "question" and "answer"`

// reader turns rows of one source into records: all of one format, that of the first or the one asked for.
type reader struct {
	mixed  bool              // records of several formats may follow one another
	asked  string            // by --format; "" is by the fields
	names  map[string]string // by --map: the column of a field
	first  *format
	where  string         // where the first record stands
	text   string         // of a table without a header: the column that is read as text
	unused map[string]int // fields that were not read, and of how many records
}

// newReader reads the settings of a run.
func newReader(asked string, pairs []string) (*reader, error) {
	r := &reader{asked: asked, names: map[string]string{}, unused: map[string]int{}}
	for _, pair := range pairs {
		field, column, _ := strings.Cut(pair, "=")
		r.names[strings.TrimSpace(field)] = strings.TrimSpace(column)
	}
	if asked != "" && !slices.ContainsFunc(formats, func(f *format) bool { return f.name == asked }) {
		return nil, badf("format %q, want one of %s", asked, strings.Join(formatNames(), ", "))
	}
	return r, nil
}

func formatNames() (names []string) {
	for _, f := range formats {
		if !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	return names
}

// record reads one row.
func (r *reader) record(row row, path string) (record, error) {
	o, err := r.rename(row.object)
	if err != nil {
		return record{}, err
	}
	f := r.detect(o)
	switch {
	case f == nil && r.first != nil:
		return record{}, badf("record has the fields %s, not those of the format %s that %s has, %s", fieldNames(o), r.first.name, r.where, quotedFields(r.first.fields))
	case f == nil && r.asked != "":
		return record{}, badf("record has the fields %s, want those of the format %s", fieldNames(o), r.asked)
	case f == nil:
		return record{}, &FormatError{Msg: fmt.Sprintf("record has the fields %s; %s", fieldNames(o), wantedFields), Err: errFields}
	case r.first == nil:
		r.first, r.where = f, place2(path, row.line)
	case f.name != r.first.name && !r.mixed:
		return record{}, badf("record is of the format %s, but that in %s of the format %s, want one format", f.name, r.where, r.first.name)
	}
	rec, err := f.parse(o)
	rec.Line, rec.Path = row.line, path
	if err == nil {
		r.count(o, f)
	}
	return rec, err
}

func place2(path string, line int) string { return fmt.Sprintf("%q line %d", path, line) }

func quotedFields(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(quoted, " and ")
}

// rename gives columns the names that --map says.
func (r *reader) rename(o object) (object, error) {
	if len(r.names) == 0 {
		return o, nil
	}
	o = maps.Clone(o)
	for _, field := range slices.Sorted(maps.Keys(r.names)) {
		column := r.names[field]
		raw, ok := o[column]
		if !ok {
			return nil, badf("no column %q, which is to be the field %q; the record has %s", column, field, fieldNames(o))
		}
		delete(o, column)
		o[field] = raw
	}
	return o, nil
}

// detect finds the format of a record: by its fields, and if that fails by their names in small letters.
func (r *reader) detect(o object) *format {
	if f := detect(o, r.asked); f != nil {
		return f
	}
	lower := make(object, len(o))
	for name, raw := range o {
		key := strings.ToLower(strings.TrimSpace(name))
		if _, twice := lower[key]; twice {
			return nil
		}
		lower[key] = raw
	}
	f := detect(lower, r.asked)
	if f != nil {
		clear(o)
		maps.Copy(o, lower)
	}
	return f
}

func detect(o object, asked string) *format {
	for _, f := range formats {
		if (asked == "" || f.name == asked) && o.has(f.fields...) {
			return f
		}
	}
	return nil
}

// isRecord reports whether an object is of any format.
func isRecord(o object) bool { return new(reader).detect(maps.Clone(o)) != nil }

// count notes which fields were not read.
func (r *reader) count(o object, f *format) {
	for name, raw := range o {
		if !slices.Contains(f.fields, name) && !slices.Contains(f.uses, name) && string(raw) != "null" && string(raw) != `""` && string(raw) != "[]" {
			r.unused[name]++
		}
	}
}

// wrappers are names of the field that whole files are wrapped in.
var wrappers = []string{"data", "train", "rows", "examples", "records", "items", "samples"}

// unwrap returns the array of records that an object holds which is no record itself.
func (o object) unwrap() ([]byte, bool) {
	if isRecord(o) {
		return nil, false
	}
	for _, name := range append(wrappers, slices.Sorted(maps.Keys(o))...) {
		raw, ok := o[name]
		if !ok || jsonKind(raw) != "an array" {
			continue
		}
		var list []object
		if decodeFirst(raw, &list) && len(list) > 0 && (slices.Contains(wrappers, name) || isRecord(list[0])) {
			return raw, true
		}
	}
	return nil, false
}
