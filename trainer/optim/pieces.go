package optim

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// pieceElements is the work of one goroutine at a time, a fraction of a millisecond. It decides the order of sums, and so
// is the same on every machine.
const pieceElements = 1 << 15

// piece is elements [from, to) of one of several tensors.
type piece struct{ index, tensor, from, to int }

// of returns the piece of its tensor's data.
func (p piece) of(data [][]float32) []float32 { return data[p.tensor][p.from:p.to] }

// piecesOf cuts tensors of these lengths, in order.
func piecesOf(data [][]float32) (pieces []piece) {
	for i, d := range data {
		for from := 0; from < len(d); from += pieceElements {
			pieces = append(pieces, piece{len(pieces), i, from, min(from+pieceElements, len(d))})
		}
	}
	return pieces
}

// inPieces calls do for every piece of the tensors, from as many goroutines as can run.
func inPieces(data [][]float32, do func(p piece)) { runPieces(piecesOf(data), do) }

// sumPieces adds what do returns for every piece, in their order.
func sumPieces(data [][]float32, do func(p piece) float64) (sum float64) {
	pieces := piecesOf(data)
	sums := make([]float64, len(pieces))
	runPieces(pieces, func(p piece) { sums[p.index] = do(p) })
	for _, s := range sums {
		sum += s
	}
	return sum
}

func runPieces(pieces []piece, do func(p piece)) {
	var next atomic.Int64
	work := func() {
		for i := next.Add(1) - 1; i < int64(len(pieces)); i = next.Add(1) - 1 {
			do(pieces[i])
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(pieces)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}
