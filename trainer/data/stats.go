package data

import "fmt"

// Stats count what became of a part of a dataset, for the command to tell.
type Stats struct {
	Records int // read from the file; a plain text is one
	Cut     int // records of which the end did not fit the context
	Skipped int // records left out because they did not fit (options.LongRecords)
	NoLoss  int // records left out because nothing in them is learned, or nothing that is left after the cut

	StopsAdded   int // answers that got an EOS, because the chat template prints no end of turn
	StopsMissing int // answers inside a chat that end without a token to stop at
	Inexact      int // answers behind other text than an app's, because of a template that begins answers itself

	Examples      int     // documents in the windows
	Tokens        int     // places in the windows that hold a token
	TrainedTokens int     // targets in the loss
	Windows       int     // of NCtx places each
	Padding       float64 // part of all places that is empty, 0 to 1
}

// fit counts a record and returns those of its examples that are trained on, none longer
// than the context.
func (s *Stats) fit(r encoded, o options) []example {
	s.Records++
	var kept []example
	cut, skipped := false, false
	for _, e := range r.examples {
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
	switch {
	case len(kept) > 0:
		s.StopsAdded += r.stopsAdded
		s.StopsMissing += r.stopsMissing
		s.Inexact += r.inexact
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

// count fills in what packing decides.
func (w *Windows) count() {
	s := &w.stats
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
	say(s.Cut, "are longer than the context and were cut to %d tokens", nCtx)
	say(s.Skipped, "are longer than %d tokens and were skipped", nCtx)
	say(s.NoLoss, "have nothing to learn, or nothing left after the cut, and were left out")
	if s.StopsMissing > 0 {
		lines = append(lines, fmt.Sprintf("%d answers end without a token to stop at: the model will not learn to stop there", s.StopsMissing))
	}
	if s.Inexact > 0 {
		lines = append(lines, fmt.Sprintf("%d answers follow other text than an app will send, because the chat template begins answers itself", s.Inexact))
	}
	return lines
}
