// Package testmodel writes random models of any size that llama.cpp loads and runs, so
// that tests and benchmarks need no downloads.
//
// A model is made from a [Spec]. Its weights are drawn from the seed and scaled so that
// logits are of order one and gradients reach every layer; the same Spec gives the same
// bytes. It says nothing sensible, but it has everything a real model has: the
// architecture's metadata and tensors, and a working tokenizer.
package testmodel

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"finetune/gguf"
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
	// gemma and gemma2 are always tied, phi2 and stablelm never.
	Tied bool

	// Type is the type of the matrices: F32, F16, BF16, Q8_0 or Q4_0. A matrix whose
	// rows are no whole number of blocks is F16. Norms and biases are F32 always.
	Type gguf.Type

	Seed         uint64
	ChatTemplate string // tokenizer.chat_template, such as ChatML; none when empty
}

// ChatML is a chat template over <|im_start|> and <|im_end|>, which every tokenizer
// here has but those of phi3, gemma and gemma2.
const ChatML = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}" +
	"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

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
	arch, ok := architectures[s.Arch]
	if !ok {
		return fmt.Errorf("testmodel: architecture %q: not one of %s", s.Arch, strings.Join(Architectures(), ", "))
	}
	if err := s.check(arch); err != nil {
		return fmt.Errorf("testmodel: %s: %w", s.Arch, err)
	}
	vocab := arch.vocabulary()
	s.Vocab = max(s.Vocab, len(vocab.tokens))

	b := gguf.NewBuilder()
	s.setMetadata(b, arch)
	vocab.setMetadata(b, s.Vocab)
	if s.ChatTemplate != "" {
		b.Set("tokenizer.chat_template", s.ChatTemplate)
	}
	for _, t := range s.tensors(arch) {
		b.AddTensorFunc(t.name, t.typ, t.shape, func(w io.Writer) error { return t.write(w, s.Seed) })
	}
	return b.WriteFile(path)
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

// check refuses what the writer cannot write or llama.cpp would not load.
func (s Spec) check(a architecture) error {
	switch {
	case min(s.Layers, s.Embd, s.Heads, s.HeadsKV, s.HeadDim, s.FF, s.Ctx) < 1:
		return fmt.Errorf("sizes are %+v, want all above 0", s)
	case s.Heads%s.HeadsKV != 0:
		return fmt.Errorf("%d heads share %d key heads, want a divisor", s.Heads, s.HeadsKV)
	case s.HeadDim%4 != 0:
		return fmt.Errorf("heads of %d, want a multiple of 4 for half of each to be rotated in pairs", s.HeadDim)
	case !a.freeHeadDim && s.HeadDim*s.Heads != s.Embd:
		return fmt.Errorf("%d heads of %d, want %d together", s.Heads, s.HeadDim, s.Embd)
	case s.Tied && a.neverTied:
		return fmt.Errorf("the output cannot be tied in this architecture")
	case !slices.Contains(writable, s.Type):
		return fmt.Errorf("matrices of type %s, want one of %v", s.Type, writable)
	}
	return nil
}

// setMetadata sets the keys that llama.cpp reads before the tokenizer.
func (s Spec) setMetadata(b *gguf.Builder, a architecture) {
	key := func(name string) string { return s.Arch + "." + name }
	b.Set("general.architecture", s.Arch)
	b.Set("general.type", "model")
	b.Set("general.name", "testmodel "+s.Arch)
	b.Set("general.file_type", fileTypes[s.Type])
	b.Set("general.quantization_version", uint32(2)) // GGML_QNT_VERSION
	b.Set(key("context_length"), uint32(s.Ctx))
	b.Set(key("embedding_length"), uint32(s.Embd))
	b.Set(key("block_count"), uint32(s.Layers))
	b.Set(key("feed_forward_length"), uint32(s.FF))
	b.Set(key("vocab_size"), uint32(s.Vocab))
	b.Set(key("attention.head_count"), uint32(s.Heads))
	b.Set(key("attention.head_count_kv"), uint32(s.HeadsKV))
	b.Set(key("attention."+a.epsilon), float32(1e-5))
	if a.freeHeadDim {
		b.Set(key("attention.key_length"), uint32(s.HeadDim))
		b.Set(key("attention.value_length"), uint32(s.HeadDim))
	}
	if a.rotated > 0 {
		b.Set(key("rope.dimension_count"), uint32(float64(s.HeadDim)*a.rotated))
		b.Set(key("rope.freq_base"), float32(10000))
	}
	for _, kv := range a.extra(s) {
		b.Set(key(kv.Key), kv.Value)
	}
}
