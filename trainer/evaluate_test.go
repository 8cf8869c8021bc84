package trainer

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// windowsOf is all training windows of a setup.
func windowsOf(t *testing.T, s *setup) []data.Window {
	t.Helper()
	windows := s.train.All()
	if docs := len(windows[0].Documents()); docs < 3 {
		t.Fatalf("%d records in the first window, want several", docs)
	}
	return windows
}

// alone is every document in a window of its own.
func alone(windows []data.Window, nCtx int) (out []data.Window) {
	for _, w := range windows {
		for _, doc := range w.Documents() {
			one := data.Blank(nCtx)
			n := copy(one.Tokens, doc.Tokens)
			copy(one.Targets, doc.Targets)
			copy(one.Pos, doc.Pos)
			copy(one.LossMask, doc.LossMask)
			for i := n; i < nCtx; i++ {
				one.Pos[i], one.Doc[i] = int32(i-n), 1
			}
			out = append(out, one)
		}
	}
	return out
}

func TestPackedRecordsHaveTheLossOfEachAlone(t *testing.T) {
	c := testrun.Packed(t)
	c.Steps = 30
	mustTrain(t, c, false)
	path := filepath.Join(c.Out, run.AdapterFile)
	trained, err := adapter.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s := opened(t, c)
	for i, w := range s.trainable.(*adapterTrainable).Weights {
		for j, m := range w.Matrices() {
			copy(m.Mat.Data, trained.Weights[i].Matrices()[j].Mat.Data)
		}
	}
	s.engine.Upload()
	e := evaluator(t, s.model, s.config.Ctx)
	base := lossOf(t, e, windowsOf(t, s))
	if _, err := e.Attach(path, 1); err != nil {
		t.Fatal(err)
	}
	together := windowsOf(t, s)
	apart := alone(together, s.config.Ctx)
	losses := map[string]float64{
		"engine, packed":    engineLoss(t, s, together),
		"engine, alone":     engineLoss(t, s, apart),
		"llama.cpp, packed": lossOf(t, e, together),
		"llama.cpp, alone":  lossOf(t, e, apart),
		"one after another": oneByOne(t, s.model, path, together),
	}
	want := losses["engine, alone"]
	for name, loss := range losses {
		if !near.Within(loss, want, sameLossTolerance) {
			t.Errorf("%s: loss %.6f, want %.6f", name, loss, want)
		}
	}
	if got, want := losses["llama.cpp, packed"], losses["one after another"]; !near.Within(got, want, sameBatchTolerance) {
		t.Errorf("documents in one batch have the loss %.6f, one after another %.6f", got, want)
	}
	if !near.Apart(base, want, 20*sameLossTolerance) {
		t.Fatalf("the adapter changes the loss from %.6f to %.6f only: too little to tell", base, want)
	}
}

// engineLoss is the mean loss over windows as the engine finds it.
func engineLoss(t *testing.T, s *setup, windows []data.Window) float64 {
	t.Helper()
	var sum float64
	for batch := range slices.Chunk(windows, s.engine.Shape().Seqs) {
		loss, err := s.engine.Loss(data.Fill(batch, s.engine.Shape().Seqs))
		if err != nil {
			t.Fatal(err)
		}
		sum += loss
	}
	return sum / data.TotalWeight(windows)
}

// oneByOne is the mean loss over the documents of windows, each decoded by itself with llama.cpp's own defaults.
func oneByOne(t *testing.T, m *llama.Model, path string, windows []data.Window) float64 {
	t.Helper()
	a, err := adapter.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	exact := filepath.Join(t.TempDir(), "exact.gguf")
	if err := a.WriteExact(exact, adapter.LoRAOptions{Type: gguf.TypeF32}); err != nil {
		t.Fatal(err)
	}
	lora, err := llama.LoadAdapter(m, exact)
	if err != nil {
		t.Fatal(err)
	}
	defer lora.Close()
	ctx, err := llama.NewContext(m, llama.ContextParams{NCtx: 64, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	if err := ctx.SetAdapter(lora, 1); err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, w := range windows {
		for _, doc := range w.Documents() {
			output := make([]bool, len(doc.Tokens))
			for i, weight := range doc.LossMask {
				output[i] = weight != 0
			}
			ctx.ClearMemory()
			if err := ctx.Decode(llama.Batch{Tokens: doc.Tokens, Pos: doc.Pos, Output: output}); err != nil {
				t.Fatal(err)
			}
			for i, weight := range doc.LossMask {
				if weight != 0 {
					sum += float64(weight) * negLogLikelihood(ctx.Logits(i), doc.Targets[i])
				}
			}
		}
	}
	return sum / data.TotalWeight(windows)
}

// longDocument is more tokens than llama.cpp computes at once, twice.
const longDocument = 2*512 + 100

// A document of more tokens than llama.cpp computes at once is decoded in parts.
func TestLongDocumentIsEvaluatedInParts(t *testing.T) {
	c := testrun.Tiny(t)
	c.Ctx, c.Batch, c.ValFraction = longDocument, 1, 0
	c.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: c.Ctx})
	c.Data = testrun.Write(t, "train.txt", testrun.Story(400))
	s := opened(t, c)
	w := s.train.At(0)
	e := evaluator(t, s.model, c.Ctx)
	if got, want := lossOf(t, e, []data.Window{w, w}), engineLoss(t, s, []data.Window{w}); !near.Within(got, want, sameLossTolerance) {
		t.Errorf("loss %.6f, want %.6f as by the engine", got, want)
	}
	if _, err := evaluator(t, s.model, 256).Loss(context.Background(), []data.Window{w}, nil); err == nil {
		t.Errorf("a document of %d tokens in a context of 256: no error", c.Ctx)
	}
}

