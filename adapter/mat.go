package adapter

import (
	"fmt"

	"gonum.org/v1/gonum/blas/blas32"
)

// Mat is a dense matrix in ggml's order: NE[0] is the length of a row (the
// fastest dimension) and NE[1] the number of rows, so [n_in, rank] is rank rows
// of n_in. A base weight is [n_in, n_out], a batch of T activations [n_in, T].
type Mat struct {
	NE   [2]int
	Data []float32 // NE[0]*NE[1] elements, row after row
}

// NewMat returns a zero matrix [n, m]: m rows of n.
func NewMat(n, m int) Mat {
	return Mat{NE: [2]int{n, m}, Data: make([]float32, n*m)}
}

// Row returns row i, a view of NE[0] elements.
func (m Mat) Row(i int) []float32 {
	return m.Data[i*m.NE[0] : (i+1)*m.NE[0]]
}

// Clone returns a copy that shares nothing with m.
func (m Mat) Clone() Mat {
	return Mat{NE: m.NE, Data: append([]float32(nil), m.Data...)}
}

// rows returns rows row0 to row1-1 of m as a BLAS matrix over the same memory.
func (m Mat) rows(row0, row1 int) blas32.General {
	n := m.NE[0]
	return blas32.General{Rows: row1 - row0, Cols: n, Stride: n, Data: m.Data[row0*n : row1*n]}
}

// check panics unless m is [n, m1] and its data has that length: a wrong shape
// inside this package is a bug of the caller, not bad input.
func (m Mat) check(what string, n, m1 int) {
	if m.NE != [2]int{n, m1} || len(m.Data) != n*m1 {
		panic(fmt.Sprintf("adapter: internal error: %s is %v with %d elements, want [%d %d]", what, m.NE, len(m.Data), n, m1))
	}
}

// firstRows returns a copy of the first k rows: [n, k] of [n, m].
func (m Mat) firstRows(k int) Mat {
	return Mat{NE: [2]int{m.NE[0], k}, Data: append([]float32(nil), m.Data[:k*m.NE[0]]...)}
}

// firstColumns returns a copy of the first k columns: [k, m] of [n, m].
func (m Mat) firstColumns(k int) Mat {
	c := NewMat(k, m.NE[1])
	for i := range m.NE[1] {
		copy(c.Row(i), m.Row(i)[:k])
	}
	return c
}
