package data

import (
	"fmt"
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
	Lengths       []int   // tokens of each record, before a cut, ordered

	Source *Source // what all parts were read from; nil of plain texts, and of what was held out
}

// fit counts a record and returns those of its examples that are trained on, none longer
// than the context.
func (s *Stats) fit(r encoded, o options) []example {
	s.Records++
	var kept []example
	cut, skipped := false, false
	length := 0
	for _, e := range r.examples {
		length = max(length, len(e.Tokens))
		if len(e.Tokens)-1 > o.NCtx {
			if o.LongRecords == skipLong {
				skipped = true
				continue
			}
			cut = true
			e = example{e.Tokens[:o.NCtx+1], e.LossMask[:o.NCtx+1]}
		}
		if e.targets() > 0 {
			kept = append(kept, e)
		}
	}
	s.Lengths = append(s.Lengths, length)
	s.Empty += r.empty
	if len(r.lost) > 0 {
		if s.LostFirst == "" {
			s.LostFirst = fmt.Sprintf("%s: the %s", place2(r.path, r.line), lossText(r.lost))
		}
		if r.leftOut {
			s.LostSkipped++
			return nil
		}
		s.LostRecords++
	}
	switch {
	case len(kept) > 0:
		s.StopsAdded += r.stopsAdded
		s.StopsMissing += r.stopsMissing
		s.StopsInside += r.stopsInside
		s.Inexact += r.inexact
		s.Given += r.given
		s.Behind += r.behind
		s.Raw += ones(r.raw)
		s.Merged += ones(r.merged)
		s.Chosen += ones(r.chosen)
	case r.empty > 0 && !cut && !skipped:
		s.EmptyRecords++
	case !skipped:
		s.NoLoss++
	}
	if cut {
		s.Cut++
	}
	if skipped {
		s.Skipped++
	}
	return kept
}

func ones(b bool) int {
	if b {
		return 1
	}
	return 0
}

// count fills in what packing decides.
func (w *Windows) count() {
	s := &w.stats
	slices.Sort(s.Lengths)
	s.Examples, s.Windows = len(w.examples), len(w.windows)
	for _, e := range w.examples {
		s.Tokens += len(e.Tokens) - 1
		s.TrainedTokens += e.targets()
	}
	if places := s.Windows * w.nCtx; places > 0 {
		s.Padding = float64(places-s.Tokens) / float64(places)
	}
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
func (s *source) describe(records []encoded, parts split) *Source {
	d := &Source{Files: len(s.files), Records: len(records), Bad: len(s.bad), Unused: len(s.unused), Duplicates: parts.near, Notes: s.notes()}
	if s.first != nil {
		d.Format, d.Fields = s.first.name, s.first.fields
	}
	if parts.equalOnly {
		d.Notes = append(d.Notes, "nearly all records are near-duplicates of one another: what is held out is like what is trained on")
	}
	return d
}
