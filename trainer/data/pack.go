package data

import (
	"math/bits"
	"runtime"
)

// Windows are a dataset packed to the context. They are built on demand from the tokens, four bytes each in memory or, of large
// data, in a mapped file. Nothing is changed after they are made: goroutines may share them.
type Windows struct {
	nCtx  int
	words []word // of all examples; those held out lie there too
	packed
	state []byte // what a hash over all windows has come to, see Sum; nil: none has gone over them
	owner *owner // of the memory below the lists
	pairs bool   // examples are texts that belong together

	names   []string  // of the classes, see Classes
	weights []float32 // of the classes in the loss; nil: 1 each

	ranks    bool    // targets are relevances, see Relevance
	greatest float32 // relevance, which counts as 1; 0: each counts as it is
}

// packed says which examples are in which window.
type packed struct {
	spans []span   // of the examples, in the order of the files
	first []uint32 // [windows+1] where in order the examples of a window begin
	order []uint32 // numbers of the examples, window by window
	stats Stats
}

// owner keeps what the lists of windows lie in.
type owner struct {
	mapped bool // pages of a file, which the system can take back
}

// Len returns the number of windows, 0 for nil.
func (w *Windows) Len() int {
	if w == nil {
		return 0
	}
	return w.len()
}

func (p *packed) len() int { return max(len(p.first)-1, 0) }

// NCtx returns the length of a window in tokens.
func (w *Windows) NCtx() int { return w.nCtx }

// Classes returns the labels of a classification: the target n of a document is of class n. Nil where there is none.
func (w *Windows) Classes() []string { return w.names }

// Stats returns the counts of this part of the dataset.
func (w *Windows) Stats() Stats { return w.stats }

// Bytes returns the memory that the dataset takes: its tokens, which windows are built from on demand. Pages of a mapped
// file are not counted.
func (w *Windows) Bytes() int64 {
	if w.owner != nil && w.owner.mapped {
		return 0
	}
	n := 8*int64(len(w.spans)) + 4*int64(len(w.first)+len(w.order))
	for _, s := range w.spans {
		n += 4 * int64(s.len())
	}
	return n
}

// All builds every window at once: 20 bytes a place. Windows that are only looked at one by
// one are cheaper by At.
func (w *Windows) All() []Window {
	all := make([]Window, w.Len())
	for i := range all {
		all[i] = w.At(i)
	}
	return all
}

// in returns the numbers of the examples of window i.
func (p *packed) in(i int) []uint32 { return p.order[p.first[i]:p.first[i+1]] }

// Examples returns the documents of window i, in order.
func (w *Windows) Examples(i int) []example {
	out := make([]example, 0, len(w.in(i)))
	for _, e := range w.in(i) {
		out = append(out, w.example(int(e)))
	}
	runtime.KeepAlive(w.owner)
	return out
}

// example returns a document by its number.
func (w *Windows) example(i int) example {
	words := w.of(w.spans[i])
	e := example{make([]int32, len(words)), make([]bool, len(words))}
	for j, x := range words {
		e.Tokens[j], e.LossMask[j] = int32(x&^learnedBit), x&learnedBit != 0
	}
	runtime.KeepAlive(w.owner)
	return e
}

// of returns the words of an example.
func (w *Windows) of(s span) []word { return w.words[s.from() : s.from()+int64(s.len())] }

// At builds window i, 0 <= i < Len(). The slices belong to the caller.
func (w *Windows) At(i int) Window {
	win := newWindow(w.nCtx)
	at, doc := 0, int32(0)
	for _, e := range w.in(i) {
		words := w.of(w.spans[e])
		if w.pairs {
			at, doc = win.fillPairs(words, at, doc)
			continue
		}
		for j, x := range words[:len(words)-1] {
			next := words[j+1]
			win.Tokens[at], win.Targets[at] = int32(x&^learnedBit), int32(next&^learnedBit)
			win.Pos[at], win.Doc[at] = int32(j), doc
			if next&learnedBit != 0 {
				win.LossMask[at], win.Targets[at] = w.weight(win.Targets[at]), w.target(win.Targets[at])
			}
			at++
		}
		doc++
	}
	win.pad(at, doc)
	runtime.KeepAlive(w.owner)
	return win
}

