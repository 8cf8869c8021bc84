package newmodel

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"
)

// tiny is a small model of the architecture with small's tokenizer.
func tiny(arch string) Spec {
	s := DefaultSpec()
	s.Arch, s.Vocabulary, s.Tied = arch, small().Vocabulary(), CanTie(arch)
	s.Layers, s.Embd, s.Heads, s.HeadsKV, s.Ctx = 2, 64, 4, 2, 64
	return s
}

// written makes the model and returns its path.
func written(t testing.TB, s Spec) string {
	t.Helper()
	m, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "base.gguf")
	if err := m.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func opened(t *testing.T, s Spec) *gguf.File {
	t.Helper()
	f, err := gguf.Open(written(t, s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// floats reads an F32 tensor.
func floats(t *testing.T, f *gguf.File, name string) []float64 {
	t.Helper()
	data, err := f.Data(name)
	if err != nil {
		t.Fatal(err)
	}
	var x []float64
	for b := data; len(b) > 0; b = b[4:] {
		x = append(x, float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
	}
	return x
}

func TestNewRefuses(t *testing.T) {
	with := func(change func(*Spec)) Spec {
		s := tiny("llama")
		change(&s)
		return s
	}
	for _, tt := range []struct {
		spec Spec
		msg  string
	}{
		{with(func(s *Spec) { s.Arch = "gpt5" }), `architecture "gpt5": not one of falcon, gemma`},
		{with(func(s *Spec) { s.Vocabulary = nil }), "no vocabulary"},
		{with(func(s *Spec) { s.Layers = 0 }), "0 layers of 64"},
		{with(func(s *Spec) { s.Embd = -64 }), "want all above 0"},
		{with(func(s *Spec) { s.Layers = 513 }), "at most 512 layers"},
		{with(func(s *Spec) { s.Embd = math.MaxInt }), "at most 1048576"},
		{with(func(s *Spec) { s.FF = math.MaxInt }), "at most 1048576"},
		{with(func(s *Spec) { s.HeadDim = math.MaxInt }), "at most 1048576"},
		{with(func(s *Spec) { s.Embd = 66 }), "a width of 66 for 4 heads, want a multiple of the heads"},
		{with(func(s *Spec) { s.HeadsKV = 3 }), "4 heads share 3 key heads, want a divisor"},
		{with(func(s *Spec) { s.HeadsKV = 8 }), "4 heads share 8 key heads, want a divisor"},
		{with(func(s *Spec) { s.Embd = 24 }), "heads of 6, want a multiple of 4"},
		{with(func(s *Spec) { s.Arch, s.HeadDim = "qwen2", 32 }), "4 heads of 32, want 64 together"},
		{with(func(s *Spec) { s.Arch = "phi2" }), "cannot be tied"},
		{with(func(s *Spec) { s.Type = gguf.TypeQ4_K }), "matrices of type q4_K"},
		{with(func(s *Spec) { s.RopeBase = 0 }), "a rotary base of 0"},
		{with(func(s *Spec) { s.RopeBase = math.NaN() }), "a rotary base of NaN"},
		{with(func(s *Spec) { s.Epsilon = 1 }), "an epsilon of 1"},
		{with(func(s *Spec) { s.InitStd = -1 }), "a standard deviation of -1"},
		{with(func(s *Spec) { s.Name = "my Phi-3" }), `name "my Phi-3": llama.cpp takes it for a Phi-3`},
	} {
		_, err := New(tt.spec)
		var bad *SpecError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.msg) {
			t.Errorf("New = %v, want a *SpecError that says %q", err, tt.msg)
		}
	}
}

func TestZerosAreFilledIn(t *testing.T) {
	for _, tt := range []struct {
		arch             string
		embd, ff, headKV int
	}{
		{"llama", 256, 768, 4}, {"phi3", 256, 768, 4}, {"gpt2", 256, 1024, 4}, {"falcon", 96, 512, 4}, {"gemma3", 64, 256, 4},
	} {
		s := DefaultSpec()
		s.Arch, s.Embd, s.Vocabulary = tt.arch, tt.embd, small().Vocabulary()
		m, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		got := m.Spec()
		if got.FF != tt.ff || got.HeadsKV != tt.headKV || got.HeadDim != tt.embd/4 {
			t.Errorf("%s: ff %d, %d key heads of %d, want %d, %d of %d", tt.arch, got.FF, got.HeadsKV, got.HeadDim, tt.ff, tt.headKV, tt.embd/4)
		}
	}
}

func TestParametersAreThoseOfTheFile(t *testing.T) {
	for _, arch := range Architectures() {
		m, err := New(tiny(arch))
		if err != nil {
			t.Fatal(err)
		}
		n := int64(0)
		for _, tensor := range opened(t, tiny(arch)).Tensors() {
			n += Tensor{Shape: tensor.Shape}.Elements()
		}
		if m.Parameters() != n || n < 50_000 {
			t.Errorf("%s: Parameters() = %d, the file has %d", arch, m.Parameters(), n)
		}
	}
	m, err := New(tiny("llama")) // by hand: embeddings, last norm, two blocks
	if want := int64(400*64 + 64 + 2*(2*64*64+2*64*32+3*64*256+2*64)); err != nil || m.Parameters() != want {
		t.Errorf("llama: Parameters() = %d, want %d", m.Parameters(), want)
	}
}

// deviationTolerance is four standard errors of the deviation of n normal numbers, σ/√(2n).
func deviationTolerance(n int) float64 { return 4 / math.Sqrt(2*float64(n)) }

func TestStart(t *testing.T) {
	for _, std := range []float64{0.02, 0} {
		s := tiny("gpt2")
		s.Type, s.InitStd, s.Tied = gguf.TypeF32, std, false
		f := opened(t, s)
		for name, want := range map[string][2]float64{ // mean, deviation where std is 0
			"token_embd.weight":        {0, 1 / math.Sqrt(64)},
			"position_embd.weight":     {0, 1 / math.Sqrt(64)},
			"blk.1.attn_qkv.weight":    {0, 1 / math.Sqrt(64)},
			"blk.1.attn_qkv.bias":      {0, 0},
			"blk.0.attn_output.weight": {0, 1 / math.Sqrt(64) / 2}, // 2 = √(2·layers)
			"blk.0.ffn_up.weight":      {0, 1 / math.Sqrt(64)},
			"blk.1.ffn_down.weight":    {0, 1 / math.Sqrt(256) / 2},
			"blk.1.ffn_norm.weight":    {1, 0},
			"blk.1.ffn_norm.bias":      {0, 0},
			"output_norm.weight":       {1, 0},
			"output.weight":            {0, 1 / math.Sqrt(64)},
		} {
			deviation := want[1]
			if std > 0 && deviation > 0 {
				deviation = std
				if strings.Contains(name, "attn_output") || strings.Contains(name, "ffn_down") {
					deviation /= 2
				}
			}
			x := floats(t, f, name)
			mean, squares := 0.0, 0.0
			for _, v := range x {
				mean += v / float64(len(x))
				squares += (v - want[0]) * (v - want[0]) / float64(len(x))
			}
			if !near.Enough(mean, want[0], 4*deviation/math.Sqrt(float64(len(x)))) || !near.Enough(math.Sqrt(squares), deviation, deviation*deviationTolerance(len(x))) {
				t.Errorf("InitStd %g: %s has mean %g and deviation %g, want %g and %g", std, name, mean, math.Sqrt(squares), want[0], deviation)
			}
		}
	}
}

func TestSameSpecSameBytes(t *testing.T) {
	read := func(s Spec) []byte {
		b, err := os.ReadFile(written(t, s))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := read(tiny("qwen3"))
	if !bytes.Equal(first, read(tiny("qwen3"))) {
		t.Error("the same Spec gives another file")
	}
	other := tiny("qwen3")
	other.Seed++
	if bytes.Equal(first, read(other)) {
		t.Error("another seed gives the same file")
	}
	// Pinned, so that a machine on which it is another shows: of the tokenizer, the start,
	// and the rounding to F16.
	const want = "a7ad54d2727abe95b0c66e8f0b84a94c66feaffe8e0e499ef94096b789de59ce"
	if got := fmt.Sprintf("%x", sha256.Sum256(first)); got != want {
		t.Errorf("the file has the SHA-256 %s, want %s", got, want)
	}
}

func TestWriteFileKeepsWhatIsThereWhenItFails(t *testing.T) {
	m, err := New(tiny("llama"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := m.WriteFile(filepath.Join(dir, "missing", "base.gguf")); err == nil {
		t.Error("WriteFile into a folder that is not there is no error")
	}
	if err := m.WriteFile(dir); err == nil {
		t.Error("WriteFile over a folder is no error")
	}
}
