package apps

import (
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"finetune/classify"
	"finetune/eval"
	"finetune/export"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/merge"
	"finetune/model/native"
	"finetune/run"
	"finetune/trainer"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// pooled is a request for the states of texts, and what an app says to it.
type (
	pooled struct {
		Model   string   `json:"model"`
		Adapter string   `json:"adapter"`
		Texts   []string `json:"texts"`
		Numbers int      `json:"numbers"` // of a vector
		Context int      `json:"context"`
		Threads int      `json:"threads"`
	}
	vectors struct {
		Version string      `json:"version"`
		Vectors [][]float32 `json:"vectors"`
	}
)

// unseen are texts that no run of these tests learns.
var unseen = []string{"a cat sits on the roof", "the tree is taller than the house", "two words", "rain all week, and then the sun came back"}

const (
	encoderCtx = 64
	// classTolerance is of probabilities: two builds of llama.cpp add up in different orders.
	classTolerance = 1e-3
	// leastCosine of an embedding with ours.
	leastCosine = 0.9999
)

func TestEncodersInLlamaCppPython(t *testing.T) {
	t.Run("a tiny encoder", func(t *testing.T) {
		path := testmodel.EncoderPath(t, "bert")
		encoderInPython(t, path, 1e-2)
	})
	t.Run("all-MiniLM-L6-v2", func(t *testing.T) { encoderInPython(t, need.Shared(t, "models/all-minilm-l6-v2-f16.gguf"), 2e-3) })
}

func encoderInPython(t *testing.T, base string, rate float64) {
	interpreter, dir := pythonApp(t)
	put(t, "python/pool.py", dir)
	ask := func(t *testing.T, r pooled) [][]float32 {
		r.Texts, r.Context, r.Threads = unseen, encoderCtx, threads
		script := exec.CommandContext(t.Context(), interpreter, "pool.py")
		script.Dir = dir
		var said vectors
		exchange(t, script, r, &said)
		t.Logf("version %s", said.Version)
		return said.Vectors
	}
	t.Run("classes of a merged model", func(t *testing.T) { classesInPython(t, base, rate, ask) })
	t.Run("embeddings with an adapter", func(t *testing.T) { embeddingsInPython(t, base, rate, ask) })
}

func classesInPython(t *testing.T, base string, rate float64, ask func(*testing.T, pooled) [][]float32) {
	var records strings.Builder
	for i := range 40 {
		fmt.Fprintf(&records, "{\"text\":\"the cat number %d\",\"label\":\"animal\"}\n{\"text\":\"the tree number %d\",\"label\":\"plant\"}\n", i, i)
	}
	c := encoderRun(t, base, run.TaskClassify, records.String(), rate)
	h, err := classify.Load(filepath.Join(c.Out, run.ClassifierFile))
	if err != nil {
		t.Fatal(err)
	}
	merged := filepath.Join(t.TempDir(), "merged.gguf")
	_, err = merge.Merge(t.Context(), merge.Config{Model: base, Out: merged, Classifier: filepath.Join(c.Out, run.ClassifierFile),
		Adapters: []merge.Adapter{{Path: filepath.Join(c.Out, run.AdapterFile), Scale: 1}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var want [][]float32
	reading(t, base, c.Out, func(e *eval.Evaluator, texts [][]int32) error {
		want, err = e.Classify(t.Context(), texts, h, nil)
		return err
	})
	for i, scores := range ask(t, pooled{Model: merged, Numbers: len(h.Labels)}) {
		classify.Probabilities(scores)
		if d := near.Farthest(scores, want[i]); d > classTolerance {
			t.Errorf("%q: llama-cpp-python gives the classes %v, we %v", unseen[i], scores, want[i])
		}
	}
}

func embeddingsInPython(t *testing.T, base string, rate float64, ask func(*testing.T, pooled) [][]float32) {
	var records strings.Builder
	for i := range 40 {
		fmt.Fprintf(&records, "{\"query\":\"where is number %d\",\"positive\":\"shelf %d of the second row\"}\n", i, i)
	}
	c := encoderRun(t, base, run.TaskEmbed, records.String(), rate)
	adapter := filepath.Join(t.TempDir(), "adapter.gguf")
	e := export.DefaultConfig()
	e.Run, e.Out, e.Mode, e.Type, e.Threads = c.Out, adapter, export.ModeExact, gguf.TypeF16, threads
	if _, err := export.Run(t.Context(), e, nil); err != nil {
		t.Fatal(err)
	}
	states := func(adapter string) (all [][]float32) {
		reading(t, base, adapter, func(e *eval.Evaluator, texts [][]int32) error {
			return e.States(t.Context(), texts, classify.PoolMean, func(_ int, state []float32) error {
				all = append(all, append([]float32(nil), state...))
				return nil
			})
		})
		return all
	}
	want, without := states(adapter), states("")
	for i, got := range ask(t, pooled{Model: base, Adapter: adapter, Numbers: len(want[0])}) {
		if c := cosine(got, want[i]); !(c > leastCosine) {
			t.Errorf("%q: cosine %v with our embedding, want more than %v", unseen[i], c, leastCosine)
		}
		if c := cosine(want[i], without[i]); c > leastCosine {
			t.Errorf("%q: the adapter leaves the embedding where it was, cosine %v", unseen[i], c)
		}
	}
}

// encoderRun trains a LoRA over an encoder.
func encoderRun(t *testing.T, base, task, records string, rate float64) run.Config {
	t.Helper()
	c := run.DefaultsOf("lora")
	c.Model, c.Data, c.Out, c.Task = base, testrun.Write(t, "records.jsonl", records), filepath.Join(t.TempDir(), "run"), task
	c.Ctx, c.Batch, c.Steps, c.Rank, c.LR, c.Threads, c.ValFraction = encoderCtx, 2, 20, 4, run.Rate(rate), threads, 0
	c = c.Completed(nil)
	if _, err := trainer.Train(t.Context(), c, false, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// reading hands an evaluator of states, with an adapter or a run's, and the tokens of the unseen texts to do.
func reading(t *testing.T, base, adapter string, do func(e *eval.Evaluator, texts [][]int32) error) {
	t.Helper()
	m, err := native.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e, err := eval.NewReader(m, encoderCtx, threads)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if adapter != "" {
		detach, err := e.Attach(adapter, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer detach()
	}
	if err := do(e, tokensOf(t, m)); err != nil {
		t.Fatal(err)
	}
}

func tokensOf(t *testing.T, m *llama.Model) (all [][]int32) {
	t.Helper()
	for _, text := range unseen {
		tokens, err := m.Vocab().Tokenize(text, true, false)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tokens)
	}
	return all
}

func cosine(a, b []float32) float64 {
	var dot, aa, bb float64
	for i := range a {
		dot, aa, bb = dot+float64(a[i])*float64(b[i]), aa+float64(a[i])*float64(a[i]), bb+float64(b[i])*float64(b[i])
	}
	return dot / math.Sqrt(aa*bb)
}
