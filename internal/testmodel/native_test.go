package testmodel

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"

	"github.com/go-skynet/go-llama.cpp/llama"
)

const text = "once upon a time there was a little girl. She saw 3 Dogs!\n"

// load opens a model in llama.cpp; the test closes it.
func load(t *testing.T, path string) *llama.Model {
	t.Helper()
	m, err := llama.LoadModel(path, llama.ModelParams{CheckTensors: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// logits decodes tokens and returns the logits after the last one.
func logits(t *testing.T, m *llama.Model, tokens []int32) []float32 {
	t.Helper()
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 64, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Decode(llama.Batch{Tokens: tokens}); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(c.Logits(len(tokens) - 1))
}

func tokenize(t *testing.T, m *llama.Model, text string) []int32 {
	t.Helper()
	tokens, err := m.Vocab().Tokenize(text, true, true)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// deviation is the root mean square distance from the mean.
func deviation(x []float32) float64 {
	var sum, squares float64
	for _, v := range x {
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	n := float64(len(x))
	return math.Sqrt(squares/n - sum/n*sum/n)
}

// The deviation of logits over the vocabulary that counts as "of order one": far enough
// from 0 for a softmax with a shape, far enough from where it is all on one token.
const (
	leastDeviation = 0.2
	mostDeviation  = 4
)

func TestLlamaRunsEveryArchitecture(t *testing.T) {
	for _, arch := range Architectures() {
		for _, tied := range []bool{false, true} {
			if tied && architectures[arch].neverTied {
				continue
			}
			for _, typ := range []gguf.Type{gguf.TypeF32, gguf.TypeF16, gguf.TypeQ8_0} {
				t.Run(fmt.Sprintf("%s/tied=%v/%v", arch, tied, typ), func(t *testing.T) {
					runs(t, Spec{Arch: arch, Tied: tied, Type: typ, Seed: 1})
				})
			}
		}
	}
}

// runs checks that llama.cpp loads the model as specified, and that its logits are
// finite, of order one, and depend on the tokens before the last one.
func runs(t *testing.T, s Spec) {
	m := load(t, Path(t, s))
	s = s.withDefaults()
	if m.Arch() != s.Arch || m.NLayer() != s.Layers || m.NEmbd() != s.Embd || m.NHead() != s.Heads ||
		m.NHeadKV() != s.HeadsKV || m.NCtxTrain() != s.Ctx {
		t.Errorf("llama.cpp sees %s, %d layers, %d wide, %d/%d heads, context %d; want %+v",
			m.Arch(), m.NLayer(), m.NEmbd(), m.NHead(), m.NHeadKV(), m.NCtxTrain(), s)
	}
	tokens := tokenize(t, m, text)
	got := logits(t, m, tokens)
	if len(got) != m.Vocab().NTokens() {
		t.Fatalf("%d logits, want one for each of %d tokens", len(got), m.Vocab().NTokens())
	}
	// Also refuses NaN, for which neither comparison holds.
	if d := deviation(got); !(d > leastDeviation && d < mostDeviation) {
		t.Errorf("logits deviate by %v from their mean, want %v to %v", d, leastDeviation, mostDeviation)
	}
	tokens[1]++
	if slices.Equal(got, logits(t, m, tokens)) {
		t.Error("logits do not depend on an earlier token")
	}
}

func TestLlamaRunsOtherShapes(t *testing.T) {
	specs := map[string]Spec{
		"bf16":             {Type: gguf.TypeBF16},
		"q4_0":             {Type: gguf.TypeQ4_0},
		"rows of no block": {Type: gguf.TypeQ8_0, Embd: 48, FF: 72},
		"one head":         {Heads: 1, Layers: 1, Embd: 32},
		"all heads own kv": {HeadsKV: 4, Layers: 3},
		"wide heads":       {Arch: "qwen3", HeadDim: 32},
		"larger vocab":     {Arch: "qwen2", Vocab: 1000},
		"spm larger vocab": {Vocab: 1000},
	}
	for name, s := range specs {
		t.Run(name, func(t *testing.T) { runs(t, s) })
	}
}

func TestTokenizers(t *testing.T) {
	for _, arch := range Architectures() {
		t.Run(arch, func(t *testing.T) {
			m := load(t, Path(t, Spec{Arch: arch, Layers: 1}))
			v := m.Vocab()
			tokens := tokenize(t, m, text)
			if v.AddBOS() != (architectures[arch].pre == "") {
				t.Errorf("AddBOS() = %v", v.AddBOS())
			}
			if got := strings.TrimPrefix(v.Detokenize(tokens, true, false), " "); got != text {
				t.Errorf("Detokenize(Tokenize(%q)) = %q", text, got)
			}
			// Words with a space before them are one token: fewer tokens than half the letters.
			if len(tokens) > len(text)/2 {
				t.Errorf("%d tokens for %d letters, want the words merged", len(tokens), len(text))
			}
			for _, other := range []string{"über 你好 \x00", "  two  spaces\t", ""} {
				ids, err := v.Tokenize(other, false, false)
				if err != nil {
					t.Fatal(err)
				}
				if got := v.Detokenize(ids, false, false); strings.TrimPrefix(got, " ") != strings.TrimPrefix(other, " ") {
					t.Errorf("Detokenize(Tokenize(%q)) = %q", other, got)
				}
			}
			chat := architectures[arch].chat
			end := chat[len(chat)-1]
			ids, err := v.Tokenize(end, false, true)
			if err != nil || len(ids) != 1 || ids[0] != v.EOT() || !v.IsEOG(ids[0]) || !v.IsControl(ids[0]) {
				t.Errorf("Tokenize(%q) = %v, %v, want the one token %d that ends a turn", end, ids, err, v.EOT())
			}
			if ids, _ := v.Tokenize(end, false, false); slices.Contains(ids, v.EOT()) {
				t.Errorf("Tokenize(%q) as plain text = %v, want no control token", end, ids)
			}
		})
	}
}

func TestChatTemplateIsStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	for _, want := range []string{"", ChatML} {
		if err := Write(path, Spec{ChatTemplate: want}); err != nil {
			t.Fatal(err)
		}
		got, ok := load(t, path).ChatTemplate("")
		if ok != (want != "") || ok && got != want {
			t.Errorf("ChatTemplate = %q, %v, want %q", got, ok, want)
		}
	}
}

func TestLlamaRunsEveryVariant(t *testing.T) {
	for _, v := range Variants() {
		t.Run(v.Name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "variant.gguf")
			if err := v.Write(path); err != nil {
				t.Fatal(err)
			}
			m := load(t, path)
			tokens := tokenize(t, m, text)[:24] // gemma3's context is 32
			got := logits(t, m, tokens)
			// Also refuses NaN. Scales of their own make some flatter than a model of Write.
			if d := deviation(got); !(d > leastDeviation/10 && d < 2*mostDeviation) {
				t.Errorf("logits deviate by %v from their mean, want %v to %v", d, leastDeviation/10, 2*mostDeviation)
			}
			tokens[1]++
			if slices.Equal(got, logits(t, m, tokens)) {
				t.Error("logits do not depend on an earlier token")
			}
		})
	}
}
