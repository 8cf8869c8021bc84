package data

import (
	"fmt"
	"maps"
	"slices"
)

// Stats count what became of a part of a dataset, for the command to tell.
type Stats struct {
	Records int // read from the file; a plain text is one
	Cut     int // records of which the end did not fit the context
	Skipped int // records left out because they did not fit (options.LongRecords)
	NoLoss  int // records left out because nothing in them is learned, or nothing that is left after the cut

	Empty        int    // answers without a word, which are not learned
	EmptyRecords int    // records left out because they have no other answers
	LostRecords  int    // records of which the chat template loses a part, and which are trained on all the same
	LostSkipped  int    // records left out because of that
	LostFirst    string // the first of either: where, and what
	Raw          int    // records of prompt and completion that no chat template wrote, for a model that has one
	Merged       int    // records whose system text is a part of the user's message
	Given        int    // answers taken as they are, because the chat template would cut their thoughts
	Behind       int    // messages behind the last answer of a record, which are not used
	StopsInside  int    // answers with a token to stop at before their end
	Chosen       int    // records of two answers, of which the better is learned

	StopsAdded   int // answers that got an EOS, because the chat template prints no end of turn
	StopsMissing int // answers inside a chat that end without a token to stop at
	Inexact      int // answers behind other text than an app's, because of a template that begins answers itself

	Examples      int     // documents in the windows
	Tokens        int     // places in the windows that hold a token
	TrainedTokens int     // targets in the loss
	Windows       int     // of NCtx places each
	Padding       float64 // part of all places that is empty, 0 to 1
	Lengths       Lengths // tokens of each record, before a cut

	Source *Source // what all parts were read from; nil of plain texts, and of what was held out
}

// tally is what a record adds to the counts.
type tally struct {
	length int // tokens, before a cut
	cut, skipped, lost, leftOut, raw, merged, chosen,
	kept bool // something of it is trained on

	empty, stopsAdded, stopsMissing, stopsInside, inexact, given, behind int
	lossAt                                                               string // where something was lost, and what; "" is nothing
}

// fit returns those examples of a record that are trained on, none longer than the context, and what to count.
func fit(r encoded, o options) ([]example, tally) {
	t := tally{lost: len(r.lost) > 0, leftOut: r.leftOut, raw: r.raw, merged: r.merged, chosen: r.chosen, empty: r.empty, stopsAdded: r.stopsAdded,
		stopsMissing: r.stopsMissing, stopsInside: r.stopsInside, inexact: r.inexact, given: r.given, behind: r.behind, cut: r.shortened}
	var kept []example
	for _, e := range r.examples {
		t.length = max(t.length, len(e.Tokens))
		if len(e.Tokens)-1 > o.NCtx {
			if o.LongRecords == skipLong {
				t.skipped = true
				continue
			}
			t.cut = true
			e = example{e.Tokens[:o.NCtx+1], e.LossMask[:o.NCtx+1]}
		}
		if e.targets() > 0 {
			kept = append(kept, e)
		}
	}
	if t.lost {
		t.lossAt = fmt.Sprintf("%s: the %s", lineOf(r.path, r.line), lossText(r.lost))
		if t.leftOut {
			return nil, t
		}
	}
	t.kept = len(kept) > 0
	return kept, t
}

// add counts a record.
func (s *Stats) add(t tally) {
	s.Records++
	s.Lengths.add(t.length)
	s.Empty += t.empty
	if t.lost {
		if s.LostFirst == "" {
			s.LostFirst = t.lossAt
		}
		if t.leftOut {
			s.LostSkipped++
			return
		}
		s.LostRecords++
	}
	switch {
	case t.kept:
		s.StopsAdded += t.stopsAdded
		s.StopsMissing += t.stopsMissing
		s.StopsInside += t.stopsInside
		s.Inexact += t.inexact
		s.Given += t.given
		s.Behind += t.behind
		s.Raw += ones(t.raw)
		s.Merged += ones(t.merged)
		s.Chosen += ones(t.chosen)
	case t.empty > 0 && !t.cut && !t.skipped:
		s.EmptyRecords++
	case !t.skipped:
		s.NoLoss++
	}
	s.Cut += ones(t.cut)
	s.Skipped += ones(t.skipped)
}

