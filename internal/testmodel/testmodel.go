// Package testmodel writes random models of any size that llama.cpp loads and runs, so
// that tests and benchmarks need no downloads.
//
// A model is made from a [Spec], by package base. Unlike the start of a training, its
// weights are scaled so that logits are of order one and gradients reach every layer; the
// same Spec gives the same bytes. It says nothing sensible, but it has everything a real
// model has: the architecture's metadata and tensors, and a working tokenizer.
package testmodel

import (
	"path/filepath"

	"finetune/gguf"
	"finetune/newmodel"
)

// Spec describes a model. A zero field has the default in its comment.
type Spec struct {
	Arch    string // "llama"; Architectures lists what there is
	Layers  int    // 2, the blocks
	Embd    int    // 64, n_embd: width of the residual stream
	Heads   int    // 4, query heads
	HeadsKV int    // 2, key and value heads; a divisor of Heads
	HeadDim int    // Embd/Heads, the width of a head; another one only where the architecture can
	FF      int    // 96, n_ff: width of the feed-forward network
	Ctx     int    // 512, n_ctx_train
	Vocab   int    // what the tokenizer needs, about 600; more are filled up with unused tokens

	// Tied gives the model no output.weight, so that token_embd.weight is used twice.
	// The gemmas are always tied, phi2 and stablelm never.
	Tied bool

	// Type is the type of the matrices: F32, F16, BF16, Q8_0 or Q4_0. A matrix whose
	// rows are no whole number of blocks is F16. Norms and biases are F32 always.
	Type gguf.Type

	Seed         uint64
	ChatTemplate string // tokenizer.chat_template, such as ChatML; none when empty
}

// ChatML is a chat template over <|im_start|> and <|im_end|>, which every tokenizer
// here has but those of phi3 and the gemmas.
const ChatML = newmodel.ChatML

// test is what Path needs of a *testing.T or *testing.B; the package itself is also in the program, for benchmarks.
type test interface {
	Helper()
	TempDir() string
	Fatal(...any)
}

// Path writes the model into a folder of the test and returns its path.
func Path(t test, s Spec) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := Write(path, s); err != nil {
		t.Fatal(err)
	}
	return path
}

// Write writes the model to path. Errors are a Spec that cannot be built and those of
// the file system.
func Write(path string, s Spec) error {
	s = s.withDefaults()
	vocabulary, err := architectures[s.Arch].vocabulary().build(s.Vocab, s.ChatTemplate)
	if err != nil {
		return err
	}
	m, err := newmodel.New(newmodel.Spec{
		Arch: s.Arch, Name: "testmodel " + s.Arch,
		Layers: s.Layers, Embd: s.Embd, Heads: s.Heads, HeadsKV: s.HeadsKV, HeadDim: s.HeadDim, FF: s.FF, Ctx: s.Ctx,
		RopeBase: 10000, Epsilon: 1e-5, Tied: s.Tied, Type: s.Type, Vocabulary: vocabulary,
		Draw: func(t newmodel.Tensor) func() float64 { return draw(t, s) },
	})
	if err != nil {
		return err
	}
	return m.WriteFile(path)
}

func (s Spec) withDefaults() Spec {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	if s.Arch == "" {
		s.Arch = "llama"
	}
	set(&s.Layers, 2)
	set(&s.Embd, 64)
	set(&s.Heads, 4)
	set(&s.HeadsKV, min(2, s.Heads))
	set(&s.HeadDim, s.Embd/max(s.Heads, 1))
	set(&s.FF, 96)
	set(&s.Ctx, 512)
	return s
}
