package newmodel

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"finetune/gguf"
)

// architecture is what llama.cpp wants to find in a file of one general.architecture.
type architecture struct {
	epsilon     string  // the key of the norms' epsilon, after "attention."
	rotated     float64 // share of each head that is rotated; 0 for learned positions
	freeHeadDim bool    // HeadDim need not be Embd/Heads
	neverTied   bool
	softcap     bool // gemma2's attention with soft caps and, every other layer, a window

	// tensors lists each tensor with its shape, fastest dimension first, in the words
	// of dims. "blk.*" stands for every block. output.weight is left out when tied.
	tensors string
}

const (
	rms = "layer_norm_rms_epsilon"
	ln  = "layer_norm_epsilon"
)

// Architectures returns the names that Spec.Arch may have.
func Architectures() []string { return slices.Sorted(maps.Keys(architectures)) }

// CanTie reports whether token_embd.weight may be the output matrix too.
func CanTie(arch string) bool { return !architectures[arch].neverTied }

// alwaysTied reports whether there is no other output matrix than token_embd.weight.
func (a architecture) alwaysTied() bool { return !strings.Contains(a.tensors, outputWeight) }

// gated reports whether the feed-forward network has two matrices at its entrance.
func (a architecture) gated() bool {
	return strings.Contains(a.tensors, "ffn_gate.weight") || strings.Contains(a.tensors, "gate+up")
}

// Names of tensors that are treated as no other.
const (
	outputWeight   = "output.weight"
	tokenWeight    = "token_embd.weight"
	positionWeight = "position_embd.weight"
)

// dims gives the words of the tensor tables their numbers.
func (s Spec) dims() map[string]int64 {
	q, kv := s.HeadDim*s.Heads, s.HeadDim*s.HeadsKV
	return map[string]int64{
		"embd": int64(s.Embd), "vocab": int64(s.Vocabulary.Len()), "ctx": int64(s.Ctx), "head": int64(s.HeadDim),
		"q": int64(q), "kv": int64(kv), "qkv": int64(q + 2*kv), // qkv: all three in one matrix
		"ff": int64(s.FF), "gate+up": int64(2 * s.FF),
	}
}

// minWindow is the narrowest sliding window that package model takes.
const minWindow = 4

// extra returns the keys that only some architectures have.
func (a architecture) extra(s Spec) []gguf.KV {
	if !a.softcap {
		return nil
	}
	return []gguf.KV{
		{Key: "attn_logit_softcapping", Value: float32(50)},
		{Key: "final_logit_softcapping", Value: float32(30)},
		{Key: "attention.sliding_window", Value: uint32(max(s.Ctx/4, minWindow))},
	}
}

// Tensor is one tensor of a model.
type Tensor struct {
	Name  string
	Type  gguf.Type
	Shape []int64 // fastest first
}

// Elements returns the number of elements.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// tensors reads the table of the architecture, block by block.
func (s Spec) tensors(a architecture) []Tensor {
	var before, block, after []Tensor
	part := &before
	for line := range strings.Lines(strings.TrimSpace(a.tensors)) {
		fields := strings.Fields(line)
		if fields[0] == outputWeight && s.Tied {
			continue
		}
		if strings.HasPrefix(fields[0], "blk.*.") {
			part = &block
		} else if part == &block {
			part = &after
		}
		*part = append(*part, s.tensor(fields[0], fields[1:]))
	}
	all := before
	for i := range s.Layers {
		for _, t := range block {
			t.Name = strings.Replace(t.Name, "*", fmt.Sprint(i), 1)
			all = append(all, t)
		}
	}
	return append(all, after...)
}

// tensor decides the type of a tensor by its name and shape: matrices have the model's, but
// for the positions, which llama.cpp's own tools keep in F32 like norms and biases.
func (s Spec) tensor(name string, words []string) Tensor {
	t := Tensor{Name: name, Type: gguf.TypeF32}
	dims := s.dims()
	for _, word := range words {
		n, ok := dims[word]
		if !ok {
			panic(fmt.Sprintf("newmodel: internal error: tensor %q: no dimension %q", name, word))
		}
		t.Shape = append(t.Shape, n)
	}
	if len(t.Shape) == 2 && name != positionWeight {
		t.Type = s.matrixType(t.Shape[0])
	}
	return t
}

// matrixType returns the type of a matrix with rows of n_in elements.
func (s Spec) matrixType(nIn int64) gguf.Type {
	if nIn%int64(s.Type.BlockSize()) != 0 {
		return gguf.TypeF16
	}
	return s.Type
}

// start returns the normal distribution that a tensor's numbers are drawn from when a
// training begins: norms pass on what they get, biases are nothing, matrices are of InitStd,
// or of 1/√n_in where that is 0, which keeps the size of what passes through. The two
// matrices of each block that write to the residual stream are smaller by √(2·layers), so
// that the sum of all blocks does not grow with their number.
func (s Spec) start(t Tensor) (mean, std float64) {
	switch {
	case strings.HasSuffix(t.Name, ".bias"):
		return 0, 0
	case len(t.Shape) == 1:
		return 1, 0
	}
	std = s.InitStd
	if std == 0 {
		std = 1 / math.Sqrt(float64(t.Shape[0]))
	}
	if strings.HasSuffix(t.Name, "attn_output.weight") || strings.HasSuffix(t.Name, "ffn_down.weight") {
		std /= math.Sqrt(float64(2 * s.Layers))
	}
	return 0, std
}
