package data

import (
	"cmp"
	"math/bits"
	"slices"
	"unsafe"
)

// Windows are a dataset packed to the context. They are built on demand from the tokens:
// a token takes five bytes. Nothing is changed after loadFile: goroutines may share it.
type Windows struct {
	nCtx     int
	examples []example
	windows  [][]int32 // numbers of the examples in each window
	stats    Stats
}

// Len returns the number of windows, 0 for nil.
func (w *Windows) Len() int {
	if w == nil {
		return 0
	}
	return len(w.windows)
}

// NCtx returns the length of a window in tokens.
func (w *Windows) NCtx() int { return w.nCtx }

// Stats returns the counts of this part of the dataset.
func (w *Windows) Stats() Stats { return w.stats }

// Bytes returns the memory that the dataset takes: its tokens, which windows are built from on demand.
func (w *Windows) Bytes() int64 {
	const list = 24 // bytes of a slice's header
	n := int64(len(w.windows)) * list
	var train *bool
	for _, e := range w.examples {
		n += 2*list + 4*int64(len(e.Tokens)) + 4 // and its number in a window
		if first := unsafe.SliceData(e.LossMask); first != train {
			train, n = first, n+int64(len(e.LossMask)) // pieces of a text share theirs
		}
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

// Examples returns the documents of window i, in order. The caller must not change them.
func (w *Windows) Examples(i int) []example {
	out := make([]example, len(w.windows[i]))
	for j, e := range w.windows[i] {
		out[j] = w.examples[e]
	}
	return out
}

// At builds window i, 0 <= i < Len(). The slices belong to the caller.
func (w *Windows) At(i int) Window {
	win := newWindow(w.nCtx)
	at, doc := 0, int32(0)
	for _, e := range w.windows[i] {
		x := w.examples[e]
		for j := range len(x.Tokens) - 1 {
			win.Tokens[at], win.Targets[at] = x.Tokens[j], x.Tokens[j+1]
			win.Pos[at], win.Doc[at] = int32(j), doc
			if x.LossMask[j+1] {
				win.LossMask[at] = 1
			}
			at++
		}
		doc++
	}
	win.pad(at, doc)
	return win
}

// pack puts examples into windows: longest first, each into the fullest window that still
// holds it (best fit, decreasing), the earlier one of two as full. An example of k tokens takes
// k-1 places, one for each pair of a token and its target. Every example has 2 to nCtx+1 tokens.
func pack(examples []example, nCtx int, stats Stats) *Windows {
	order := make([]int32, len(examples))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		return cmp.Compare(len(examples[b].Tokens), len(examples[a].Tokens))
	})
	w := &Windows{nCtx: nCtx, examples: examples, stats: stats}
	room := newShelves(nCtx)
	for _, e := range order {
		places := len(examples[e].Tokens) - 1
		i, free := room.take(places)
		if i < 0 {
			i, free = len(w.windows), nCtx
			w.windows = append(w.windows, nil)
		}
		w.windows[i] = append(w.windows[i], e)
		room.put(i, free-places)
	}
	w.count()
	return w
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
