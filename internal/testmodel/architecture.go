package testmodel

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
	pre         string   // tokenizer.ggml.pre of a BPE tokenizer; empty for a SentencePiece one
	chat        []string // control tokens of chat templates, the last one ends a turn
	softcap     bool     // gemma2's attention with soft caps and, every other layer, a window

	// tensors lists each tensor with its shape, fastest dimension first, in the words
	// of dims. "blk.*" stands for every block. output.weight is left out when tied.
	tensors string
}

const (
	rms = "layer_norm_rms_epsilon"
	ln  = "layer_norm_epsilon"
)

var (
	chatML = []string{"<|im_start|>", "<|im_end|>"}
	// llama.cpp asks for <|endoftext|> in every model whose general.name says phi3.
	chatPhi3  = []string{"<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"}
	chatGemma = []string{"<start_of_turn>", "<end_of_turn>"}
)

// Architectures returns the names that Spec.Arch may have.
func Architectures() []string { return slices.Sorted(maps.Keys(architectures)) }

// dims gives the words of the tensor tables their numbers.
func (s Spec) dims() map[string]int64 {
	q, kv := s.HeadDim*s.Heads, s.HeadDim*s.HeadsKV
	return map[string]int64{
		"embd": int64(s.Embd), "vocab": int64(s.Vocab), "ctx": int64(s.Ctx), "head": int64(s.HeadDim),
		"q": int64(q), "kv": int64(kv), "qkv": int64(q + 2*kv), // qkv: all three in one matrix
		"ff": int64(s.FF), "gate+up": int64(2 * s.FF),
	}
}

// extra returns the keys that only some architectures have.
func (a architecture) extra(s Spec) []gguf.KV {
	if !a.softcap {
		return nil
	}
	return []gguf.KV{
		{Key: "attn_logit_softcapping", Value: float32(50)},
		{Key: "final_logit_softcapping", Value: float32(30)},
		{Key: "attention.sliding_window", Value: uint32(max(s.Ctx/4, 1))},
	}
}

// tensor is one tensor to be written.
type tensor struct {
	name  string
	typ   gguf.Type
	shape []int64 // fastest first
	std   float64 // of its numbers, around mean
	mean  float64
}

// tensors reads the table of the architecture, block by block.
func (s Spec) tensors(a architecture) []tensor {
	var before, block, after []tensor
	part := &before
	for line := range strings.Lines(strings.TrimSpace(a.tensors)) {
		fields := strings.Fields(line)
		if fields[0] == "output.weight" && s.Tied {
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
			t.name = strings.Replace(t.name, "*", fmt.Sprint(i), 1)
			all = append(all, t)
		}
	}
	return append(all, after...)
}

// tensor decides the type and the scale of a tensor by its name and shape.
func (s Spec) tensor(name string, words []string) tensor {
	t := tensor{name: name, typ: gguf.TypeF32}
	dims := s.dims()
	for _, word := range words {
		n, ok := dims[word]
		if !ok {
			panic(fmt.Sprintf("testmodel: internal error: tensor %q: no dimension %q", name, word))
		}
		t.shape = append(t.shape, n)
	}
	switch {
	case name == "position_embd.weight": // kept in F32 by llama.cpp's own tools
		t.std = embdStd(s.Embd) / 2
	case name == "token_embd.weight":
		t.typ, t.std = s.matrixType(t.shape[0]), embdStd(s.Embd)
	case len(t.shape) == 2: // keeps the size of what passes through
		t.typ, t.std = s.matrixType(t.shape[0]), 1/math.Sqrt(float64(t.shape[0]))
	case strings.HasSuffix(name, ".bias"):
		t.std = 0.1
	default: // a norm
		t.mean, t.std = 1, 0.1
	}
	return t
}

// embdStd is the scale of token_embd: as a tied output matrix it turns a normed state,
// of order one, into logits of order one. Gemma multiplies the embedding by √n_embd.
func embdStd(embd int) float64 { return 1 / math.Sqrt(float64(embd)) }

// matrixType is the type of a matrix with rows of n_in elements.
func (s Spec) matrixType(nIn int64) gguf.Type {
	if nIn%int64(s.Type.BlockSize()) != 0 {
		return gguf.TypeF16
	}
	return s.Type
}