func TestEvaluatorTellsItsProgressAndStops(t *testing.T) {
	s := opened(t, testrun.Packed(t))
	e := evaluator(t, s.model, s.config.Ctx)
	windows := windowsOf(t, s)
	var told []int
	if _, err := e.Loss(context.Background(), windows, func(done int) { told = append(told, done) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, countTo(len(windows))) {
		t.Errorf("progress %v, want 1 to %d", told, len(windows))
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, err := e.Loss(ctx, windows, func(int) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Loss after cancel = %v, want context.Canceled", err)
	}
	if _, err := e.Loss(context.Background(), []data.Window{data.Blank(8)}, nil); err == nil {
		t.Error("Loss over padding alone = nil, want an error")
	}
}

// What stands where nothing is trained must not count: neither in the loss nor in the gradient, to the last bit.
func TestUntrainedTargetsChangeNothing(t *testing.T) {
	s := opened(t, testrun.Packed(t))
	windows := windowsOf(t, s)[:s.engine.Shape().Seqs]
	other := make([]data.Window, len(windows))
	untrained := 0
	for i, w := range windows {
		other[i] = w
		other[i].Targets = slices.Clone(w.Targets)
		for k, weight := range w.LossMask {
			if weight == 0 {
				untrained++
				other[i].Targets[k] = (w.Targets[k] + 7) % 256
			}
		}
	}
	if untrained < 10 {
		t.Fatalf("%d untrained positions, want some", untrained)
	}
	loss, grads := gradient(t, s, windows)
	otherLoss, otherGrads := gradient(t, s, other)
	if loss != otherLoss || !slices.Equal(grads, otherGrads) {
		t.Errorf("loss %v, then %v with other targets that are not trained; gradients equal: %v", loss, otherLoss, slices.Equal(grads, otherGrads))
	}
	e := evaluator(t, s.model, s.config.Ctx)
	if got, want := lossOf(t, e, other), lossOf(t, e, windows); got != want {
		t.Errorf("llama.cpp: loss %v with other targets that are not trained, want %v", got, want)
	}
	trained := slices.Index(windows[0].LossMask, 1)
	other[0].Targets[trained] = (windows[0].Targets[trained] + 7) % 256
	if otherLoss, _ := gradient(t, s, other); otherLoss == loss {
		t.Error("another target that is trained leaves the loss as it was")
	}
}

// gradient is loss and gradient of one batch.
func gradient(t *testing.T, s *setup, windows []data.Window) (loss float64, all []float32) {
	t.Helper()
	s.engine.Reset()
	loss, err := s.engine.Step(windows, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range s.engine.Gradients() {
		all = append(all, g.Data...)
	}
	return loss, all
}

// Blank windows fill up a batch and count nowhere.
func TestFillingABatchChangesNothing(t *testing.T) {
	c := testrun.Packed(t)
	c.Batch = 1
	one := opened(t, c)
	c.Batch = 3
	three := opened(t, c)
	w := windowsOf(t, one)[:1]
	loss, grads := gradient(t, one, w)
	filledLoss, filledGrads := gradient(t, three, data.Fill(w, three.engine.Shape().Seqs))
	if !near.Within(loss, filledLoss, sameMathTolerance) {
		t.Errorf("loss %v beside blank windows, want %v", filledLoss, loss)
	}
	var difference, size float64
	for i, g := range grads {
		difference += math.Pow(float64(g-filledGrads[i]), 2)
		size += math.Pow(float64(g), 2)
	}
	if !(math.Sqrt(difference) <= sameMathTolerance*math.Sqrt(size)) {
		t.Errorf("gradients differ by %g of %g beside blank windows", math.Sqrt(difference), math.Sqrt(size))
	}
}

// negLogLikelihood is −ln softmax(logits)[target].
func negLogLikelihood(logits []float32, target int32) float64 {
	var z float64
	for _, v := range logits {
		z += math.Exp(float64(v - logits[target]))
	}
	return math.Log(z)
}
