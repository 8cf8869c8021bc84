package data

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"finetune/chat"
)

// format is a form that records come in, known by their fields.
type format struct {
	name   string   // what --format calls it
	fields []string // that a record must have
	uses   []string // and may have
	parse  func(o object) (record, error)
	when   func(o object) bool // what else is asked of a record; nil is nothing
}

// formats are looked through in this order: the first whose fields a record has is its format.
var formats []*format

// besides are fields that go with every question and answer, and with chats.
var (
	besides     = slicesOf(systemFields, toolFields, []string{"history"})
	besidesChat = slicesOf(systemFields, toolFields)
)

func init() { // the parsers look at the table
	for _, list := range []string{"messages", "conversations", "conversation"} {
		name := "sharegpt"
		if list == "messages" {
			name = list
		}
		formats = append(formats,
			&format{name, []string{list, "chosen", "rejected"}, besidesChat, func(o object) (record, error) { return chosenBehind(o, list) },
				func(o object) bool { return jsonKind(o["chosen"]) == "an object" }},
			&format{name, []string{list}, besidesChat, func(o object) (record, error) { return chatRecord(o, list) }, nil})
	}
	for _, question := range []string{"prompt", "question", "instruction"} {
		uses := besides
		if question == "instruction" {
			uses = slicesOf(besides, inputFields)
		}
		formats = append(formats, &format{"preferences", []string{question, "chosen", "rejected"}, uses, func(o object) (record, error) { return preferenceRecord(o, question) }, nil})
	}
	formats = append(formats,
		&format{"preferences", []string{"chosen", "rejected"}, besidesChat, chosenAlone, nil},
		&format{"completion", []string{"prompt", "completion"}, besidesChat, completionRecord, nil})
	for _, question := range questionFields {
		for _, answer := range answerFields {
			f := &format{name: question + "-" + answer, fields: []string{question, answer}, uses: besides}
			switch {
			case question == "instruction" && answer == "output":
				f.name = "alpaca"
				fallthrough
			case question == "instruction":
				f.uses = slicesOf(besides, inputFields)
			}
			f.parse = func(o object) (record, error) { return questionRecord(o, question, answer) }
			formats = append(formats, f)
		}
	}
	formats = append(formats, &format{"text", []string{"text"}, nil, func(o object) (record, error) {
		text, err := o.text("text")
		return record{Kind: kindText, Text: text}, err
	}, nil})
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

	classes *labels // of a classification; nil: there is none
	pairs   bool    // rows are texts that belong together
	scores  *scores // of pairs; nil: they are not read
	ranks   *ranks  // of a reranker's data; nil: it is none

	template  chat.Source     // that prints messages
	printed   map[string]bool // by it, of the fields of messages
	strangers map[string]int  // messages by their role, of roles that are not known
}

// newReader reads the settings of a run.
func newReader(asked string, pairs []string, template chat.Source) (*reader, error) {
	r := &reader{asked: asked, names: map[string]string{}, unused: map[string]int{}, template: template, printed: map[string]bool{}, strangers: map[string]int{}}
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
	switch {
	case r.classes != nil:
		return r.classified(row, path)
	case r.pairs:
		return r.paired(row, path)
	case r.ranks != nil:
		return r.ranked(row, path)
	}
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
		r.first, r.where = f, lineOf(path, row.line)
	case f.name != r.first.name && !r.mixed:
		return record{}, badf("record is of the format %s, but that in %s of the format %s, want one format", f.name, r.where, r.first.name)
	}
	rec, err := f.parse(o)
	rec.Line, rec.Path = row.line, path
	if err == nil {
		r.count(o, f)
		r.countMessages(rec.Messages)
	}
	for _, name := range row.around {
		r.unused[name]++
	}
	return rec, err
}

func lineOf(path string, line int) string { return fmt.Sprintf("%q line %d", path, line) }

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
		raw, ok := o.at(column)
		if !ok {
			return nil, badf("no column %q, which is to be the field %q; the record has %s", column, field, fieldNames(o))
		}
		delete(o, column)
		o[field] = raw
	}
	return o, nil
}

// at returns a column by its name, or by a path of names with dots between them.
func (o object) at(column string) (json.RawMessage, bool) {
	if raw, ok := o[column]; ok {
		return raw, true
	}
	for i, c := range column {
		if c != '.' {
			continue
		}
		var inner object
		if raw, ok := o[column[:i]]; ok && json.Unmarshal(raw, &inner) == nil {
			if raw, ok := inner.at(column[i+1:]); ok {
				return raw, true
			}
		}
	}
	return nil, false
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
		if (asked == "" || f.name == asked) && o.has(f.fields...) && (f.when == nil || f.when(o)) {
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
		if !slices.Contains(f.fields, name) && !slices.Contains(f.uses, name) && !hollow(raw) {
			r.unused[name]++
		}
	}
}

// countMessages notes which fields of messages no template prints, and which roles are no one's that is learned.
func (r *reader) countMessages(messages []chat.Message) {
	seen := map[string]bool{}
	for _, m := range messages {
		for _, name := range m.Others() {
			if !slices.Contains(links, name) && !slices.Contains(toolFields, name) && !r.reads(name) {
				seen["messages: "+name] = true
			}
		}
		if !knownRole(m.Role) {
			r.strangers[m.Role]++
		}
	}
	for name := range seen {
		r.unused[name]++
	}
}

// reads reports whether the template prints a field of messages, found out once.
func (r *reader) reads(field string) bool {
	reads, known := r.printed[field]
	if !known {
		reads = r.template.Reads(field)
		r.printed[field] = reads
	}
	return reads
}

// links are fields of messages that only tell which message belongs to which.
var links = []string{"id", "tool_call_id"}

// wrappers are names of the field that whole files are wrapped in.
var wrappers = []string{"data", "train", "rows", "examples", "records", "items", "samples"}

// wrappersOfOne are names of the field that a record, or such a file, is wrapped in. Other objects may be parts of a question.
var wrappersOfOne = []string{"data", "row", "record", "example", "item", "sample", "json"}

// unwrap returns the array of records, or the one record, that an object holds which is no record itself, and the names of
// what else is in it.
func (o object) unwrap() (inner []byte, around []string, ok bool) {
	if isRecord(o) {
		return nil, nil, false
	}
	for _, name := range append(slices.Clone(wrappers), slices.Sorted(maps.Keys(o))...) {
		if raw, has := o[name]; has && o.wraps(name) {
			return raw, o.around(name), true
		}
	}
	return nil, nil, false
}

func (o object) wrapsAny() bool {
	_, _, ok := o.unwrap()
	return ok
}

// wraps reports whether a field holds a list of records, or a record.
func (o object) wraps(name string) bool {
	switch raw := o[name]; jsonKind(raw) {
	case "an array":
		var list []object
		return decodeFirst(raw, &list) && (slices.Contains(wrappers, name) || isRecord(list[0]))
	case "an object":
		var inner object
		return slices.Contains(wrappersOfOne, name) && json.Unmarshal(raw, &inner) == nil && (isRecord(inner) || inner.wrapsAny())
	}
	return false
}

// around lists the fields of an object but for one, which hold something.
func (o object) around(name string) (names []string) {
	for _, other := range slices.Sorted(maps.Keys(o)) {
		if other != name && !hollow(o[other]) {
			names = append(names, fmt.Sprintf("%s (beside %s)", other, name))
		}
	}
	return names
}