func ones(b bool) int {
	if b {
		return 1
	}
	return 0
}

// count fills in what packing decides.
func (p *packed) count(targets, nCtx int) {
	s := &p.stats
	s.Examples, s.Windows, s.TrainedTokens = len(p.spans), p.len(), targets
	for _, e := range p.spans {
		s.Tokens += e.len() - 1
	}
	if places := s.Windows * nCtx; places > 0 {
		s.Padding = float64(places-s.Tokens) / float64(places)
	}
}

// Lengths counts records by their tokens.
type Lengths map[int]int

func (l *Lengths) add(tokens int) {
	if *l == nil {
		*l = Lengths{}
	}
	(*l)[tokens]++
}

// rank returns the least, the middle and the greatest length; ok is false where there is none.
func (l Lengths) rank() (least, middle, most int, ok bool) {
	if len(l) == 0 {
		return 0, 0, 0, false
	}
	n := 0
	for _, count := range l {
		n += count
	}
	lengths := slices.Sorted(maps.Keys(l))
	before := 0
	for _, tokens := range lengths {
		if before += l[tokens]; before > (n-1)/2 {
			return lengths[0], tokens, lengths[len(lengths)-1], true
		}
	}
	panic("data: internal error: no middle length")
}

// Notes says in sentences what became of the data where that is not what the user would expect. nCtx is the length of a
// window in tokens.
func (s Stats) Notes(nCtx int) (lines []string) {
	say := func(n int, format string, args ...any) {
		if n > 0 {
			lines = append(lines, fmt.Sprintf("%d of %d records ", n, s.Records)+fmt.Sprintf(format, args...))
		}
	}
	tell := func(n int, format string, args ...any) {
		if n > 0 {
			lines = append(lines, fmt.Sprintf("%d ", n)+fmt.Sprintf(format, args...))
		}
	}
	if s.Source != nil {
		lines = append(lines, s.Source.Notes...)
	}
	say(s.Cut, "are longer than the context and were cut to %d tokens", nCtx)
	say(s.Skipped, "are longer than %d tokens and were skipped", nCtx)
	say(s.NoLoss, "have nothing to learn, or nothing left after the cut, and were left out")
	tell(s.Empty, "empty answers are not learned; %d records have no other and were left out", s.EmptyRecords)
	say(s.LostRecords, "lose something by the chat template and are learned without it, the first is %s", s.LostFirst)
	say(s.LostSkipped, "lose something by the chat template and were left out, the first is %s", s.LostFirst)
	say(s.Raw, "are prompt and completion, learned as they stand, without the model's chat template that a chatting app puts around them: \"prompt\" and \"response\", or messages, are written by it")
	say(s.Merged, "have a system text, for which the chat template has no place: it is put in front of the message behind it, as llama-server does")
	say(s.Chosen, "have a chosen and a rejected answer: the chosen one is learned, the rejected one is not used")
	tell(s.Given, "answers are learned as they are, behind the generation prompt, because the chat template would cut their thoughts")
	tell(s.Behind, "messages stand behind the last answer of their record, where nothing is learned from them")
	tell(s.StopsInside, "answers have a token to stop at before their end: an app would end there")
	tell(s.StopsMissing, "answers end without a token to stop at: the model will not learn to stop there")
	tell(s.Inexact, "answers follow other text than an app will send, because the chat template begins answers itself")
	return lines
}

// Source tells what records were read from.
type Source struct {
	Files      int      // that were read
	Format     string   // of the records
	Fields     []string // that make up the format
	Records    int      // of all parts
	Bad        int      // records that could not be read and were left out
	Unused     int      // fields that were not read
	Duplicates int      // records that say nearly what an earlier one says
	Notes      []string // what else there is to know, in sentences
}

// describe sums up a source that was read.
func (s *source) describe(records int, parts split) *Source {
	d := &Source{Files: len(s.files), Records: records, Bad: s.badCount, Unused: len(s.unused), Duplicates: parts.near, Notes: s.notes()}
	if s.first != nil {
		d.Format, d.Fields = s.first.name, s.first.fields
	}
	if parts.equalOnly {
		d.Notes = append(d.Notes, "nearly all records are near-duplicates of one another: what is held out is like what is trained on")
	}
	return d
}
