// Package merge puts adapters into the weights of a base: a GGUF with
// W + Σ scale·ΔW in the place of each adapted W, for apps that load no adapters.
//
// Each tensor keeps the type it has in the base, or takes one type that is asked for.
// All else is the base's, byte for byte: keys, the order of tensors, alignment, the
// data of what no adapter is on. The result is GGUF 3 in little endian, in one file or
// split as llama.cpp splits, whatever the base was.
//
// An adapted weight is decoded, changed and encoded again a tile of rows at a time, so
// the memory is that of some tiles and of one weight's factors in F32, however large the
// model and the adapters are.
// A row that no adapter changes keeps its bytes. What rounding makes of the changes is
// measured on the way, see [Tensor].
//
//	r, err := merge.Merge(ctx, merge.Config{Model: "base.gguf", Out: "merged.gguf",
//		Adapters: []merge.Adapter{{Path: "adapter.gguf", Scale: 1}}}, nil)
package merge

import (
	"context"
	"fmt"
	"math"
	"os"

	"finetune/gguf"
)

// Config says what is merged. It is not changed.
type Config struct {
	Model    string    // the base, a GGUF; of a split one the first part
	Adapters []Adapter // at least one; they add up
	Out      string    // the GGUF to write
	// Classifier is a file of package classify that becomes a part of the model; empty is none.
	Classifier string
	Force      bool // replace a file that is there

	// Type is that of the adapted tensors; nil keeps each its own. Rows that are no
	// whole blocks of it get the next best type, as llama.cpp's quantizer chooses it.
	Type *gguf.Type

	// IMatrix is a file of package imatrix, by which the encoder weighs its errors;
	// empty is none, and all columns count alike.
	IMatrix string

	// SplitMaxSize splits what is larger, in bytes; 0 writes one file. The parts of
	// m.gguf are m-00001-of-0000N.gguf and so on.
	SplitMaxSize int64
}

// Adapter is a file that [adapter.Load] reads, a GGUF LoRA, a Dual LoRA or a DoRA, and the
// factor that its ΔW is taken with: llama.cpp's user scale.
type Adapter struct {
	Path  string
	Scale float32
}

// Result is what was written.
type Result struct {
	Files   []string `json:"files"` // the one to open first
	Bytes   int64    `json:"bytes"` // of all files
	Tensors []Tensor `json:"tensors"`
}

// Tensor is what became of an adapted tensor. W is the weight as the base has it,
// W' = W + ΔW, Q(W') what the file has of that, norms are Frobenius'.
type Tensor struct {
	Name     string `json:"name"`
	BaseType string `json:"base_type"`
	Type     string `json:"type"`
	Weighted bool   `json:"weighted"` // the encoder had an importance of the columns

	Change    float64 `json:"change"`     // ‖ΔW‖ / ‖W‖, 0 if W is zeros
	Error     float64 `json:"error"`      // ‖Q(W') − W'‖ / ‖W'‖
	TypeError float64 `json:"type_error"` // the same of normally distributed numbers: what the type does to any weight

	// Lost is ‖Q(W') − W'‖ / ‖ΔW‖, the rounding beside the change: above 1 it is the
	// larger of the two. Kept is ⟨Q(W') − W, ΔW⟩ / ‖ΔW‖², how much of the change is
	// there in its own direction: 1 is all of it, whatever noise lies on top.
	Lost float64 `json:"lost"`
	Kept float64 `json:"kept"`
}

// Check reports what [Merge] would refuse, without writing anything.
func Check(c Config) error {
	m, err := open(c)
	if err != nil {
		return err
	}
	return m.close()
}

// Merge writes the merged model. progress, if not nil, is told after each tensor how
// many are done.
//
// Refused before any work are adapters that [adapter.Load] refuses or whose shapes are
// not the base's, scales and types that cannot be, a type that needs an importance and
// has none (quant.NeedsImportance), an importance of other columns, and an Out that is
// one of the files it is made of, by whatever name, or that is there without Force. An adapter of another base that
// fits in shape is taken: [adapter.Adapter.CheckBase] tells.
//
// After an error, ctx's among them, there is no file.
func Merge(ctx context.Context, c Config, progress func(done, total int)) (*Result, error) {
	m, err := open(c)
	if err != nil {
		return nil, err
	}
	defer m.close()
	m.ctx, m.progress = ctx, progress
	files, err := m.builder.WriteSplit(c.Out, c.partBytes())
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, fmt.Errorf("merge: stopped, nothing was written: %w", ctx.Err())
	case err != nil:
		return nil, err
	}
	r := &Result{Files: files, Tensors: m.tensors}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		r.Bytes += info.Size()
	}
	return r, nil
}

// partBytes returns the most that a file may have.
func (c Config) partBytes() int64 {
	if c.SplitMaxSize == 0 {
		return math.MaxInt64
	}
	return c.SplitMaxSize
}
