package trainer_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/internal/testrun/trained"
	"finetune/quant"
	"finetune/trainer/data"
	"finetune/trainer/graph"
	"finetune/trainer/optim"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// tolerance is how far a step's loss, in nats a token, and the norm of its gradients, as a share, may be from PyTorch's.
type tolerance struct{ loss, norm float64 }

// Both sides compute in float32 with the same dequantized weights, in another order, which makes up to 6e-7 of the loss and
// 3e-7 of the norm in ten steps. An ε of 1e-7 in place of 1e-8 makes 1e-4.
var referenceTolerance = tolerance{1e-5, 1e-5}

// referenceRun is testdata/reference.json: what transformers, PEFT and PyTorch computed, and what of.
type referenceRun struct {
	Rank        int
	Alpha       float32
	Ctx         int
	Batch       int
	GradAccum   int `json:"grad_accum"`
	Steps       int
	LR          float64
	Clip        float64
	WeightDecay float64 `json:"weight_decay"`
	Windows     []struct {
		Tokens    []int32 // Ctx that are read, and one more
		Untrained int     // so many of the first are read and not learned
	}
	Runs map[string]struct {
		Parameters    int
		Losses, Norms []float64
	}
}

const demoBase = "../demo/base.gguf"

// Ten steps over the demo's base are those of PyTorch: loss by loss, norm by norm.
func TestTrainingEqualsPyTorch(t *testing.T) {
	var want referenceRun
	readJSON(t, filepath.Join("testdata", "reference.json"), &want)
	for _, method := range []adapter.Method{adapter.MethodLoRA, adapter.MethodRSLoRA, adapter.MethodDoRA} {
		t.Run(string(method), func(t *testing.T) {
			want.check(t, method, demoBase, "all-linear", referenceTolerance)
		})
	}
}

// architectureTolerance is that of architectures with GELU, which the CPU reads from a table of half-precision numbers: up to 3e-4
// of the loss and 5e-3 of the norm in ten steps. PyTorch with GELU rounded to halves is ten times nearer.
var architectureTolerance = tolerance{1e-3, 1e-2}

// Ten steps over models that transformers made and llama.cpp's own script converted are those of PyTorch, and the loss of the
// base is llama.cpp's.
func TestTrainingOfArchitecturesEqualsPyTorch(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "architectures", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d architectures, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			var want referenceRun
			readJSON(t, file, &want)
			base := strings.TrimSuffix(file, ".json") + ".gguf"
			want.check(t, adapter.MethodLoRA, base, `blk\..*`, architectureTolerance)
			e := trained.Evaluator(t, openModel(t, base), want.Ctx)
			if loss := trained.Loss(t, e, want.batch(1)); !near.Enough(loss, want.Runs["lora"].Losses[0], architectureTolerance.loss) {
				t.Errorf("the base's loss in llama.cpp is %v, PyTorch has %v", loss, want.Runs["lora"].Losses[0])
			}
		})
	}
}

// check holds the steps over a base against PyTorch's.
func (r referenceRun) check(t *testing.T, method adapter.Method, base, targets string, within tolerance) {
	t.Helper()
	run, ok := r.Runs[string(method)]
	if !ok || len(run.Losses) != r.Steps || len(run.Norms) != r.Steps || r.Steps < 10 {
		t.Fatalf("the reference holds %d losses and %d norms of %s, want %d", len(run.Losses), len(run.Norms), method, r.Steps)
	}
	a := startedAdapter(t, method, r, base, targets)
	if n := a.Parameters(); n != run.Parameters {
		t.Errorf("%d trainable parameters, PEFT has %d", n, run.Parameters)
	}
	losses, norms := r.train(t, base, a)
	for i := range r.Steps {
		t.Logf("step %d: loss %.6f, %+.1e from PyTorch's; norm %.6f, %+.1e", i+1, losses[i], losses[i]-run.Losses[i], norms[i], norms[i]-run.Norms[i])
		if !near.Enough(losses[i], run.Losses[i], within.loss) {
			t.Errorf("step %d: loss %v, PyTorch has %v", i+1, losses[i], run.Losses[i])
		}
		if !near.Within(norms[i], run.Norms[i], within.norm) {
			t.Errorf("step %d: norm of the gradients %v, PyTorch has %v", i+1, norms[i], run.Norms[i])
		}
	}
}