// weight returns what a target counts in the loss.
func (w *Windows) weight(target int32) float32 {
	if w.weights == nil {
		return 1
	}
	return w.weights[target]
}

// target returns a target as it is learned.
func (w *Windows) target(target int32) int32 {
	if w.greatest == 0 {
		return target
	}
	return targetOf(Relevance(target) / w.greatest)
}

// pack puts examples into windows: longest first, each into the fullest window that still
// holds it (best fit, decreasing), the earlier one of two as full. An example of k tokens takes
// k-1 places, one for each pair of a token and its target. Every example has 2 to nCtx+1 tokens. targets of all their tokens are
// learned.
func pack(spans []span, targets, nCtx int, stats Stats) packed {
	order := byLength(spans, nCtx)
	room := newShelves(nCtx)
	window := make([]uint32, len(order)) // of each example, in that order
	windows := 0
	for i, e := range order {
		places := spans[e].len() - 1
		at, free := room.take(places)
		if at < 0 {
			at, free = windows, nCtx
			windows++
		}
		window[i] = uint32(at)
		room.put(at, free-places)
	}
	p := packed{spans: spans, stats: stats}
	p.first, p.order = grouped(order, window, windows)
	p.count(targets, nCtx)
	return p
}

// byLength lists the examples, the longest first, those of one length in their order.
func byLength(spans []span, nCtx int) []uint32 {
	next := make([]int, nCtx+3) // where the next of a length goes: [l+1] counts those of length l, from the end
	for _, s := range spans {
		next[nCtx+1-s.len()+1]++
	}
	for i := 1; i < len(next); i++ {
		next[i] += next[i-1]
	}
	order := make([]uint32, len(spans))
	for i, s := range spans {
		at := &next[nCtx+1-s.len()]
		order[*at] = uint32(i)
		*at++
	}
	return order
}

// grouped sorts what is in order by window, and leaves the order within each.
func grouped(order, window []uint32, windows int) (first, sorted []uint32) {
	first = make([]uint32, windows+1)
	for _, at := range window {
		first[at+1]++
	}
	for i := 1; i < len(first); i++ {
		first[i] += first[i-1]
	}
	next := append([]uint32(nil), first...)
	sorted = make([]uint32, len(order))
	for i, e := range order {
		sorted[next[window[i]]] = e
		next[window[i]]++
	}
	return first, sorted
}

// shelves keep the windows by the places left in them.
type shelves struct {
	windows [][]int  // [nCtx+1] windows with that many places left, a queue
	some    []uint64 // bit n: shelf n holds a window
}

func newShelves(nCtx int) *shelves {
	return &shelves{make([][]int, nCtx+1), make([]uint64, nCtx/64+1)}
}

// take removes the window with the least room that is enough, -1 if there is none.
func (s *shelves) take(places int) (window, free int) {
	word, mask := places/64, ^uint64(0)<<(places%64)
	for ; word < len(s.some); word, mask = word+1, ^uint64(0) {
		if found := s.some[word] & mask; found != 0 {
			free = word*64 + bits.TrailingZeros64(found)
			shelf := s.windows[free]
			window, s.windows[free] = shelf[0], shelf[1:]
			if len(shelf) == 1 {
				s.some[word] &^= 1 << (free % 64)
			}
			return window, free
		}
	}
	return -1, 0
}

func (s *shelves) put(window, free int) {
	if free == 0 {
		return
	}
	s.windows[free] = append(s.windows[free], window)
	s.some[free/64] |= 1 << (free % 64)
}
