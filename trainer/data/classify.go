package data

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"finetune/internal/hint"
)

// A classification's records have a text, or a pair of texts, and a label. As a document each is its tokens with, behind the
// last, the number of its class in the place of a token to predict: whatever packs, counts and keeps documents need not know of
// classes.

// labels say what is read as a label, and which there are.
type labels struct {
	field string   // that holds them; empty: one of labelFields
	names []string // the classes in order; nil: not known yet
}

// Fields that labels, texts and pairs of texts are found in, those first that are taken where there are several: also GLUE's
// and SuperGLUE's columns.
var (
	labelFields = []string{"label", "labels", "class", "category", "intent", "sentiment", "target", "answer"}
	pairFields  = [][2]string{{"text", "text_pair"}, {"sentence1", "sentence2"}, {"question1", "question2"}, {"premise", "hypothesis"},
		{"question", "sentence"}, {"question", "passage"}, {"query", "document"}}
	soleFields = []string{"text", "sentence", "question", "content", "review", "title", "instruction"}
)

// mostClasses bounds the classes: what has more is most likely no label.
const mostClasses = 1000

// errClasses marks data whose labels do not make a classification.
var errClasses = errors.New("labels do not make a classification")

// classified reads one row of a classification.
func (r *reader) classified(row row, path string) (record, error) {
	o, err := r.rename(row.object)
	if err != nil {
		return record{}, err
	}
	field, err := r.classes.fieldIn(o)
	if err != nil {
		return record{}, err
	}
	rec := record{Line: row.line, Path: path, Kind: kindClass}
	if rec.Label, err = o.text(field); err != nil {
		return rec, err
	}
	if rec.Label = strings.TrimSpace(rec.Label); rec.Label == "" {
		return rec, badf("%q is empty, want the label of a class", field)
	}
	f, err := textsBeside(o, field)
	if err != nil {
		return rec, err
	}
	texts, err := o.texts(f.fields[1:]...)
	if err != nil {
		return rec, err
	}
	if rec.Text = texts[0]; len(texts) == 2 {
		rec.Pair = texts[1]
	}
	switch {
	case r.first == nil:
		r.first, r.where = f, lineOf(path, row.line)
	case !slices.Equal(f.fields, r.first.fields):
		return rec, badf("record has %s, but that in %s has %s, want one form", quotedFields(f.fields), r.where, quotedFields(r.first.fields))
	}
	r.count(o, f)
	return rec, r.classes.number(&rec)
}

// fieldIn returns the field of a record that holds its label.
func (l *labels) fieldIn(o object) (string, error) {
	if l.field != "" {
		if !o.has(l.field) {
			return "", hint.With(badf("record has no field %q for its label, but %s", l.field, fieldNames(o)), "--label-field names the field with the labels; a table without a header has columns 1, 2, 3 …")
		}
		return l.field, nil
	}
	for _, name := range labelFields {
		if o.has(name) {
			return name, nil
		}
	}
	return "", hint.With(badf("record has no field for a label, but %s", fieldNames(o)),
		"--label-field names the field with the labels; a table without a header has columns 1, 2, 3 …")
}

// textsBeside finds the fields of the texts that are classified, beside that of the label: the format has both, the label first.
func textsBeside(o object, label string) (*format, error) {
	for _, pair := range pairFields {
		if o.has(pair[:]...) && pair[0] != label && pair[1] != label {
			return &format{name: "classified pair", fields: []string{label, pair[0], pair[1]}}, nil
		}
	}
	for _, name := range soleFields {
		if o.has(name) && name != label {
			return &format{name: "classified text", fields: []string{label, name}}, nil
		}
	}
	return nil, hint.With(badf(`record has the fields %s, want "text", or "text" and "text_pair", beside the label`, fieldNames(o)), "--map text=COLUMN names the column with the texts")
}

// number finds the class of a record, once the classes are known.
func (l *labels) number(rec *record) error {
	if l.names == nil {
		return nil
	}
	if rec.Class = slices.Index(l.names, rec.Label); rec.Class < 0 {
		return &FormatError{Msg: fmt.Sprintf("label %q is none of the training data's: %s", rec.Label, listed(l.names)), Err: errClasses}
	}
	return nil
}

