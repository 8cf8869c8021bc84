package data

import (
	"context"
	"math"
	"strconv"
	"strings"

	"finetune/chat"
	"finetune/internal/hint"
	"finetune/run"
)

// ScoredPair is two texts as tokens, and how alike people found them, in any unit.
type ScoredPair struct {
	First, Second []int32
	Score         float64
}

// scores say what is read as the score of a pair.
type scores struct {
	field string // that holds it; empty: not known yet
	none  bool   // the first record has none
}

// scoreFields are where a score is found, those first that are taken where there are several.
var scoreFields = []string{"score", "similarity_score", "similarity", "label"}

// of returns the score of a record. The first record decides which field it is.
func (s *scores) of(o object) (float64, error) {
	if s.field == "" {
		for _, name := range scoreFields {
			if v, err := o.number(name); err == nil {
				s.field = name
				return v, nil
			}
		}
		s.none = true
		return 0, nil
	}
	return o.number(s.field)
}

// number returns a field that is a finite number, or a text of one, as cells of tables are.
func (o object) number(name string) (float64, error) {
	if !o.has(name) {
		return 0, badf("record has no field %q, but %s", name, fieldNames(o))
	}
	text, err := o.text(name)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, badf("%q is %.40q, want a number", name, text)
	}
	return v, nil
}

// LoadScored reads pairs of texts with scores, as STS-B has them, to compare embeddings with. field holds the scores; where it is
// empty the first record says which field does. Without one, or where all pairs have the same there, as a label that marks them as
// pairs, there are no scores: the result is nil then. A text of more than c.Ctx tokens loses its end. A named field with one score
// for all is an error.
func LoadScored(ctx context.Context, c run.Config, field string, tok chat.Tokenizer, report func(Progress)) ([]ScoredPair, error) {
	s, w, err := recordSource(ctx, c, report)
	if err != nil {
		return nil, err
	}
	s.pairs, s.scores = true, &scores{field: field}
	var pairs []ScoredPair
	differ := false
	err = s.records(func(rec record) error {
		if s.scores.none {
			return errStopped
		}
		p := ScoredPair{Score: rec.Score}
		var err error
		if p.First, _, err = TextTokens(tok, rec.Text, "", c.Ctx); err != nil {
			return err
		}
		if p.Second, _, err = TextTokens(tok, rec.Pair, "", c.Ctx); err != nil {
			return err
		}
		pairs = append(pairs, p)
		differ = differ || p.Score != pairs[0].Score
		return w.step()
	})
	switch {
	case s.scores.none:
		return nil, nil
	case err != nil:
		return nil, advise(stopped(w, err))
	case !differ && field == "":
		return nil, nil
	case !differ:
		return nil, hint.With(&FormatError{Path: s.files[0], Msg: "all pairs have the same score, want scores that differ"}, "--score-field names the field with the scores")
	}
	return pairs, nil
}

// recordSource finds the records that are evaluated, one by one, by the settings of a run. Plain texts are an error.
func recordSource(ctx context.Context, c run.Config, report func(Progress)) (*source, *watch, error) {
	w := newWatch(ctx, report)
	s, asText, err := newSource(c.Data, options{Format: c.Format, Map: run.Lines(c.Map), SkipBad: c.SkipBad, watch: w})
	switch {
	case err != nil:
		return nil, nil, advise(err)
	case asText:
		return nil, nil, advise(&FormatError{Path: s.files[0], Msg: "is a plain text, want records", Err: errFields})
	}
	w.begin("tokenizing", 0)
	return s, w, nil
}
