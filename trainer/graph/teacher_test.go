package graph

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"finetune/adapter"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// taught is a Dual LoRA as teacher, a LoRA as student, and what the teacher thinks of some windows.
func taught(t *testing.T, arch string, share float32) (student *Engine, m *llama.Model, ws []data.Window, hidden []float32, teacher *Engine) {
	t.Helper()
	path := testmodel.Path(t, tinySpec(arch))
	m = loadModel(t, path)
	dual, lora := allLinear(t, path, adapter.MethodDual, 4), allLinear(t, path, adapter.MethodLoRA, 3)
	disturb(dual)
	disturb(lora)
	shape := Shape{Ctx: 16, Seqs: 2}
	ws = windows(shape, m.Vocab().NTokens())
	teacher = newEngine(t, m, dual, Options{Shape: shape, ForwardOnly: true})
	hidden, err := teacher.Hidden(ws)
	if err != nil {
		t.Fatal(err)
	}
	return newEngine(t, m, lora, Options{Shape: shape, Teacher: true, HardLabelWeight: share}), m, ws, slices.Clone(hidden), teacher
}

// gemma2 caps its logits softly, behind the output matrix: the teacher's too.
var teacherArchs = []string{"llama", "gemma2"}

func TestStepTowardFollowsItsGradient(t *testing.T) {
	for _, arch := range teacherArchs {
		for _, share := range []float32{0, 0.5, 1} {
			t.Run(fmt.Sprintf("%s share %g", arch, share), func(t *testing.T) {
				e, _, ws, hidden, _ := taught(t, arch, share)
				makeSmooth(t, tableNodes(e))
				e.Reset()
				if _, err := e.StepToward(ws, hidden, 1); err != nil {
					t.Fatal(err)
				}
				toward := func() (float64, error) { return e.StepToward(ws, hidden, 1) }
				for _, fault := range directionFaults(t, e, gradients(e), lossStep, nil, toward) {
					t.Error(fault)
				}
			})
		}
	}
}

// klTolerance bounds the rounding of logits and hidden states in a sum over some 26 tokens.
const klTolerance = 1e-4

// The loss is the divergence of the logits that two whole engines compute.
func TestLossTowardATeacherIsTheDivergence(t *testing.T) {
	for _, arch := range teacherArchs {
		e, m, ws, hidden, teacher := taught(t, arch, 0)
		loss, err := e.StepToward(ws, hidden, 1)
		if err != nil {
			t.Fatal(err)
		}
		path := testmodel.Path(t, tinySpec(arch))
		dual := allLinear(t, path, adapter.MethodDual, 4)
		disturb(dual)
		whole := newEngine(t, m, dual, Options{Shape: e.Shape()})
		p, err := e.logits(ws)
		if err != nil {
			t.Fatal(err)
		}
		q, err := whole.logits(ws)
		if err != nil {
			t.Fatal(err)
		}
		v, want := m.Vocab().NTokens(), 0.0
		for s, w := range ws {
			for i, weight := range w.LossMask {
				at := (s*e.Shape().Ctx + i) * v
				want += float64(weight) * divergence(q[at:at+v], p[at:at+v])
			}
		}
		if !near.Enough(loss, want, klTolerance*want) || !(want >= 0.1) {
			t.Errorf("%s: loss %v, want the divergence %v", arch, loss, want)
		}
		if s := teacher.Sizes(); s.Head != 0 || s.Activations >= whole.Sizes().Activations {
			t.Errorf("%s: an engine without a way back takes %d + %d bytes, a whole one %d", arch, s.Activations, s.Head, whole.Sizes().Activations)
		}
	}
}

// divergence is KL(softmax q ‖ softmax p).
func divergence(q, p []float32) (sum float64) {
	qLog, pLog := logSum(q), logSum(p)
	for i := range q {
		lq, lp := float64(q[i])-qLog, float64(p[i])-pLog
		sum += math.Exp(lq) * (lq - lp)
	}
	return sum
}

func logSum(x []float32) float64 {
	top, z := float64(slices.Max(x)), 0.0
	for _, v := range x {
		z += math.Exp(float64(v) - top)
	}
	return top + math.Log(z)
}

// A student that is its own teacher has nothing to learn from it.
func TestNothingToLearnFromOneself(t *testing.T) {
	path := testmodel.Path(t, tinySpec("llama"))
	m := loadModel(t, path)
	weights := allLinear(t, path, adapter.MethodLoRA, 3)
	disturb(weights)
	shape := Shape{Ctx: 16, Seqs: 2}
	ws := windows(shape, m.Vocab().NTokens())
	hidden, err := newEngine(t, m, weights, Options{Shape: shape, ForwardOnly: true}).Hidden(ws)
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, m, weights, Options{Shape: shape, Teacher: true})
	loss, err := e.StepToward(ws, hidden, 1)
	if err != nil || !near.Enough(loss, 0.0, klTolerance) {
		t.Errorf("loss toward oneself is %v, %v, want 0", loss, err)
	}
	for _, g := range e.Gradients() {
		if top := near.Largest(g.Data); top > klTolerance {
			t.Errorf("%s: gradient of up to %v toward oneself, want 0", g.Name, top)
		}
	}
}
