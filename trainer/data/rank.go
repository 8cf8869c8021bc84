package data

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"finetune/chat"
	"finetune/internal/hint"
	"finetune/run"
)

// A reranker's records have a query and documents with a relevance each: 0 or 1, or a grade from 0 on. As a document of a window each
// document is the tokens of the query and of itself with, behind the last, the bits of its relevance in the place of a token to
// predict: what packs, counts and keeps documents need not know of relevances.

// ranks say what is read as a relevance.
type ranks struct {
	field string // that holds it; empty: one of relevanceFields
}

// Fields that queries, documents and relevances are found in, those first that are taken where there are several.
var (
	rankedQueries   = []string{"query", "question", "anchor", "sentence1", "text1"}
	rankedDocuments = []string{"document", "documents", "passage", "passages", "doc", "docs", "text", "answer", "response", "sentence2", "text2"}
	relevanceFields = []string{"relevance", "relevances", "label", "labels", "score", "scores", "grade", "target"}
	positiveLists   = []string{"positives", "positive", "pos"}
	negativeLists   = []string{"negatives", "negative", "neg"}
)

const wantedRanks = `want "query" and "document" with "relevance", "label" or "score", or "query" with "positive" and "negative"`

// ranked reads one row of a query with documents.
func (r *reader) ranked(row row, path string) (record, error) {
	o, err := r.rename(row.object)
	if err != nil {
		return record{}, err
	}
	rec := record{Line: row.line, Path: path, Kind: kindRank}
	query, document, positive := firstField(o, rankedQueries), firstField(o, rankedDocuments), firstField(o, positiveLists)
	relevance := r.ranks.field
	if relevance == "" {
		relevance = firstField(o, relevanceFields)
	}
	f := &format{name: "ranking"}
	switch {
	case query == "":
	case document != "" && relevance != "":
		f.fields = []string{query, document, relevance}
		rec.Others, rec.Relevances, err = o.graded(document, relevance)
	case positive != "":
		f.fields = []string{query, positive}
		negative := firstField(o, negativeLists)
		if negative != "" {
			f.fields = append(f.fields, negative)
		}
		rec.Others, rec.Relevances, err = o.listed(positive, negative)
	}
	switch {
	case err != nil:
		return rec, err
	case f.fields == nil:
		return rec, hint.With(badf("record has the fields %s, %s", fieldNames(o), wantedRanks), "--map query=COLUMN --map document=COLUMN names the texts, --label-field the relevance")
	}
	if rec.Text, err = o.text(query); err != nil {
		return rec, err
	}
	if strings.TrimSpace(rec.Text) == "" {
		return rec, badf("%q is empty, want a query", query)
	}
	if r.first == nil {
		r.first, r.where = f, lineOf(path, row.line)
	}
	r.count(o, f)
	return rec, nil
}

// graded reads a document with its relevance, or a list of documents with one of relevances.
func (o object) graded(document, relevance string) (texts []string, grades []float32, err error) {
	var values []float64
	if jsonKind(o[document]) == "an array" {
		if err := json.Unmarshal(o[document], &texts); err != nil {
			return nil, nil, badf("%q is not a list of texts: %v", document, err)
		}
		if err := json.Unmarshal(o[relevance], &values); err != nil || len(values) != len(texts) {
			return nil, nil, badf("%q is %.60q, want as many numbers as there are in %q, %d", relevance, o[relevance], document, len(texts))
		}
	} else {
		text, err := o.text(document)
		if err != nil {
			return nil, nil, err
		}
		value, err := o.number(relevance)
		if err != nil {
			return nil, nil, err
		}
		texts, values = []string{text}, []float64{value}
	}
	for i, v := range values {
		if !(v >= 0 && v <= math.MaxFloat32) {
			return nil, nil, badf("%q is %v, want a relevance of 0 or more", relevance, v)
		}
		if strings.TrimSpace(texts[i]) == "" {
			return nil, nil, badf("%q is empty, want a document", document)
		}
		grades = append(grades, float32(v))
	}
	return texts, grades, nil
}