// llama.cpp's tokens of the text are those of Hugging Face's tokenizers.
func TestTokensEqualHuggingFace(t *testing.T) {
	var want referenceRun
	readJSON(t, filepath.Join("testdata", "reference.json"), &want)
	text, err := os.ReadFile(filepath.Join("testdata", "reference.txt"))
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := openModel(t, demoBase).Vocab().Tokenize(string(text), false, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range want.Windows {
		if got := tokens[i*want.Ctx:][:want.Ctx+1]; !slices.Equal(got, w.Tokens) {
			t.Errorf("window %d: tokens %v, tokenizers has %v", i, got, w.Tokens)
		}
	}
}

// startedAdapter is on the targets of a base; its A is by formula, where PEFT draws it, B is zero.
func startedAdapter(t *testing.T, method adapter.Method, r referenceRun, base, modules string) *adapter.Adapter {
	t.Helper()
	f, err := gguf.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	targets, err := adapter.ParseTargets(modules)
	if err != nil {
		t.Fatal(err)
	}
	selected, err := targets.Select(f.Tensors())
	if err != nil {
		t.Fatal(err)
	}
	a, err := adapter.Build(method, r.Rank, r.Alpha, selected)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Bind(f, quant.Decode); err != nil {
		t.Fatal(err)
	}
	a.Init(1)
	for _, w := range a.Weights {
		for _, m := range w.Factors.Matrices() {
			if strings.HasSuffix(m.Suffix, "_a") {
				bound := 1 / math.Sqrt(float64(m.Mat.NE[0]))
				copy(m.Mat.Data, testmodel.Uniform(w.Name+".lora_a", len(m.Mat.Data), float32(2*bound)))
			}
		}
	}
	return a
}

// train takes the steps of the reference, and returns the loss and the norm of the gradients, before clipping, of each.
func (r referenceRun) train(t *testing.T, base string, a *adapter.Adapter) (losses, norms []float64) {
	t.Helper()
	e, err := graph.Prepare(openModel(t, base), a.Weights, graph.Options{Shape: graph.Shape{Ctx: r.Ctx, Seqs: r.Batch}, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := e.Allocate(); err != nil {
		t.Fatal(err)
	}
	var params []optim.Param
	var values, grads [][]float32
	for _, w := range a.Weights {
		for _, m := range w.Factors.Matrices() {
			params = append(params, optim.Param{Name: w.Name + "." + m.Suffix, Len: len(m.Mat.Data), LRScale: 1})
			values = append(values, m.Mat.Data)
		}
	}
	for _, g := range e.Gradients() {
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

// gradients is the mean loss over all learned tokens of the windows, whose gradient the engine then holds.
func (r referenceRun) gradients(t *testing.T, e *graph.Engine, windows []data.Window) float64 {
	t.Helper()
	learned, sum := float32(0), 0.0
	for _, w := range windows {
		for _, mask := range w.LossMask {
			learned += mask
		}
	}
	e.Reset()
	for part := range slices.Chunk(windows, r.Batch) {
		loss, err := e.Step(part, 1/learned)
		if err != nil {
			t.Fatal(err)
		}
		sum += loss
	}
	return sum / float64(learned)
}

// batch is the windows of a step, counted from 1. They go round.
func (r referenceRun) batch(step int) (windows []data.Window) {
	size := r.Batch * r.GradAccum
	for i := range size {
		from := r.Windows[((step-1)*size+i)%len(r.Windows)]
		w := data.Blank(r.Ctx)
		copy(w.Tokens, from.Tokens)
		copy(w.Targets, from.Tokens[1:])
		for at := range r.Ctx {
			w.Pos[at], w.Doc[at] = int32(at), 0
			if at >= from.Untrained {
				w.LossMask[at] = 1
			}
		}
		windows = append(windows, w)
	}
	return windows
}

func openModel(t *testing.T, path string) *llama.Model {
	t.Helper()
	m, err := llama.LoadModel(path, llama.ModelParams{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(err)
	}
}
