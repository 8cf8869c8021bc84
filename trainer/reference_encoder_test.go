package trainer_test

import (
	"path/filepath"
	"testing"

	"finetune/adapter"
	"finetune/classify"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/trainer/data"
	"finetune/trainer/graph"
	"finetune/trainer/optim"
)

// encoderRun is testdata/encoders/bert.json: what transformers, PEFT and PyTorch computed over the BERT beside it, and what of.
type encoderRun struct {
	referenceRun
	Classes int
	Texts   [][]struct { // window by window
		Tokens []int32
		Label  int32
	}
	State []float32 // of the first token of the first text, by the base
}

// Ten steps of LoRA and a classifier over a BERT that transformers made and llama.cpp's own script converted are those of PyTorch,
// with the state of the first token and with the mean of all. Its GELU is exact; llama.cpp's is the approximation by tanh, read from a
// table of halves, as for other architectures.
func TestClassifyingEqualsPyTorch(t *testing.T) {
	var want encoderRun
	readJSON(t, filepath.Join("testdata", "encoders", "bert.json"), &want)
	base := filepath.Join("testdata", "encoders", "bert.gguf")
	for name, pooling := range map[string]classify.Pooling{"cls": classify.PoolFirst, "mean": classify.PoolMean} {
		t.Run(name, func(t *testing.T) {
			run := want.Runs[name]
			losses, norms := want.classify(t, base, pooling, run.Parameters)
			for i := range want.Steps {
				t.Logf("step %d: loss %.6f, %+.1e from PyTorch's; norm %.6f, %+.1e", i+1, losses[i], losses[i]-run.Losses[i], norms[i], norms[i]-run.Norms[i])
				if !near.Enough(losses[i], run.Losses[i], architectureTolerance.loss) {
					t.Errorf("step %d: loss %v, PyTorch has %v", i+1, losses[i], run.Losses[i])
				}
				if !near.Within(norms[i], run.Norms[i], architectureTolerance.norm) {
					t.Errorf("step %d: norm of the gradients %v, PyTorch has %v", i+1, norms[i], run.Norms[i])
				}
			}
		})
	}
}

// classify takes the steps of the reference.
func (r encoderRun) classify(t *testing.T, base string, pooling classify.Pooling, parameters int) (losses, norms []float64) {
	t.Helper()
	a := startedAdapter(t, adapter.MethodLoRA, r.referenceRun, base, `blk\..*`)
	m := openModel(t, base)
	c := &graph.Classes{Weights: testmodel.Uniform(classify.TensorWeights, m.NEmbd()*r.Classes, 0.5), Biases: make([]float32, r.Classes), Pooling: pooling}
	if n := a.Parameters() + len(c.Weights) + len(c.Biases); n != parameters {
		t.Errorf("%d trainable parameters, PyTorch has %d", n, parameters)
	}
	e, err := graph.Prepare(m, a.Weights, graph.Options{Shape: graph.Shape{Ctx: r.Ctx, Seqs: r.Batch}, Threads: 1, Classes: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := e.Allocate(); err != nil {
		t.Fatal(err)
	}
	var params []optim.Param
	var values, grads [][]float32
	add := func(name string, data []float32) {
		params, values = append(params, optim.Param{Name: name, Len: len(data), LRScale: 1}), append(values, data)
	}
	for _, tensor := range a.Tensors() {
		add(tensor.Name, tensor.Mat.Data)
	}
	add(classify.TensorWeights, c.Weights)
	add(classify.TensorBiases, c.Biases)
	for i, g := range e.Gradients() {
		if g.Name != params[i].Name {
			t.Fatalf("gradient %d is of %q, want %q", i, g.Name, params[i].Name)
		}
		grads = append(grads, g.Data)
	}
	schedule, err := optim.NewSchedule("cosine", r.LR, 0, r.Steps, 0)
	if err != nil {
		t.Fatal(err)
	}
	opt := optim.NewAdamW(params, r.WeightDecay)
	for step := 1; step <= r.Steps; step++ {
		losses = append(losses, r.gradients(t, e, r.batch(step)))
		norms = append(norms, optim.ClipGlobalNorm(grads, r.Clip))
		opt.Step(schedule.LR(step), values, grads)
		e.Upload()
	}
	return losses, norms
}

// batch is the windows of a step, counted from 1, each with some texts and some padding.
func (r encoderRun) batch(step int) (windows []data.Window) {
	for i := range r.Batch {
		w, at := data.Blank(r.Ctx), 0
		for doc, text := range r.Texts[((step-1)*r.Batch+i)%len(r.Texts)] {
			for pos, id := range text.Tokens {
				w.Tokens[at], w.Pos[at], w.Doc[at] = id, int32(pos), int32(doc)
				at++
			}
			w.Targets[at-1], w.LossMask[at-1] = text.Label, 1
		}
		for pos := 0; at < r.Ctx; at, pos = at+1, pos+1 {
			w.Pos[at], w.Doc[at] = int32(pos), int32(len(r.Texts[0]))
		}
		windows = append(windows, w)
	}
	return windows
}

// The state of a token of a BERT is that of transformers.
func TestStatesEqualTransformers(t *testing.T) {
	var want encoderRun
	readJSON(t, filepath.Join("testdata", "encoders", "bert.json"), &want)
	e, err := graph.Prepare(openModel(t, filepath.Join("testdata", "encoders", "bert.gguf")), nil, graph.Options{Shape: graph.Shape{Ctx: want.Ctx, Seqs: want.Batch}, Threads: 1, ForwardOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Allocate(); err != nil {
		t.Fatal(err)
	}
	states, err := e.Hidden(want.batch(1))
	if err != nil {
		t.Fatal(err)
	}
	if d := near.Share(states[:len(want.State)], want.State); d > architectureTolerance.loss {
		t.Errorf("the state differs by %v of the largest number, want within %v", d, architectureTolerance.loss)
	}
}
