package newmodel

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"finetune/gguf"
	"finetune/internal/hint"
)

// Spec describes a model. DefaultSpec has values for all but the Vocabulary; a zero is filled
// in only where the comment says with what.
type Spec struct {
	Arch string // general.architecture; Architectures lists what there is
	Name string // general.name

	Layers  int // the blocks
	Embd    int // n_embd: width of the residual stream
	Heads   int // query heads
	HeadsKV int // key and value heads, a divisor of Heads; 0 is Heads
	HeadDim int // width of a head; 0 is Embd/Heads, and another one goes only with some architectures
	FF      int // n_ff: width of the feed-forward network; 0 is 8/3 of Embd where it is gated, else 4 times, up to a multiple of 256
	Ctx     int // n_ctx_train, tokens

	RopeBase float64 // base of the rotary frequencies; unused where positions are learned
	Epsilon  float64 // of the norms

	// Tied gives the model no output.weight, so that token_embd.weight is used twice. The
	// gemmas are tied whatever it says, phi2 and stablelm cannot be: see CanTie.
	Tied bool

	// Type is the type of the matrices: F32, F16, BF16, Q8_0 or Q4_0. A matrix whose
	// rows are no whole number of blocks is F16. Norms and biases are F32 always.
	Type gguf.Type

	Vocabulary *Vocabulary

	Seed    uint64
	InitStd float64 // standard deviation of the matrices' numbers; 0 is 1/√n_in of each

	// Draw, if not nil, replaces the start of a training: it returns the source of a
	// tensor's numbers, row by row.
	Draw func(t Tensor) func() float64
}

// DefaultSpec returns a small llama, of which only the Vocabulary is missing.
func DefaultSpec() Spec {
	return Spec{
		Arch: "llama", Name: "base",
		Layers: 4, Embd: 256, Heads: 4, Ctx: 512,
		RopeBase: 10000, Epsilon: 1e-5, Tied: true,
		Type: gguf.TypeF16, Seed: 1, InitStd: 0.02,
	}
}

// A SpecError reports a Spec that no model can be made of, or another size that cannot be.
type SpecError struct{ Msg string }

func (e *SpecError) Error() string { return "newmodel: " + e.Msg }

func badSpec(format string, args ...any) error { return &SpecError{fmt.Sprintf(format, args...)} }

// Model is a model that can be written. It is never changed: goroutines may share it.
type Model struct {
	spec    Spec
	arch    architecture
	tensors []Tensor
}

// New works out the model that s describes. Its errors are *SpecError.
func New(s Spec) (*Model, error) {
	arch, ok := architectures[s.Arch]
	if !ok {
		return nil, badSpec("architecture %q: not one of %s", s.Arch, strings.Join(Architectures(), ", "))
	}
	s = s.filledIn(arch)
	if err := s.check(arch); err != nil {
		return nil, err
	}
	return &Model{s, arch, s.tensors(arch)}, nil
}

// filledIn replaces the zeros that stand for something.
func (s Spec) filledIn(a architecture) Spec {
	if s.HeadsKV == 0 {
		s.HeadsKV = s.Heads
	}
	if s.HeadDim == 0 && s.Heads > 0 && s.Embd%s.Heads == 0 {
		s.HeadDim = s.Embd / s.Heads
	}
	if s.FF == 0 && s.Embd > 0 && s.Embd <= maxSize {
		const rows = 256 // a multiple that every quantization takes
		s.FF = 4 * s.Embd
		if a.gated() {
			s.FF = 8 * s.Embd / 3
		}
		s.FF = (s.FF + rows - 1) / rows * rows
	}
	s.Tied = s.Tied || a.alwaysTied()
	return s
}

// Bounds of what llama.cpp can hold, and of what nobody means.
const (
	maxLayers = 512 // LLAMA_MAX_LAYERS
	maxSize   = 1 << 20
)

