package trainer

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/classify"
	"finetune/eval"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/merge"
	"finetune/model"
	"finetune/model/native"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// classifiedBy returns the texts of a run's data, the probabilities of their classes by the run's result in llama.cpp, and the right
// ones.
func classifiedBy(t *testing.T, c run.Config, h *classify.Head) (texts [][]int32, p [][]float32, right []int) {
	t.Helper()
	e, m := readerOf(t, c)
	windows, err := data.LoadClassified(context.Background(), c, m.Vocab(), h.Labels, nil)
	if err != nil {
		t.Fatal(err)
	}
	texts, right = windows.Classified()
	if p, err = e.Classify(context.Background(), texts, h, nil); err != nil {
		t.Fatal(err)
	}
	return texts, p, right
}

// readerOf opens the base of a run with what the run has learned.
func readerOf(t *testing.T, c run.Config) (*eval.Evaluator, *llama.Model) {
	t.Helper()
	m := testrun.Model(t, c)
	e, err := eval.NewReader(m, c.Ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if _, err := e.Attach(c.Out, 1); err != nil {
		t.Fatal(err)
	}
	return e, m
}

// The classifier is trained beside the adapter, llama.cpp's states give its probabilities, and rank pooling of the merged model the
// same.
func TestClassifierOfARunAndOfAMergedModel(t *testing.T) {
	for _, encoder := range []string{"bert", "bert with three projections", "modern-bert", "neo-bert"} {
		t.Run(encoder, func(t *testing.T) {
			c := testrun.Classifying(t, encoder)
			s, _ := mustTrain(t, c, false)
			if !(s.ValLoss < s.BaseValLoss-0.3) {
				t.Errorf("validation loss %v → %v, want clearly less", s.BaseValLoss, s.ValLoss)
			}
			h, err := classify.Load(filepath.Join(c.Out, run.ClassifierFile))
			if err != nil {
				t.Fatal(err)
			}
			texts, p, right := classifiedBy(t, c, h)
			if r := eval.GradeClasses(h.Labels, p, right); r.Share < 0.9 {
				t.Errorf("%v of the texts are classified rightly, want nine of ten at least", r.Share)
			}
			merged := filepath.Join(t.TempDir(), "merged.gguf")
			_, err = merge.Merge(context.Background(), merge.Config{Model: c.Model, Out: merged, Classifier: filepath.Join(c.Out, run.ClassifierFile),
				Adapters: []merge.Adapter{{Path: s.Adapter, Scale: 1}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, scores := range ranked(t, merged, texts[:12]) {
				classify.Probabilities(scores)
				if d := near.Farthest(scores, p[i]); d > sameLossTolerance {
					t.Errorf("text %d: llama.cpp's rank pooling of the merged model gives %v, the run %v", i, scores, p[i])
				}
			}
		})
	}
}

// ranked returns llama.cpp's own scores of the classes, by the classifier in the model.
func ranked(t *testing.T, path string, texts [][]int32) (all [][]float32) {
	t.Helper()
	m, err := native.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, err := llama.NewContext(m, llama.ContextParams{NCtx: 256, Threads: 1, Embeddings: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	for _, tokens := range texts {
		if err := ctx.Decode(llama.Batch{Tokens: tokens}); err != nil {
			t.Fatal(err)
		}
		all = append(all, slices.Clone(ctx.ClassScores(0)))
	}
	return all
}

// A run that is stopped and resumed ends with the same classifier, to the last bit.
func TestClassifierOfAResumedRun(t *testing.T) {
	c := testrun.Classifying(t, "bert")
	c.ClassWeights = "plant=3"
	checkResumed(t, c)
}

// checkResumed stops a run of Dual LoRA over its settings after three steps of six, and compares what it ends with when it is resumed.
func checkResumed(t *testing.T, c run.Config) {
	t.Helper()
	c.Method, c.Steps = "dual-lora", 6
	c = c.Completed(nil)
	mustTrain(t, c, false)
	again := testrun.Elsewhere(t, c)
	ctx, stop := context.WithCancel(context.Background())
	if _, err := Train(ctx, again, false, func(e Event) {
		if e.Kind == "step" && e.Step == 3 {
			stop()
		}
	}); !errors.Is(err, ErrInterrupted) {
		t.Fatalf("Train = %v, want ErrInterrupted", err)
	}
	mustTrain(t, again, true)
	for _, name := range []string{run.ClassifierFile, run.AdapterFile} {
		if string(testrun.Read(t, c.Out, name)) != string(testrun.Read(t, again.Out, name)) {
			t.Errorf("%s differs from that of the run that was not stopped", name)
		}
	}
}

// A run that goes on from an adapter takes the classes that the adapter's classifier knows, whatever their order.
func TestClassifierGoesOn(t *testing.T) {
	c := testrun.Classifying(t, "bert")
	first, _ := mustTrain(t, c, false)
	begins := func(from string, change func(*run.Config)) (loss float64, notes []string) {
		r := goOn(t, c, from)
		r.Steps, r.Seed = 1, 3
		change(&r)
		if _, err := Train(context.Background(), r, false, func(e Event) {
			switch {
			case e.Kind == "start":
				notes = e.Notes
			case e.Kind == "eval" && e.Initial:
				loss = float64(e.Loss)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return loss, notes
	}
	loss, notes := begins(c.Out, func(r *run.Config) { r.Seed = c.Seed })
	if loss != float64(first.ValLoss) || slices.ContainsFunc(notes, func(s string) bool { return strings.Contains(s, "classifier") }) {
		t.Errorf("goes on at %v, want %v where the run ended; notes %q", loss, first.ValLoss, notes)
	}
	alone := filepath.Join(t.TempDir(), "alone.gguf")
	if err := os.WriteFile(alone, testrun.Result(t, c.Out), 0o666); err != nil {
		t.Fatal(err)
	}
	_, notes = begins(alone, func(*run.Config) {})
	if !slices.ContainsFunc(notes, func(s string) bool { return strings.Contains(s, "there is no classifier beside") }) {
		t.Errorf("without a classifier: notes %q", notes)
	}
	more := filepath.Join(t.TempDir(), "more.jsonl")
	rows := string(testrun.Read(t, filepath.Dir(c.Data), filepath.Base(c.Data))) + strings.Repeat("{\"text\":\"the stone\",\"label\":\"aa thing\"}\n", 8)
	if err := os.WriteFile(more, []byte(rows), 0o666); err != nil {
		t.Fatal(err)
	}
	_, notes = begins(c.Out, func(r *run.Config) { r.Data = more })
	if !slices.ContainsFunc(notes, func(s string) bool { return strings.Contains(s, "goes on with 2 of its 3 classes") }) {
		t.Errorf("with a label more: notes %q", notes)
	}
}

// AdamW's first step is as long as the rate, whatever the gradient, so that the classifier's own rate can be read off its weights.
func TestClassifierHasItsOwnRate(t *testing.T) {
	c := testrun.Classifying(t, "bert")
	c.Steps, c.Warmup = 1, 0
	moved := func(share float64) float64 {
		c := testrun.Elsewhere(t, c)
		c.HeadLR = share
		mustTrain(t, c, false)
		h, err := classify.Load(filepath.Join(c.Out, run.ClassifierFile))
		if err != nil {
			t.Fatal(err)
		}
		start := classify.New(len(h.Weights)/len(h.Labels), h.Labels, h.Pooling, c.Seed)
		return near.Farthest(h.Weights, start.Weights)
	}
	for share, want := range map[float64]float64{0: 1, 0.25: 0.25} {
		if got := moved(share) / float64(c.LR); !near.Within(got, want, firstStepTolerance) {
			t.Errorf("with --head-lr %v the first step of the classifier is %v of the rate, want %v", share, got, want)
		}
	}
}

// firstStepTolerance is what weights of about 0.1, in single precision, show of a step of 2.5e-3.
const firstStepTolerance = 1e-4

// The loss of weighted classes is torch's: Σ w·nll/Σ w over the texts, here of the probabilities that llama.cpp's states give.
func TestLossOfWeightedClasses(t *testing.T) {
	c := testrun.Classifying(t, "bert")
	c.Val, c.Steps, c.ClassWeights = c.Data, 4, "animal=5,plant=0.25"
	s, _ := mustTrain(t, c, false)
	h, err := classify.Load(filepath.Join(c.Out, run.ClassifierFile))
	if err != nil {
		t.Fatal(err)
	}
	_, p, right := classifiedBy(t, c, h)
	var sum, weight, plain float64
	for i, k := range right {
		w, nll := map[string]float64{"animal": 5, "plant": 0.25}[h.Labels[k]], -math.Log(float64(p[i][k]))
		sum, weight, plain = sum+w*nll, weight+w, plain+nll/float64(len(right))
	}
	if want := sum / weight; !near.Enough(float64(s.ValLoss), want, sameLossTolerance) || near.Enough(plain, want, sameLossTolerance) {
		t.Errorf("validation loss %v, want %v (without weights %v)", s.ValLoss, want, plain)
	}
}

func TestClassifierOfADecoder(t *testing.T) {
	c := testrun.Classifying(t, "bert")
	c.Model = testmodel.Path(t, testmodel.Spec{Arch: "llama"})
	s, _ := mustTrain(t, c, false)
	if !(s.ValLoss < s.BaseValLoss-0.3) {
		t.Errorf("validation loss %v → %v, want clearly less", s.BaseValLoss, s.ValLoss)
	}
	h, err := classify.Load(filepath.Join(c.Out, run.ClassifierFile))
	if err != nil {
		t.Fatal(err)
	}
	if h.Pooling != classify.PoolLast {
		t.Errorf("pooling %v, want last", h.Pooling)
	}
	_, err = merge.Merge(context.Background(), merge.Config{Model: c.Model, Out: filepath.Join(t.TempDir(), "merged.gguf"),
		Classifier: filepath.Join(c.Out, run.ClassifierFile), Adapters: []merge.Adapter{{Path: s.Adapter, Scale: 1}}}, nil)
	if err == nil || !strings.Contains(err.Error(), "llama.cpp's llama has no classifier, want one of bert, modern-bert, neo-bert") {
		t.Errorf("merge = %v, want that llama.cpp has no place for it", err)
	}
}

func TestAnEncoderWantsATask(t *testing.T) {
	c := testrun.Classifying(t, "bert")
	c.Task = ""
	_, err := Train(context.Background(), c, false, nil)
	if err == nil || !strings.Contains(err.Error(), "a bert reads in both directions and predicts no text, want a task") {
		t.Errorf("Train = %v, want that it asks for a task", err)
	}
	if _, err := model.Open(c.Model); err != nil {
		t.Error(err)
	}
}
