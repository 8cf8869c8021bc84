package graph

import (
	"math"

	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// role says what an input leaf carries. llama.cpp does not name its inputs; the operation that reads one tells.
type role int

const (
	roleTokens    role = iota // I32 [N], read by GET_ROWS of a table of tokenTables
	rolePositions             // I32 [N·k], read by ROPE or by GET_ROWS of a position embedding; k > 1 for M-RoPE
	rolePlaces                // I32 [N], each token's place in its document, read by the kernels of recurrent layers
	roleMask                  // F32 [T, T, 1, S], read by SOFT_MAX
	roleCounted               // F32 [N], read by the statistics of inputs
)

// input is a leaf that is written for every batch.
type input struct {
	role         role
	leaf         ggml.Tensor
	ints         []int32   // what llama.cpp wrote there for the traced batch, positions 0 to T-1 in every sequence
	maskTemplate []float32 // [T, T] of a mask: the traced entry for query position q (row) and key position k
	sign         int32     // -1 for negated positions, which turn a rotation back

	numbers mirror[int32]   // of a leaf of integers, once it has memory
	floats  mirror[float32] // of one of floats
}

// open finds the leaf's memory.
func (in *input) open() {
	if in.leaf.Type() == ggml.I32 {
		in.numbers = mirrorOf[int32](in.leaf, false)
	} else {
		in.floats = mirrorOf[float32](in.leaf, false)
	}
}

// fill writes the batch into the leaf. windows holds S windows of T tokens.
func (in *input) fill(b *bus, shape Shape, windows []data.Window) {
	switch in.role {
	case roleTokens:
		for s, w := range windows {
			copy(in.numbers.data[s*shape.Ctx:], w.Tokens)
		}
	case rolePositions:
		in.fillPositions(shape, windows)
	case rolePlaces:
		for s, w := range windows {
			copy(in.numbers.data[s*shape.Ctx:], w.Pos)
		}
	case roleMask:
		in.fillMask(shape, windows)
	case roleCounted:
		in.fillCounted(shape, windows)
	}
	in.numbers.push(b)
	in.floats.push(b)
}

// fillPositions writes the positions of the windows into the leaf [N·k], one block of N for each axis of the rotation. A
// block that was all zero in the trace (the last axis of M-RoPE on text) stays zero.
func (in *input) fillPositions(shape Shape, windows []data.Window) {
	ints, n := in.numbers.data, shape.tokens()
	for block := 0; block < len(ints); block += n {
		moves := shape.Ctx == 1 || in.ints[block+1] != 0
		for s, w := range windows {
			for i, pos := range w.Pos {
				if !moves {
					pos = 0
				}
				ints[block+s*shape.Ctx+i] = in.sign * pos
			}
		}
	}
}

// fillMask writes the mask [T, T, 1, S]: within a document the entry of maskTemplate for the two positions, -∞ between
// documents. That is exact, because causality, sliding windows and ALiBi's distances depend on the positions alone.
func (in *input) fillMask(shape Shape, windows []data.Window) {
	mask, ctx := in.floats.data, shape.Ctx
	hidden := float32(math.Inf(-1))
	for s, w := range windows {
		for q := range ctx {
			row := mask[(s*ctx+q)*ctx:][:ctx]
			for k := range row {
				if w.Doc[k] == w.Doc[q] {
					row[k] = in.maskTemplate[int(w.Pos[q])*ctx+int(w.Pos[k])]
				} else {
					row[k] = hidden
				}
			}
		}
	}
}