// check refuses what the writer cannot write or llama.cpp would not load.
func (s Spec) check(a architecture) error {
	sizes := []int{s.Layers, s.Embd, s.Heads, s.HeadsKV, s.FF, s.Ctx}
	switch {
	case s.Vocabulary == nil:
		return badSpec("no vocabulary given")
	case s.Layers > maxLayers || max(slices.Max(sizes), s.HeadDim) > maxSize:
		return badSpec("%s, want at most %d layers and the others at most %d", s.sizes(), maxLayers, maxSize)
	case slices.Min(sizes) < 1 || s.HeadDim < 0:
		return badSpec("%s, want all above 0", s.sizes())
	case s.HeadDim == 0:
		return badSpec("a width of %d for %d heads, want a multiple of the heads", s.Embd, s.Heads)
	case s.Heads%s.HeadsKV != 0:
		return badSpec("%d heads share %d key heads, want a divisor", s.Heads, s.HeadsKV)
	case s.HeadDim%4 != 0:
		return badSpec("heads of %d, want a multiple of 4 for half of each to be rotated in pairs", s.HeadDim)
	case !a.freeHeadDim && s.HeadDim*s.Heads != s.Embd:
		return badSpec("%d heads of %d, want %d together, as %s has it", s.Heads, s.HeadDim, s.Embd, s.Arch)
	case s.Tied && a.neverTied:
		return badSpec("the output of a %s cannot be tied", s.Arch)
	case !slices.Contains(writable, s.Type):
		return badSpec("matrices of type %s, want one of %v", s.Type, writable)
	case !(s.RopeBase > 0 && s.RopeBase <= 1e12):
		return badSpec("a rotary base of %g, want one above 0", s.RopeBase)
	case !(s.Epsilon > 0 && s.Epsilon < 1):
		return badSpec("norms with an epsilon of %g, want one between 0 and 1", s.Epsilon)
	case !(s.InitStd >= 0 && s.InitStd <= 10):
		return badSpec("a standard deviation of %g at the start, want 0 to 10", s.InitStd)
	}
	return s.checkName()
}

func (s Spec) sizes() string {
	return fmt.Sprintf("%d layers of %d, %d heads and %d key heads of %d, a feed-forward width of %d, a context of %d",
		s.Layers, s.Embd, s.Heads, s.HeadsKV, s.HeadDim, s.FF, s.Ctx)
}

// checkName refuses a name that makes llama.cpp look for tokens that are not there: it takes
// a model for Phi-3 by its name.
func (s Spec) checkName() error {
	name := strings.ToLower(s.Name)
	if !strings.Contains(name, "phi3") && !strings.Contains(name, "phi-3") {
		return nil
	}
	for _, token := range []string{"</s>", "<unk>", "<s>", "<|endoftext|>"} {
		if !s.Vocabulary.has(token) {
			return hint.With(badSpec("name %q: llama.cpp takes it for a Phi-3, whose tokenizer has a %s", s.Name, token), "give it another name")
		}
	}
	return nil
}

// Spec returns the description with its zeros filled in.
func (m *Model) Spec() Spec { return m.spec }

// Parameters returns the number of parameters of the model.
func (m *Model) Parameters() int64 {
	n := int64(0)
	for _, t := range m.tensors {
		n += t.Elements()
	}
	return n
}

// WriteFile writes the model to path, which gets it whole or not at all. Errors are those of
// the file system, and of sizes that ggml cannot hold.
func (m *Model) WriteFile(path string) error {
	b := gguf.NewBuilder()
	m.setMetadata(b)
	b.SetAll(m.spec.Vocabulary.kvs)
	for _, t := range m.tensors {
		b.AddTensorFunc(t.Name, t.Type, t.Shape, func(w io.Writer) error { return t.write(w, m.source(t)) })
	}
	return b.WriteFile(path)
}

// source returns where a tensor's numbers come from. They depend on the seed and the
// tensor's name, so that adding a tensor to a table changes no other.
func (m *Model) source(t Tensor) func() float64 {
	if m.spec.Draw != nil {
		return m.spec.Draw(t)
	}
	mean, std := m.spec.start(t)
	if std == 0 {
		return func() float64 { return mean }
	}
	random := newNormal(m.spec.Seed, t.Name)
	return func() float64 { return mean + float64(std*random.next()) }
}

// setMetadata sets the keys that llama.cpp reads before the tokenizer.
func (m *Model) setMetadata(b *gguf.Builder) {
	s := m.spec
	key := func(name string) string { return s.Arch + "." + name }
	b.Set("general.architecture", s.Arch)
	b.Set("general.type", "model")
	b.Set("general.name", s.Name)
	b.Set("general.file_type", fileTypes[s.Type])
	b.Set("general.quantization_version", uint32(2)) // GGML_QNT_VERSION
	b.Set(key("context_length"), uint32(s.Ctx))
	b.Set(key("embedding_length"), uint32(s.Embd))
	b.Set(key("block_count"), uint32(s.Layers))
	b.Set(key("feed_forward_length"), uint32(s.FF))
	b.Set(key("vocab_size"), uint32(s.Vocabulary.Len()))
	b.Set(key("attention.head_count"), uint32(s.Heads))
	b.Set(key("attention.head_count_kv"), uint32(s.HeadsKV))
	b.Set(key("attention."+m.arch.epsilon), float32(s.Epsilon))
	if m.arch.freeHeadDim {
		b.Set(key("attention.key_length"), uint32(s.HeadDim))
		b.Set(key("attention.value_length"), uint32(s.HeadDim))
	}
	if m.arch.rotated > 0 {
		b.Set(key("rope.dimension_count"), uint32(float64(s.HeadDim)*m.arch.rotated))
		b.Set(key("rope.freq_base"), float32(s.RopeBase))
	}
	for _, kv := range m.arch.extra(s) {
		b.Set(key(kv.Key), kv.Value)
	}
}
