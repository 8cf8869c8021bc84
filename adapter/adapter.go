// Package adapter holds what a run trains: the factors of LoRA, Dual LoRA and DoRA,
// and the weights that they are put on. It reads and writes their files, and makes of
// what is no LoRA the plain GGUF LoRA that llama.cpp loads.
//
// The shapes follow ggml, fastest dimension first. Legend: W is a base weight
// [n_in, n_out] and y = (W + ΔW)·x; A and C are [n_in, rank], B and D are
// [rank, n_out], the layout of PEFT and of a GGUF LoRA. The methods are described
// at [LoRA] (arXiv 2106.09685), [Dual] (arXiv 2512.03402) and [DoRA] (arXiv
// 2402.09353), and stand in one table, see [Methods].
//
// Refused are weights that are not plain matrices of a block: embeddings, the
// output head, norms, biases and the three-dimensional weights of experts.
//
//	targets, err := adapter.ParseTargets("all-linear")
//	tensors, err := targets.Select(model.Tensors())
//	a, err := adapter.Build(adapter.MethodDual, 16, 32, tensors)
//	a.Init(1)
//	err = a.Save("adapter.gguf") // and Load, Decompose, WriteLoRA, WriteExact
//
// [Adapter.Scaled], [Rerank] and [Combine] make adapters of adapters, [Diff] and
// [SpectrumOf] say what is in them; package fileops does all of that to files.
//
// A file that is damaged is a [*FormatError], one that is valid but not handled a
// [*UnsupportedError]; errors of package gguf and of the file system pass through.
package adapter

import (
	"fmt"
	"slices"

	"finetune/gguf"
	"finetune/model"
)

// Adapter is a set of factors with the identity of the base that they change.
//
// It may be read by several goroutines at once.
type Adapter struct {
	Architecture string   // general.architecture of the base, such as "llama"
	BaseName     string   // general.name of the base, for people; may be empty
	BaseHash     string   // model.Identity.Hash of the base; empty if not known
	Weights      []Weight // by block, then by name; never two of one name, all of one method

	// Type is that of the factors in the file that was read, as LoRAOptions has it;
	// F32 if they were of several. In memory all are float32.
	Type gguf.Type

	// Meta are further keys for the file, such as "finetune.version". Keys that
	// the fields above are written under are ignored.
	Meta map[string]gguf.Value
}

// Weight is one adapted tensor of the base.
type Weight struct {
	Name string // of the base's tensor, such as "blk.0.attn_q.weight"
	Factors
}

// Build returns an adapter with zero factors for the tensors, which
// [Targets.Select] has chosen; its Architecture and the base's identity are for
// the caller to fill in. It returns the error of [CheckRank].
func Build(m Method, rank int, alpha float32, tensors []gguf.Tensor) (*Adapter, error) {
	return Recipe{Method: m, Rank: rank, Alpha: alpha}.Build(tensors)
}

// CheckRank reports a rank below the method's smallest, or above the smallest
// dimension of one of the tensors: from there on more rank buys nothing.
func CheckRank(m Method, rank int, tensors []gguf.Tensor) error {
	row, err := m.row()
	if err != nil {
		return err
	}
	if rank < row.minRank {
		return fmt.Errorf("adapter: rank %d: %s needs at least %d", rank, m, row.minRank)
	}
	for _, t := range tensors {
		if limit := min(t.Shape[0], t.Shape[1]); int64(rank) > limit {
			return fmt.Errorf("adapter: rank %d: tensor %q has shape %v, want a rank of at most %d", rank, t.Name, t.Shape, limit)
		}
	}
	return nil
}

// Init starts all factors from one seed, each from a stream of its own: ΔW = 0.
func (a *Adapter) Init(seed uint64) {
	for _, w := range a.Weights {
		w.Init(seed, w.Name)
	}
}

// Method returns the method of the weights' factors, "" if there are none. What an
// adapter was trained with, if that is known, is its Meta's [KeyMethod].
func (a *Adapter) Method() Method {
	if len(a.Weights) == 0 {
		return ""
	}
	return a.Weights[0].Method()
}

// Rank returns the largest rank of a weight. Adapters that [Build] made have one for
// all.
func (a *Adapter) Rank() int {
	rank := 0
	for _, w := range a.Weights {
		rank = max(rank, w.Rank())
	}
	return rank
}

// Alpha returns the alpha of the first weight, which is that of all in adapters that
// Build made: what makes llama.cpp's alpha/rank the scale of ΔW. The user's own may be
// another.
func (a *Adapter) Alpha() float32 {
	if len(a.Weights) == 0 {
		return 0
	}
	return a.Weights[0].alpha()
}

// Parameters returns the number of trainable parameters.
func (a *Adapter) Parameters() int {
	n := 0
	for _, w := range a.Weights {
		n += Parameters(w)
	}
	return n
}

// Tensors lists every factor under the name that it has in the file, such as
// "blk.0.attn_q.weight.dual_a", weight by weight. The matrices share the
// adapter's memory.
func (a *Adapter) Tensors() []Tensor {
	var all []Tensor
	for _, w := range a.Weights {
		for _, m := range w.Matrices() {
			all = append(all, Tensor{w.Name + "." + m.Suffix, m})
		}
	}
	return all
}

// Tensor is a factor with its full name.
type Tensor struct {
	Name string
	NamedFactor
}

// Weight returns the factors of a tensor of the base, and false if it has none.
func (a *Adapter) Weight(name string) (Weight, bool) {
	for _, w := range a.Weights {
		if w.Name == name {
			return w, true
		}
	}
	return Weight{}, false
}

func (a *Adapter) sort() {
	slices.SortFunc(a.Weights, func(v, w Weight) int { return model.CompareNames(v.Name, w.Name) })
}
