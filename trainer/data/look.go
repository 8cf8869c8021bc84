package data

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"finetune/chat"
	"finetune/run"
)

// Looked is data as it is read, for people to look at before they train.
type Looked struct {
	Stats   Stats
	Samples []Sample // of records, in the order of the files; of plain texts, their windows
	Bad     []string // why records were left out, one line each
	tok     chat.Tokenizer
	target  func(id int32) string // what stands for what is learned of a class or a relevance; nil: tokens are learned
}

// Sample is one document: a record, or an answer of one with all before it.
type Sample struct {
	Path   string        `json:"path"`
	Line   int           `json:"line,omitempty"` // of the record, from 1; 0 of a plain text
	Tokens []SampleToken `json:"tokens"`
}

// SampleToken is a token of a document.
type SampleToken struct {
	ID      int32  `json:"id"`
	Text    string `json:"text"` // control tokens by their name; may be part of a character
	Learned bool   `json:"learned,omitempty"`
	Special bool   `json:"special,omitempty"` // a control token
}

// Learned counts the tokens that are learned.
func (s Sample) Learned() (n int) {
	for _, t := range s.Tokens {
		if t.Learned {
			n++
		}
	}
	return n
}

// Look reads the data of a run, all of it, holds nothing out, and gives the first samples. Errors are as LoadRun's, but data
// without anything to learn is none. report is told how far it has come and may be nil; cancelling ctx ends it.
func Look(ctx context.Context, c run.Config, tok chat.Tokenizer, template chat.Source, samples int, report func(Progress)) (*Looked, error) {
	o, err := optionsOf(c, tok, template)
	if err != nil {
		return nil, advise(err)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	o.ValFraction, o.watch = 0, newWatch(ctx, report)
	if err := o.findClasses(c.Data); err != nil {
		return nil, advise(stopped(o.watch, err))
	}
	l := &Looked{tok: tok, target: o.target()}
	s, asText, err := newSource(c.Data, o)
	if err == nil && asText {
		return l, advise(stopped(o.watch, l.texts(s, o, samples)))
	}
	if err == nil {
		err = l.records(s, o, samples)
	}
	return l, advise(stopped(o.watch, err))
}

func (l *Looked) texts(s *source, o options, samples int) error {
	b, err := newBuilder(o, nil)
	if err != nil {
		return err
	}
	if err := b.texts(s); err != nil {
		return err
	}
	set, err := b.inMemory()
	if err != nil {
		return err
	}
	l.Stats = set.Train.stats
	for i := range min(samples, len(set.Train.spans)) {
		l.Samples = append(l.Samples, l.sample(set.Train.example(i), s.files[0], 0))
	}
	return nil
}

func (l *Looked) records(s *source, o options, samples int) error {
	b, err := newBuilder(o, nil)
	if err != nil {
		return err
	}
	b.kept = func(e example, r encoded) {
		if len(l.Samples) < samples {
			l.Samples = append(l.Samples, l.sample(e, r.path, r.line))
		}
	}
	b.mayBeEmpty = true
	err = b.records(s)
	if err == nil {
		l.Stats, l.Bad = b.train.stats, s.bad
	}
	return errors.Join(err, b.close())
}

func (l *Looked) sample(e example, path string, line int) Sample {
	s := Sample{Path: path, Line: line, Tokens: make([]SampleToken, len(e.Tokens))}
	for i, id := range e.Tokens {
		text := l.tok.Piece(id, true)
		s.Tokens[i] = SampleToken{ID: id, Text: text, Learned: i > 0 && e.LossMask[i], Special: text != "" && l.tok.Piece(id, false) == ""}
		if s.Tokens[i].Learned && l.target != nil {
			s.Tokens[i].Text, s.Tokens[i].Special = l.target(id), false
		}
	}
	return s
}

// target returns what tells people of the place behind a document's last token, where a class or a relevance stands; nil where it is
// a token as others.
func (o options) target() func(id int32) string {
	switch {
	case o.Classes != nil:
		return func(id int32) string { return o.Classes.names[id] }
	case o.Ranks != nil:
		return func(id int32) string { return fmt.Sprintf("relevance %.4g", Relevance(id)) }
	}
	return nil
}

// Reasons says what of the data somebody should look at before training on it, in sentences; none if it is as it should be.
func (l *Looked) Reasons(nCtx int) (reasons []string) {
	reasons = append(reasons, l.Bad...)
	s := l.Stats
	s.Source = nil
	s.Raw, s.Merged, s.Chosen, s.Given = 0, 0, 0, 0 // as they should be
	reasons = append(reasons, s.Notes(nCtx)...)
	if s.TrainedTokens == 0 {
		reasons = append(reasons, "there is no token to learn")
	}
	return reasons
}

// Histogram counts lengths in classes that each double: up to 16 tokens, up to 32 and so on.
func (s Stats) Histogram() (upTo, counts []int) {
	limit := 16
	for _, n := range slices.Sorted(maps.Keys(s.Lengths)) {
		for n > limit || len(upTo) == 0 {
			if n > limit {
				limit *= 2
				if len(upTo) > 0 {
					upTo, counts = append(upTo, limit), append(counts, 0)
				}
				continue
			}
			upTo, counts = append(upTo, limit), append(counts, 0)
		}
		counts[len(counts)-1] += s.Lengths[n]
	}
	return upTo, counts
}