// listed reads lists of documents that are relevant and of such that are not, which may be empty.
func (o object) listed(positive, negative string) (texts []string, grades []float32, err error) {
	if texts, err = o.textsIn(positive); err != nil {
		return nil, nil, err
	}
	grades = slices.Repeat([]float32{1}, len(texts))
	if negative == "" {
		return texts, grades, nil
	}
	others, err := o.textsIn(negative)
	return append(texts, others...), append(grades, make([]float32, len(others))...), err
}

// rank encodes each document of a record as an example.
func (e *encoder) rank(r record) (encoded, error) {
	tok, ok := e.tok.(RankTokenizer)
	if !ok {
		return encoded{}, fmt.Errorf("internal error: the tokenizer does not say what stands between two texts")
	}
	var out encoded
	for i, document := range r.Others {
		ids, cut, err := RankTokens(tok, e.rerank, r.Text, document, e.most)
		if err != nil {
			return out, err
		}
		var x example
		x.add(false, ids...)
		x.add(true, targetOf(r.Relevances[i]))
		out.examples = append(out.examples, x)
		out.shortened = out.shortened || cut
	}
	if len(out.examples) == 0 {
		out.empty = 1
	}
	return out, nil
}

// Relevance returns what a target of a reranker's windows stands for, from 0 to 1.
func Relevance(target int32) float32 { return math.Float32frombits(uint32(target)) }

// targetOf returns a relevance as a target: the bits of a float32, of which the sign is free.
func targetOf(relevance float32) int32 { return int32(math.Float32bits(relevance)) }

// scaleRelevances lets the greatest relevance of a run's data count as 1, if it is above.
func scaleRelevances(train, val *Windows) error {
	if !train.ranks {
		return nil
	}
	least, greatest := train.relevances()
	if least == greatest {
		return hint.With(&FormatError{Msg: fmt.Sprintf("every document has the relevance %v, want some that are more relevant than others", greatest), Err: errFields},
			"negatives are documents of relevance 0")
	}
	if val != nil {
		_, held := val.relevances()
		greatest = max(greatest, held)
	}
	if greatest <= 1 {
		return nil
	}
	if train.greatest = greatest; val != nil {
		val.greatest = greatest
	}
	return nil
}

// relevances returns the least and the greatest relevance of the documents, as they are in the data.
func (w *Windows) relevances() (least, greatest float32) {
	least = math.MaxFloat32
	for _, s := range w.spans {
		words := w.of(s)
		v := Relevance(int32(words[len(words)-1] &^ learnedBit))
		least, greatest = min(least, v), max(greatest, v)
	}
	return least, greatest
}

// RankedQuery is a query with the documents that are to be put in order, as the tokens that a reranker reads of both.
type RankedQuery struct {
	Documents  [][]int32
	Relevances []float32 // as they are in the data
}

// LoadRanked reads queries with documents, to evaluate a reranker on, in the order of the data. Documents of the same query are put
// together wherever they stand. One of more than c.Ctx tokens with its query loses its end.
func LoadRanked(ctx context.Context, c run.Config, tok RankTokenizer, template chat.Source, report func(Progress)) (queries []RankedQuery, err error) {
	s, w, err := recordSource(ctx, c, report)
	if err != nil {
		return nil, err
	}
	s.ranks = &ranks{c.LabelField}
	number := map[string]int{}
	err = s.records(func(rec record) error {
		k, ok := number[rec.Text]
		if !ok {
			k = len(queries)
			number[rec.Text], queries = k, append(queries, RankedQuery{})
		}
		q := &queries[k]
		for i, document := range rec.Others {
			ids, _, err := RankTokens(tok, template.Rerank, rec.Text, document, c.Ctx)
			if err != nil {
				return err
			}
			q.Documents, q.Relevances = append(q.Documents, ids), append(q.Relevances, rec.Relevances[i])
		}
		return w.step()
	})
	if err != nil {
		return nil, advise(stopped(w, err))
	}
	return queries, nil
}
