package data

import (
	"encoding/binary"
	"io"
	"unsafe"
)

// Window is one row of a batch, as the model is trained on it. All slices are [n_ctx].
type Window struct {
	Tokens   []int32   // what the model reads
	Targets  []int32   // Targets[i] is the token to predict behind Tokens[i]
	Pos      []int32   // position in its document: each begins at 0
	Doc      []int32   // number of the document in the window, from 0; attention stays inside one. Padding is the last
	LossMask []float32 // 1 where the target is learned, of a class its weight, else 0
}

// Blank returns a window of padding only, to fill a batch.
func Blank(nCtx int) Window {
	w := newWindow(nCtx)
	w.pad(0, 0)
	return w
}

// Reading returns a window of one document, tokens, of which nothing is learned. There may be at most nCtx of them.
func Reading(tokens []int32, nCtx int) Window {
	w := newWindow(nCtx)
	for i, id := range tokens {
		w.Tokens[i], w.Pos[i] = id, int32(i)
	}
	w.pad(len(tokens), 1)
	return w
}

// newWindow puts the four integer rows into one allocation.
func newWindow(n int) Window {
	ints := make([]int32, 4*n)
	row := func(i int) []int32 { return ints[i*n : (i+1)*n : (i+1)*n] }
	return Window{row(0), row(1), row(2), row(3), make([]float32, n)}
}

// WriteTo writes tokens, targets, positions, documents and loss mask, little-endian, to w, whose errors it returns.
func (w Window) WriteTo(to io.Writer) (n int64, err error) {
	for _, row := range [][]int32{w.Tokens, w.Targets, w.Pos, w.Doc, unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(w.LossMask))), len(w.LossMask))} {
		b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(row))), 4*len(row))
		if !littleEndian {
			b = nil
			for _, x := range row {
				b = binary.LittleEndian.AppendUint32(b, uint32(x))
			}
		}
		k, err := to.Write(b)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// pad makes the places from at on a document of their own: token 0, which every vocabulary
// has, weight 0.
func (w *Window) pad(at int, doc int32) {
	for i := at; i < len(w.Tokens); i++ {
		w.Pos[i], w.Doc[i] = int32(i-at), doc
	}
}

// Fill adds blank windows, which have no place in the loss, up to n.
func Fill(windows []Window, n int) []Window {
	for len(windows) < n {
		windows = append(windows[:len(windows):len(windows)], Blank(len(windows[0].Tokens)))
	}
	return windows
}

// TrainedTokens counts the places of the windows that are in the loss.
func TrainedTokens(windows []Window) (n int64) {
	for _, w := range windows {
		for _, weight := range w.LossMask {
			if weight != 0 {
				n++
			}
		}
	}
	return n
}

// TotalWeight returns the sum of the windows' loss masks: what a mean loss over them is divided by.
func TotalWeight(windows []Window) (sum float64) {
	for _, w := range windows {
		for _, weight := range w.LossMask {
			sum += float64(weight)
		}
	}
	return sum
}

// Documents cuts a packed window into its documents, without those that have no place in the loss.
// They share the window's memory; Doc is not set.
func (w Window) Documents() (docs []Window) {
	for from := 0; from < len(w.Tokens); {
		to := from
		for to < len(w.Tokens) && w.Doc[to] == w.Doc[from] {
			to++
		}
		doc := Window{Tokens: w.Tokens[from:to], Targets: w.Targets[from:to], Pos: w.Pos[from:to], LossMask: w.LossMask[from:to]}
		if TrainedTokens([]Window{doc}) > 0 {
			docs = append(docs, doc)
		}
		from = to
	}
	return docs
}
