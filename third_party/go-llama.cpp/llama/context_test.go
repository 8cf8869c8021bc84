package llama_test

import (
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/internal/llamatest"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// What other programs continue with: transformers from the demo's base, llama2.c from the stories.
func TestGreedyContinuationEqualsReference(t *testing.T) {
	t.Run("base", func(t *testing.T) {
		r := llamatest.ReadReference(t)
		checkGreedy(t, small(t), r.Prompt, r.Prompt+r.Continuation)
	})
	t.Run("stories260K", func(t *testing.T) {
		want, err := os.ReadFile(llamatest.Shared(t, "models/stories260K-greedy-reference.txt"))
		if err != nil {
			t.Fatal(err)
		}
		checkGreedy(t, loadModel(t, llamatest.Shared(t, "models/stories260K-f32.gguf")), "Once upon a time", string(want))
	})
}

// checkGreedy continues a prompt until it is as long as the wanted text.
func checkGreedy(t *testing.T, m *llama.Model, prompt, want string) {
	t.Helper()
	c := newContext(t, m, llama.ContextParams{NCtx: 512, TypeK: typ(ggml.F32), TypeV: typ(ggml.F32), FlashAttn: llama.FlashAttnOff})
	tokens := tokenize(t, m, prompt)
	text := strings.TrimPrefix(m.Vocab().Detokenize(tokens, true, false), " ")
	for next := tokens; len(text) < len(want); {
		decode(t, c, llama.Batch{Tokens: next})
		id := argmax(c.Logits(len(next) - 1))
		text += m.Vocab().Piece(id, false)
		next = []int32{id}
	}
	if got := strings.TrimSpace(text); got != strings.TrimSpace(want) {
		t.Errorf("greedy continuation:\n%s\nwant:\n%s", got, want)
	}
}

// referenceTolerance is for logits of about 10 that transformers computed with dequantized weights, where llama.cpp rounds
// what it multiplies Q8_0 with to Q8_0 as well.
const referenceTolerance = 0.1

func TestLogitsAreTransformers(t *testing.T) {
	m, r := small(t), llamatest.ReadReference(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 256, TypeK: typ(ggml.F32), TypeV: typ(ggml.F32), FlashAttn: llama.FlashAttnOff})
	var got []float32
	for i, logit := range lastLogits(t, c, r.Read) {
		if i%r.Every == 0 {
			got = append(got, logit)
		}
	}
	if d := maxDiff(got, r.Logits); !(d <= referenceTolerance) {
		t.Errorf("logits differ by up to %g, want at most %g", d, referenceTolerance)
	} else {
		t.Logf("logits differ by up to %g", d)
	}
}

func TestLogitsAreFiniteForAllTypes(t *testing.T) {
	check := func(t *testing.T, m *llama.Model) {
		c := newContext(t, m, llama.ContextParams{NCtx: 256})
		for _, x := range lastLogits(t, c, tokenize(t, m, "Once upon a time")) {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				t.Fatalf("logit %v", x)
			}
		}
	}
	t.Run("q8_0", func(t *testing.T) { check(t, small(t)) })
	for _, name := range []string{"f32", "f16", "q8_0"} {
		t.Run("stories260K-"+name, func(t *testing.T) {
			check(t, loadModel(t, llamatest.Shared(t, "models/stories260K-"+name+".gguf")))
		})
	}
}

func TestOutputsAreThoseAskedFor(t *testing.T) {
	m := small(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 256})
	tokens := tokenize(t, m, "Once upon a time there was")
	output := make([]bool, len(tokens))
	output[1], output[3] = true, true
	decode(t, c, llama.Batch{Tokens: tokens, Output: output})
	for i := -1; i <= len(tokens); i++ {
		want := i == 1 || i == 3
		if got := c.Logits(i) != nil; got != want {
			t.Errorf("Logits(%d) present = %v, want %v", i, got, want)
		}
	}
	row := append([]float32(nil), c.Logits(1)...)
	if d := maxDiff(row, lastLogits(t, c, tokens[:2])); !(d <= sameGraphTolerance) {
		t.Errorf("logits of token 1 in a longer batch differ by %g", d)
	}
}

// sameGraphTolerance is for the same numbers computed in batches of different shapes: only the order of additions differs.
const sameGraphTolerance = 1e-3

func TestSequencesDoNotSeeEachOther(t *testing.T) {
	m := small(t)
	a, b := tokenize(t, m, "Once upon a time"), tokenize(t, m, "The little dog ran")
	for _, unified := range []bool{false, true} {
		c := newContext(t, m, llama.ContextParams{NCtx: 512, NSeqMax: 2, KVUnified: unified})
		batch := llama.Batch{}
		for s, tokens := range [][]int32{a, b} {
			for i, id := range tokens {
				batch.Tokens = append(batch.Tokens, id)
				batch.Pos = append(batch.Pos, int32(i))
				batch.Seq = append(batch.Seq, int32(s))
				batch.Output = append(batch.Output, i == len(tokens)-1)
			}
		}
		decode(t, c, batch)
		gotA := append([]float32(nil), c.Logits(len(a)-1)...)
		gotB := append([]float32(nil), c.Logits(len(a)+len(b)-1)...)
		one := newContext(t, m, llama.ContextParams{NCtx: 512})
		if d := maxDiff(gotA, lastLogits(t, one, a)); !(d <= cacheTolerance) {
			t.Errorf("unified %v: sequence 0 differs from being alone by %g", unified, d)
		}
		if d := maxDiff(gotB, lastLogits(t, one, b)); !(d <= cacheTolerance) {
			t.Errorf("unified %v: sequence 1 differs from being alone by %g", unified, d)
		}
	}
}

