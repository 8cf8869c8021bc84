package data

// Stats count what became of a part of a dataset, for the command to tell.
type Stats struct {
	Records   int // read from the file; a plain text is one
	Cut       int // records of which the end did not fit the context
	Skipped   int // records left out because they did not fit (Options.LongRecords)
	Untrained int // records left out because nothing in them is learned, or nothing that is left after the cut

	StopsAdded   int // answers that got an EOS, because the chat template prints no end of turn
	StopsMissing int // answers inside a chat that end without a token to stop at
	Inexact      int // answers behind other text than an app's, because of a template that begins answers itself

	Examples int     // documents in the windows
	Tokens   int     // places in the windows that hold a token
	Trained  int     // targets that are learned
	Windows  int     // of NCtx places each
	Padding  float64 // part of all places that is empty, 0 to 1
}

// fit counts a record and returns those of its examples that are trained on, none longer
// than the context.
func (s *Stats) fit(r encoded, o Options) []Example {
	s.Records++
	var kept []Example
	cut, skipped := false, false
	for _, e := range r.examples {
		if len(e.Tokens)-1 > o.NCtx {
			if o.LongRecords == Skip {
				skipped = true
				continue
			}
			cut = true
			e = Example{e.Tokens[:o.NCtx+1], e.Train[:o.NCtx+1]}
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
		s.Untrained++
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
		s.Trained += e.targets()
	}
	if places := s.Windows * w.nCtx; places > 0 {
		s.Padding = float64(places-s.Tokens) / float64(places)
	}
}