// listed quotes the first labels.
func listed(names []string) string {
	const shown = 8
	quoted := make([]string, min(len(names), shown))
	for i := range quoted {
		quoted[i] = fmt.Sprintf("%.40q", names[i])
	}
	text := strings.Join(quoted, ", ")
	if len(names) > shown {
		text += fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return text
}

// findClasses finds the classes of a classification, unless they are known.
func (o *options) findClasses(paths string) error {
	if o.Classes == nil || o.Classes.names != nil {
		return nil
	}
	names, err := findLabels(paths, *o)
	o.Classes = &labels{o.Classes.field, names}
	return err
}

// findLabels goes over the records once for their labels. Numbers are in their order, other labels in that of the alphabet.
func findLabels(paths string, o options) ([]string, error) {
	s, asText, err := newSource(paths, o)
	if err != nil {
		return nil, err
	}
	if asText {
		return nil, &FormatError{Path: s.files[0], Msg: "is a plain text, want records with a label for a classification", Err: errFields}
	}
	found := map[string]bool{}
	o.watch.begin("looking for the labels", 0)
	err = s.records(func(rec record) error {
		if found[rec.Label] = true; len(found) > mostClasses {
			return hint.With(&FormatError{Msg: fmt.Sprintf("more than %d different labels up to here", mostClasses), Err: errClasses}, "--label-field names the field with the labels")
		}
		return o.watch.step()
	})
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.SortFunc(names, compareLabels)
	if len(names) < 2 {
		return nil, hint.With(&FormatError{Path: s.files[0], Msg: fmt.Sprintf("every record has the label %s, want at least two classes", listed(names)), Err: errClasses},
			"--label-field names the field with the labels")
	}
	return names, nil
}

// compareLabels orders numbers before other labels, and by their size.
func compareLabels(a, b string) int {
	x, notX := strconv.Atoi(a)
	y, notY := strconv.Atoi(b)
	switch {
	case notX == nil && notY == nil:
		return x - y
	case notX == nil:
		return -1
	case notY == nil:
		return 1
	}
	return strings.Compare(a, b)
}

// class encodes a text, or a pair of texts with what ends a text between and behind them, as encoders are trained on pairs:
// [CLS] a [SEP] b [SEP] where the vocabulary has those; one that ends no text gets a line end between the two. A document that
// is too long loses the end of its longer text, and keeps what ends it.
func (e *encoder) class(r record) (encoded, error) {
	if strings.TrimSpace(r.Text) == "" && strings.TrimSpace(r.Pair) == "" {
		return encoded{empty: 1}, nil
	}
	ids, cut, err := TextTokens(e.tok, r.Text, r.Pair, e.most)
	if err != nil {
		return encoded{}, err
	}
	var x example
	x.add(false, ids...)
	x.add(true, int32(r.Class))
	return encoded{examples: []example{x}, shortened: cut}, nil
}

// TextTokens returns the tokens of a text, or of a pair of texts, as a model reads them that classifies or embeds it, and whether
// it took a part away to have at most so many; 0 is no limit. Names of special tokens in the texts are texts.
func TextTokens(tok tokenizer, text, pair string, most int) (ids []int32, cut bool, err error) {
	first, err := tok.Tokenize(text, false, false)
	if err != nil {
		return nil, false, err
	}
	whole, err := tok.Tokenize(text, true, false)
	if err != nil {
		return nil, false, err
	}
	before, behind := around(whole, first)
	if pair == "" {
		ids, cut = join(before, behind, most, first)
		return ids, cut, nil
	}
	if len(behind) == 0 {
		both, err := tok.Tokenize(text+"\n"+pair, false, false)
		if err != nil {
			return nil, false, err
		}
		ids, cut = join(before, nil, most, both)
		return ids, cut, nil
	}
	second, err := tok.Tokenize(pair, false, false)
	if err != nil {
		return nil, false, err
	}
	ids, cut = join(before, behind, most, first, second)
	return ids, cut, nil
}

// tokenizer turns text into token ids, as chat.Tokenizer does.
type tokenizer interface {
	Tokenize(text string, addSpecial, parseSpecial bool) ([]int32, error)
}

// around returns what a vocabulary has put before and behind a text's own tokens.
func around(whole, own []int32) (before, behind []int32) {
	for n := range len(whole) - len(own) + 1 {
		if slices.Equal(whole[n:n+len(own)], own) {
			return whole[:n], whole[n+len(own):]
		}
	}
	return nil, nil // a vocabulary that reads the text otherwise as a whole
}

// join returns the parts with what stands before the first and behind each. While they are too long the longest loses its last token.
func join(before, behind []int32, most int, parts ...[]int32) (ids []int32, cut bool) {
	for room := most - len(before) - len(parts)*len(behind); most > 0; cut = true {
		longest, total := 0, 0
		for i, p := range parts {
			total += len(p)
			if len(p) > len(parts[longest]) {
				longest = i
			}
		}
		if total <= room || total == 0 {
			break
		}
		parts[longest] = parts[longest][:len(parts[longest])-1]
	}
	ids = slices.Clone(before)
	for _, p := range parts {
		ids = append(append(ids, p...), behind...)
	}
	return ids, cut
}

// Classified returns the texts of records with a label, and the number of each one's class.
func (w *Windows) Classified() (texts [][]int32, classes []int) {
	for i := range w.Len() {
		for _, doc := range w.At(i).Documents() {
			texts, classes = append(texts, doc.Tokens), append(classes, int(doc.Targets[len(doc.Targets)-1]))
		}
	}
	return texts, classes
}