// cacheTolerance allows for keys and values rounded to F16 in the cache, on logits of about 10.
const cacheTolerance = 0.02

func TestWrongBatchesAreErrors(t *testing.T) {
	m := small(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 256, NBatch: 64})
	n := m.Vocab().NTokens()
	for _, tt := range []struct {
		name  string
		batch llama.Batch
		code  int
		want  string
	}{
		{"empty", llama.Batch{}, llama.CodeInvalidBatch, "without tokens"},
		{"above NBatch", llama.Batch{Tokens: make([]int32, 65)}, llama.CodeInvalidBatch, "batch of 65 tokens, want at most NBatch = 64"},
		{"token out of range", llama.Batch{Tokens: []int32{int32(n)}}, llama.CodeInvalidBatch, "invalid token[0] = 1536"},
		{"negative token", llama.Batch{Tokens: []int32{-1}}, llama.CodeInvalidBatch, "token -1 in the batch"},
		{"sequence out of range", llama.Batch{Tokens: []int32{1}, Seq: []int32{1}}, llama.CodeInvalidBatch, "invalid seq_id"},
		{"lengths differ", llama.Batch{Tokens: []int32{1, 2}, Pos: []int32{0}}, llama.CodeInvalidBatch, "2 tokens with 1 positions"},
		{"gap in positions", llama.Batch{Tokens: []int32{1, 2}, Pos: []int32{0, 5}}, llama.CodeInvalidBatch, "not continuous"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := c.Decode(tt.batch)
			var e *llama.Error
			if !errors.As(err, &e) || e.Code != tt.code || !strings.Contains(e.Msg, tt.want) {
				t.Errorf("Decode = %v, want code %d and %q", err, tt.code, tt.want)
			}
		})
	}
}

func TestFullMemoryIsAnErrorWithItsOwnCode(t *testing.T) {
	m := small(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 256})
	tokens := make([]int32, 200)
	for i := range tokens {
		tokens[i] = 300
	}
	decode(t, c, llama.Batch{Tokens: tokens})
	var e *llama.Error
	if err := c.Decode(llama.Batch{Tokens: tokens}); !errors.As(err, &e) || e.Code != llama.CodeNoSlot {
		t.Fatalf("Decode into a full memory = %v, want code %d", err, llama.CodeNoSlot)
	}
	if got := c.Len(0); got != 200 {
		t.Errorf("Len after the refusal = %d, want 200", got)
	}
	c.ClearMemory()
	decode(t, c, llama.Batch{Tokens: tokens})
}

func TestWrongContextParamsAreErrors(t *testing.T) {
	m := small(t)
	for _, tt := range []struct {
		name string
		p    llama.ContextParams
		want string
	}{
		{"negative NCtx", llama.ContextParams{NCtx: -1}, "NCtx is -1"},
		{"unknown cache type", llama.ContextParams{TypeK: typ(ggml.Type(4))}, "unknown cache type 4"},
		{"too many sequences", llama.ContextParams{NSeqMax: 100000}, "n_seq_max"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := llama.NewContext(m, tt.p)
			if err == nil {
				c.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("NewContext = %v, want %q", err, tt.want)
			}
		})
	}
}

// Two texts that begin alike go on from one copy of their beginning as each does by itself.
func TestCopyTokens(t *testing.T) {
	m := small(t)
	for _, unified := range []bool{true, false} {
		c := newContext(t, m, llama.ContextParams{NCtx: 512, NSeqMax: 2, KVUnified: unified})
		shared := tokenize(t, m, "Once upon a time there was")
		ends := []int32{300, 350}
		decode(t, c, llama.Batch{Tokens: shared})
		if !c.CopyTokens(0, 1) || c.Len(1) != len(shared) {
			t.Fatalf("unified %v: %d tokens after CopyTokens, want %d", unified, c.Len(1), len(shared))
		}
		decode(t, c, llama.Batch{Tokens: ends, Seq: []int32{0, 1}, Output: []bool{true, true}})
		got := [][]float32{append([]float32(nil), c.Logits(0)...), append([]float32(nil), c.Logits(1)...)}
		for i, end := range ends {
			want := lastLogits(t, c, append(append([]int32(nil), shared...), end))
			if d := maxDiff(got[i], want); !(d <= cacheTolerance) {
				t.Errorf("unified %v: the logits of sequence %d are %v apart from those of the text by itself", unified, i, d)
			}
		}
		if c.CopyTokens(0, 2) || c.CopyTokens(-1, 0) {
			t.Errorf("unified %v: CopyTokens of a sequence that cannot exist = true, want false", unified)
		}
	}
}

func TestRemoveAndShiftTokens(t *testing.T) {
	m := small(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 256})
	tokens := tokenize(t, m, "Once upon a time there was a little girl")
	decode(t, c, llama.Batch{Tokens: tokens})
	if !c.RemoveTokens(0, 4, 6) || !c.ShiftTokens(0, 6, -1, -2) {
		t.Fatal("RemoveTokens and ShiftTokens = false, want true")
	}
	if got, want := c.Len(0), len(tokens)-2; got != want {
		t.Errorf("Len after removing 2 of %d = %d, want %d", len(tokens), got, want)
	}
	decode(t, c, llama.Batch{Tokens: []int32{300}})
	if c.RemoveTokens(7, 0, 1) {
		t.Error("RemoveTokens of a sequence that cannot exist = true, want false")
	}
}
