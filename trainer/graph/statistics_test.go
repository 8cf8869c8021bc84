package graph

import (
	"math"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/quant"
)

// squaresTolerance bounds what the order of float32 sums makes of a few dozen squares.
const squaresTolerance = 1e-5

// squaresOfGELU is for the squares of what ggml looks up in a table of half precision: where a number is rounded otherwise on the way in, one value
// moves by 2⁻¹¹ and its square by 2⁻¹⁰ of itself.
const squaresOfGELU = 1e-3

// The reference graph adds the squares with ggml's own operations; only windows with something to learn count, twice the
// steps count twice, and validation does not count at all.
func TestSquaresOfInputs(t *testing.T) {
	for _, arch := range []string{"llama", "gpt2", "phi3"} {
		path := testmodel.Path(t, testmodel.Spec{Arch: arch})
		m := loadModel(t, path)
		weights := allLinear(t, path, adapter.MethodLoRA, 4)
		disturb(weights)
		shape := Shape{Ctx: 16, Seqs: 2}
		ws := windows(shape, m.Vocab().NTokens())
		for i := 8; i < 16; i++ {
			ws[0].LossMask[i] = 0 // the second document of the first window
		}
		const counted = 16 + 8

		native := newEngine(t, m, weights, Options{Shape: shape, Statistics: true})
		reference := newEngine(t, m, weights, Options{Shape: shape, Statistics: true, reference: true})
		for _, e := range []*Engine{native, reference} {
			if _, err := e.Loss(ws); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Step(ws, 1); err != nil {
				t.Fatal(err)
			}
		}
		got, want := native.Statistics(), reference.Statistics()
		if native.Tokens() != counted || len(got) != 2*len(weights) || len(want) != 2*len(weights) {
			t.Fatalf("%s: %d tokens in %d sums, want %d in %d", arch, native.Tokens(), len(got), counted, 2*len(weights))
		}
		once := map[string][]float32{}
		for name, sums := range got {
			tolerance := squaresTolerance
			if arch == "gpt2" && strings.HasSuffix(name, "ffn_down.weight"+SuffixInputs) {
				tolerance = squaresOfGELU
			}
			if d := near.Share(sums, want[name]); d > tolerance {
				t.Errorf("%s: %s: squares differ by %v of the largest", arch, name, d)
			}
			once[name] = append(once[name], sums...)
		}
		if _, err := native.Step(ws, 1); err != nil {
			t.Fatal(err)
		}
		for name, sums := range native.Statistics() {
			for i, v := range sums {
				if !near.Enough(v, 2*once[name][i], squaresTolerance*float64(v)) {
					t.Fatalf("%s: %s: channel %d is %v after two equal steps, %v after one", arch, name, i, v, once[name][i])
				}
			}
		}
		if native.Tokens() != 2*counted {
			t.Errorf("%s: %d tokens after two steps, want %d", arch, native.Tokens(), 2*counted)
		}
	}
}

// The first product of a llama block reads the embeddings after their norm, which can be worked out by hand.
func TestSquaresEqualTheirDefinition(t *testing.T) {
	path := testmodel.Path(t, testmodel.Spec{Arch: "llama"})
	m := loadModel(t, path)
	weights := allLinear(t, path, adapter.MethodLoRA, 4)
	shape := Shape{Ctx: 16, Seqs: 1}
	ws := windows(shape, m.Vocab().NTokens())
	e := newEngine(t, m, weights, Options{Shape: shape, Statistics: true})
	if _, err := e.Step(ws, 1); err != nil {
		t.Fatal(err)
	}
	want := normedEmbeddings(t, path, ws[0].Tokens)
	for _, name := range []string{"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"} {
		if d := near.Share(e.Statistics()[name+SuffixInputs], want); d > squaresTolerance {
			t.Errorf("%s: squares differ by %v of the largest", name, d)
		}
	}
}

// normedEmbeddings is Σ_t x² by channel for x = norm(embedding of token t) ⊙ weight, in float64.
func normedEmbeddings(t *testing.T, path string, tokens []int32) []float32 {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	decoded := func(name string) []float32 {
		tensor, ok := f.Tensor(name)
		if !ok {
			t.Fatalf("no tensor %q", name)
		}
		raw, err := f.Data(name)
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float32, tensor.Elements())
		if err := quant.Decode(tensor.Type, raw, v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	table, weight := decoded("token_embd.weight"), decoded("blk.0.attn_norm.weight")
	eps, err := f.Float("llama.attention.layer_norm_rms_epsilon")
	if err != nil {
		t.Fatal(err)
	}
	n := len(weight)
	squares := make([]float32, n)
	for _, token := range tokens {
		row := table[int(token)*n:][:n]
		mean := dot(row, row) / float64(n)
		for i, v := range row {
			x := float64(v) / math.Sqrt(mean+eps) * float64(weight[i])
			squares[i] += float32(x * x)
		}
	}
	return squares
}
