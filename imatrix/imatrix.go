// Package imatrix reads and writes importance matrices: how strongly the inputs of
// each weight were driven by a text, and how much a loss depended on its outputs.
// Quantizers weigh their errors by it, and a projection keeps what matters to it.
//
// The files are llama.cpp's own (tools/imatrix/imatrix.cpp): a GGUF of general.type
// "imatrix" with two tensors in F32 for each weight, NAME.in_sum2 [n_in] and
// NAME.counts [1]. What llama-imatrix writes is read here, and the other way round; the
// plain sums NAME.in_sum of its newer versions are passed over. A third tensor of our
// own, NAME.out_grad2 [n_out], is passed over there. Its older format, imatrix.dat, is
// refused.
//
//	m, err := imatrix.Load("imatrix.gguf")
//	e, ok := m.Entries["blk.0.attn_q.weight"]
//	data, err := quant.Encode(t, weights, nIn, e.MeanSquares())
//
// A file that is damaged is a [*FormatError]; errors of package gguf and of the file
// system pass through.
package imatrix

import (
	"fmt"
	"math"
)

// FileName is the name that the matrix of a run has in its directory.
const FileName = "imatrix.gguf"

// Matrix holds sums of squares of the inputs of weights. It may be read by several
// goroutines at once.
type Matrix struct {
	Datasets  []string         // the texts, for people
	Chunks    int              // pieces of text that were computed
	ChunkSize int              // tokens in each
	Entries   map[string]Entry // by the weight's name, such as "blk.0.attn_q.weight"

	// Skipped names the weights of experts in the file, which have a count for each
	// expert: adapters on them are not supported, so nothing here asks for them.
	Skipped []string
}

// Entry is what a weight W [n_in, n_out] has read.
type Entry struct {
	Sum2   []float32 // [n_in], Σ x² over the tokens
	Tokens float32   // how many
	Grad2  []float32 // [n_out], Σ (dL/dy)² over the tokens for a loss L and y = W·x; nil where it is not known
}

// MeanSquares returns the mean of x² [n_in], the importance that package quant takes.
// A weight that has seen no token has ones, as llama.cpp's quantizer gives it.
func (e Entry) MeanSquares() []float32 {
	mean := make([]float32, len(e.Sum2))
	for i, sum := range e.Sum2 {
		mean[i] = 1
		if e.Tokens > 0 {
			mean[i] = sum / e.Tokens
		}
	}
	return mean
}

// RMS returns the root of the mean of x² [n_in], which package adapter takes as the
// inputs of a decomposition.
func (e Entry) RMS() []float32 {
	rms := e.MeanSquares()
	for i, v := range rms {
		rms[i] = float32(math.Sqrt(float64(v)))
	}
	return rms
}

// GradRMS returns the root of the mean of (dL/dy)² [n_out], which package adapter
// takes as the outputs of a decomposition; nil where it is not known.
func (e Entry) GradRMS() []float32 {
	if e.Grad2 == nil {
		return nil
	}
	return Entry{Sum2: e.Grad2, Tokens: e.Tokens}.RMS()
}

// check reports what cannot be a sum of squares or a number of tokens.
func (e Entry) check(weight string) error {
	switch {
	case len(e.Sum2) == 0:
		return fmt.Errorf("weight %q: has no inputs", weight)
	case !valid(e.Tokens):
		return fmt.Errorf("weight %q: counts %v tokens", weight, e.Tokens)
	}
	for i, sum := range e.Sum2 {
		if !valid(sum) {
			return fmt.Errorf("weight %q: the sum of squares of input %d is %v", weight, i, sum)
		}
		if e.Tokens > 0 && !valid(sum/e.Tokens) {
			return fmt.Errorf("weight %q: the mean square of input %d is %v over %v tokens", weight, i, sum/e.Tokens, e.Tokens)
		}
	}
	for i, sum := range e.Grad2 {
		if !valid(sum) || e.Tokens > 0 && !valid(sum/e.Tokens) {
			return fmt.Errorf("weight %q: the sum of squares of output gradient %d is %v over %v tokens", weight, i, sum, e.Tokens)
		}
	}
	return nil
}

// valid reports true for finite numbers of 0 and above.
func valid(v float32) bool { return v >= 0 && v <= math.MaxFloat32 }

// A FormatError reports a file that is no importance matrix, or a damaged one.
type FormatError struct {
	Path string
	Msg  string
}

func (e *FormatError) Error() string { return fmt.Sprintf("imatrix: %q: %s", e.Path, e.Msg) }
