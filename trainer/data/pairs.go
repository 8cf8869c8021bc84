package data

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"finetune/internal/hint"
)

// Records for embeddings are texts that belong together: a query, what answers it, and if there are such, texts that do not. In
// the tokens they are one example, so that they come into one window; behind the last token of each text stands, in the place of
// a token to predict, its role.

// Role is what a text of such a record is.
type Role int32

// The roles. A query is followed by what belongs to it.
const (
	RoleNone Role = iota
	RoleQuery
	RolePositive
	RoleNegative
)

// Fields that the texts are found in, those first that are taken where there are several.
var (
	queryFields    = []string{"query", "anchor", "question", "sentence1", "text1"}
	positiveFields = []string{"positive", "pos", "document", "passage", "answer", "sentence2", "text2"}
	negativeFields = []string{"negative", "negatives", "neg"}
)

const wantedPairs = `want "query" and "positive", or "anchor", "question", "sentence1" with "document", "passage", "answer", "sentence2"`

// paired reads one row of texts that belong together.
func (r *reader) paired(row row, path string) (record, error) {
	o, err := r.rename(row.object)
	if err != nil {
		return record{}, err
	}
	rec := record{Line: row.line, Path: path, Kind: kindPair}
	query, positive, negative := firstField(o, queryFields), firstField(o, positiveFields), firstField(o, negativeFields)
	if query == "" || positive == "" {
		return rec, hint.With(badf("record has the fields %s, %s", fieldNames(o), wantedPairs), "--map query=COLUMN --map positive=COLUMN names them")
	}
	texts, err := o.texts(query, positive)
	if err != nil {
		return rec, err
	}
	if rec.Text, rec.Pair = texts[0], texts[1]; strings.TrimSpace(rec.Text) == "" || strings.TrimSpace(rec.Pair) == "" {
		return rec, badf("%q or %q is empty, want two texts", query, positive)
	}
	f := &format{name: "pairs", fields: []string{query, positive}}
	if negative != "" {
		f.fields = append(f.fields, negative)
		if rec.Others, err = o.textsIn(negative); err != nil {
			return rec, err
		}
	}
	if r.scores != nil {
		if rec.Score, err = r.scores.of(o); err != nil {
			return rec, err
		}
		f.uses = append(f.uses, r.scores.field)
	}
	if r.first == nil {
		r.first, r.where = f, lineOf(path, row.line)
	}
	r.count(o, f)
	return rec, nil
}

// firstField returns the first of the names that an object has, "" for none.
func firstField(o object, names []string) string {
	i := slices.IndexFunc(names, func(name string) bool { return o.has(name) })
	if i < 0 {
		return ""
	}
	return names[i]
}

// textsIn returns a field that is a text or a list of texts; empty ones are left out.
func (o object) textsIn(name string) (texts []string, err error) {
	if jsonKind(o[name]) == "an array" {
		if err := json.Unmarshal(o[name], &texts); err != nil {
			return nil, badf("%q is not a list of texts: %v", name, err)
		}
	} else {
		text, err := o.text(name)
		if err != nil {
			return nil, err
		}
		texts = []string{text}
	}
	return slices.DeleteFunc(texts, func(s string) bool { return strings.TrimSpace(s) == "" }), nil
}

// pair encodes texts that belong together as one example. A text is shortened to what leaves room for the others.
func (e *encoder) pair(r record) (encoded, error) {
	texts := slices.Concat([]string{r.Text, r.Pair}, r.Others)
	each := 0
	if e.most > 0 {
		if each = (e.most - len(texts) + 1) / len(texts); each < leastTokens { // packing counts the roles but one
			return encoded{}, &FormatError{Msg: fmt.Sprintf("%d texts, and %d tokens for all of them", len(texts), e.most)}
		}
	}
	var x example
	out := encoded{}
	for i, text := range texts {
		ids, cut, err := TextTokens(e.tok, text, "", each)
		if err != nil {
			return out, err
		}
		x.add(false, ids...)
		x.add(true, int32(min(Role(i)+RoleQuery, RoleNegative)))
		out.shortened = out.shortened || cut
	}
	out.examples = []example{x}
	return out, nil
}

// leastTokens is how short a text may be made.
const leastTokens = 3

// RoleText is a text of a record, with its role.
type RoleText struct {
	Role   Role
	Tokens []int32
}

// Texts returns all texts of records that belong together, record by record in the order of the windows; nil of other data.
func (w *Windows) Texts() (all []RoleText) {
	for i := 0; w.pairs && i < w.Len(); i++ {
		win, from := w.At(i), 0
		for at, target := range win.Targets {
			if role := Role(target); role != RoleNone {
				all = append(all, RoleText{role, win.Tokens[from : at+1]})
				from = at + 1
			}
		}
	}
	return all
}

// fillPairs writes an example of texts that belong together into a window from a place on, and returns the next place and document.
// Only queries are in the loss.
func (win *Window) fillPairs(words []word, at int, doc int32) (int, int32) {
	pos := int32(0)
	for j, x := range words {
		if x&learnedBit != 0 {
			continue // the role, a target
		}
		win.Tokens[at], win.Pos[at], win.Doc[at] = int32(x), pos, doc
		pos++
		if next := words[j+1]; next&learnedBit != 0 {
			win.Targets[at] = int32(next &^ learnedBit)
			if Role(win.Targets[at]) == RoleQuery {
				win.LossMask[at] = 1
			}
			pos, doc = 0, doc+1
		}
		at++
	}
	return at, doc
}
