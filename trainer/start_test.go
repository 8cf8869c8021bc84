package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/near"
	"finetune/internal/testrun"
	"finetune/model"
	"finetune/run"
)

// starts are those that begin with a ΔW other than 0.
var starts = []adapter.Start{adapter.StartThin, adapter.StartGradient, adapter.StartPaper}

// thin is a run of such a start.
func thin(t *testing.T, start adapter.Start) run.Config {
	c := testrun.Tiny(t)
	c.Start, c.Steps = string(start), 20
	return c.Completed(none)
}

func TestThinStartsLearn(t *testing.T) {
	for _, start := range starts {
		c := thin(t, start)
		s, _ := mustTrain(t, c, false)
		even := testrun.Elsewhere(t, c)
		even.Start, even.Alpha, even.DeltaWarmup, even.Steps = "", 0, 0, 1
		base, _ := mustTrain(t, even, false)
		if s.BaseValLoss != base.BaseValLoss {
			t.Errorf("%s: loss of the base %v, want %v: ΔW counts for nothing before the first step", start, s.BaseValLoss, base.BaseValLoss)
		}
		if !(s.ValLoss < s.BaseValLoss-0.05) {
			t.Errorf("%s: loss %v → %v, want less", start, s.BaseValLoss, s.ValLoss)
		}
	}
}

// In the middle of the warm-up too a run resumes to the same bytes; before its first step it begins again.
func TestThinStartsResume(t *testing.T) {
	for _, start := range starts {
		c := thin(t, start)
		c.DeltaWarmup = 0.5
		if start.Thin() {
			c.MagnitudeEvery = 2
		}
		mustTrain(t, c, false)
		for _, step := range []int{2, 15} {
			r := testrun.Elsewhere(t, c)
			interrupt(t, r, false, step)
			mustTrain(t, r, true)
			sameResult(t, string(start), c.Out, r.Out, c.Steps)
		}
	}
}

// countdown is a context that is cancelled after it was asked so many times, from when it was begun.
type countdown struct {
	context.Context
	begun bool
	left  int
}

func (c *countdown) Err() error {
	if !c.begun {
		return nil
	}
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// Stopped before, amid and after the passes that the start by gradients takes, a run resumes to the same bytes.
func TestGradientStartResumes(t *testing.T) {
	c := thin(t, adapter.StartGradient)
	mustTrain(t, c, false)
	for _, asked := range []int{0, 1, 2, 4} { // three passes of a whole batch, then the first validation
		r, reached := testrun.Elsewhere(t, c), ""
		ctx := &countdown{Context: context.Background(), left: asked}
		_, err := Train(ctx, r, false, func(e Event) {
			reached = e.Kind
			ctx.begun = ctx.begun || e.Kind == "start"
		})
		if !errors.Is(err, ErrInterrupted) || reached != "start" && reached != "checkpoint" {
			t.Fatalf("Train cancelled when asked %d times = %v after %q, want ErrInterrupted", asked, err, reached)
		}
		mustTrain(t, r, true)
		sameResult(t, "stopped when asked "+strconv.Itoa(asked)+" times", c.Out, r.Out, c.Steps)
	}
}

// The plan holds what the start by gradients takes, and a limit on memory is kept by it too; its passes are time of the run.
func TestGradientStartIsPlanned(t *testing.T) {
	c := thin(t, adapter.StartGradient)
	c.Rank = 2 // of which the sketch has many times
	s := opened(t, c)
	k, plan, err := s.prepareSketch(s.sketch.Adapter)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	run := s.plan
	run.Start = 0
	if s.plan.Start <= 0 || s.plan.Total() != plan.Total() || plan.Total() <= run.Total() {
		t.Errorf("planned %v for the run and %v for its start, together %v", run, plan, s.plan)
	}
	l, err := newLoop(s, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.startByGradient(context.Background()); err != nil {
		t.Fatal(err)
	}
	if l.totals.Seconds <= 0 {
		t.Error("the start by gradients took no time")
	}
	short := testrun.Elsewhere(t, c)
	short.MaxMemory = fmt.Sprintf("%dB", needed(run.Total()))
	within, err := newSetup(context.Background(), short, true, nil)
	if refused := (*MemoryError)(nil); errors.As(err, &refused) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer within.close()
	if got, limit := within.plan.Total(), short.MaxMemoryBytes(); got > limit {
		t.Errorf("planned %d bytes under a limit of %d", got, limit)
	}
}

// shareTolerance is for central differences of a float32 loss.
const shareTolerance = 0.02

// With a share f of ΔW counting, the gradient of every factor is that of the loss with f·ΔW: in particular B's, which the
// graph reads as f·B.
func TestGradientsDuringTheWarmup(t *testing.T) {
	c := thin(t, adapter.StartThin)
	s := opened(t, c)
	params, values := s.trainable.params()
	a := s.trainable.(*adapterTrainable)
	for _, w := range a.Weights { // D = 0 is where the sign jumps
		for i := range w.Factors.(*adapter.Dual).D.Data {
			w.Factors.(*adapter.Dual).D.Data[i] = float32(1 + i%3)
		}
	}
	stepper := NewStepper(StepperOptions{Engine: s.engine, Params: params, Values: values, Threads: 1, DeltaWarmup: 10})
	stepper.setShare(0.3)
	windows := s.train.All()[:4]
	if _, err := stepper.gradients(context.Background(), BatchOf(windows)); err != nil {
		t.Fatal(err)
	}
	stepper.scaleWarming()
	var grads [][]float32 // the engine's memory has others soon
	for _, g := range stepper.grads {
		grads = append(grads, slices.Clone(g))
	}
	for i, p := range params {
		if !slices.Contains([]string{".dual_a", ".dual_b"}, p.Name[len(p.Name)-7:]) {
			continue // the directions have no useful derivative
		}
		g := grads[i]
		var norm float64
		for _, v := range g {
			norm += float64(v) * float64(v)
		}
		h := 2e-3 / math.Sqrt(norm)
		at := func(step float64) float64 {
			old := slices.Clone(values[i])
			for k, v := range g {
				values[i][k] += float32(step * float64(v) / math.Sqrt(norm))
			}
			s.engine.Upload()
			r, err := stepper.gradients(context.Background(), BatchOf(windows))
			if err != nil {
				t.Fatal(err)
			}
			copy(values[i], old)
			return r.Loss
		}
		slope := (at(h*math.Sqrt(norm)) - at(-h*math.Sqrt(norm))) / (2 * h * math.Sqrt(norm))
		if !near.Within(slope, math.Sqrt(norm), shareTolerance) {
			t.Errorf("%s: the loss changes by %v along the gradient, want %v", p.Name, slope, math.Sqrt(norm))
		}
		s.engine.Upload()
	}
}

// capturedShare is what the directions have to hold of what the best ones of as many hold of G.
const capturedShare = 0.9

// The sketch finds nearly the directions that the decomposition of the whole of G gives.
func TestGradientStartFindsTheLargestDirections(t *testing.T) {
	c := thin(t, adapter.StartGradient)
	c.Targets = "ffn_up|attn_q"
	t.Run("text", func(t *testing.T) { findsDirections(t, c) })
	c = testrun.Classifying(t, "bert")
	c.Method, c.Start, c.Rank, c.Targets = "dual-lora", string(adapter.StartGradient), 4, "ffn_up|attn_q"
	t.Run("classes", func(t *testing.T) { findsDirections(t, c.Completed(nil)) })
}

func findsDirections(t *testing.T, c run.Config) {
	t.Helper()
	s := opened(t, c)
	l, err := newLoop(s, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.startByGradient(context.Background()); err != nil {
		t.Fatal(err)
	}
	whole := wholeGradients(t, l)
	for _, w := range s.trainable.(*adapterTrainable).Weights {
		d := w.Factors.(*adapter.Dual)
		g := whole[w.Name] // [n_in, n_out]
		best, err := adapter.RowSpace(g)
		if err != nil {
			t.Fatal(err)
		}
		got, want := held(g, d.C, d.C.NE[1]), held(g, best, d.C.NE[1])
		if !(got >= capturedShare*want) || !(want > 0) {
			t.Errorf("%s: the directions hold %v of ‖G‖², the best %v", w.Name, got, want)
		}
	}
}

// wholeGradients are G of the run's weights, [n_in, n_out], from a LoRA whose B is the identity.
func wholeGradients(t *testing.T, l *loop) map[string]adapter.Mat {
	t.Helper()
	all := map[string]adapter.Mat{}
	identity := &adapter.Adapter{}
	for _, w := range l.trainable.(*adapterTrainable).Weights {
		nIn, nOut := w.Shape()
		lora := &adapter.LoRA{A: adapter.NewMat(nIn, nOut), B: adapter.NewMat(nOut, nOut)}
		for i := range nOut {
			lora.B.Row(i)[i] = 1
		}
		identity.Weights = append(identity.Weights, adapter.Weight{Name: w.Name, Factors: lora})
		all[w.Name] = lora.A
	}
	k, _, err := l.prepareSketch(identity)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	if err := l.sketchGradients(context.Background(), k); err != nil {
		t.Fatal(err)
	}
	return all
}

// held is the part of ‖G‖² in the span of n orthogonal rows.
func held(g, rows adapter.Mat, n int) (sum float64) {
	for k := range n {
		var length float64
		for _, v := range rows.Row(k) {
			length += float64(v) * float64(v)
		}
		for o := range g.NE[1] {
			var dot float64
			for i, v := range g.Row(o) {
				dot += float64(v) * float64(rows.Row(k)[i])
			}
			sum += dot * dot / length
		}
	}
	return sum
}

func TestStartsAreTheAdapters(t *testing.T) {
	c := thin(t, adapter.StartThin)
	if c.Alpha != 4 || c.DeltaWarmup != 0.15 {
		t.Errorf("a thin start goes with alpha %v and a warm-up of %v, want 4 and 0.15", c.Alpha, c.DeltaWarmup)
	}
	base, err := model.Open(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	trained, err := newTrainable(base, c, true)
	if err != nil {
		t.Fatal(err)
	}
	rates(t, trained, 0.3)
	c.MagnitudeLR = 2
	if trained, err = newTrainable(base, c, true); err != nil {
		t.Fatal(err)
	}
	rates(t, trained, 2)
	for step, want := range map[int]float32{1: 0.25, 3: 0.75, 4: 1, 9: 1} {
		if got := deltaShare(step, 4); got != want {
			t.Errorf("deltaShare(%d, 4) = %v, want %v", step, got, want)
		}
	}
}

// rates checks that A and B have a share of the learning rate of C and D, and that B alone warms.
func rates(t *testing.T, trained trainable, magnitude float64) {
	t.Helper()
	params, _ := trained.params()
	for _, p := range params {
		suffix := p.Name[len(p.Name)-7:]
		want := 1.0
		if suffix == ".dual_a" || suffix == ".dual_b" {
			want = magnitude
		}
		if p.LRScale != want || p.Warms != (suffix == ".dual_b") {
			t.Errorf("%s: rate %v, warms %v", p.Name, p.LRScale, p.Warms)
		}
	}
}

// A run resumes under its own start only; one without a start, as older ones are, is one of even.
func TestResumeUnderAnotherStart(t *testing.T) {
	c := testrun.Tiny(t)
	c.Start = ""
	whole := testrun.Elsewhere(t, c)
	mustTrain(t, whole, false)
	interrupt(t, c, false, 2)
	for _, start := range []adapter.Start{adapter.StartThin, adapter.StartPaper} {
		other := c
		other.Start = string(start)
		if _, err := Train(context.Background(), other, true, nil); err == nil || !strings.HasSuffix(err.Error(), "made with other values of start") {
			t.Errorf("resumed with start %s: %v", start, err)
		}
	}
	c.Start = string(adapter.StartEven)
	mustTrain(t, c, true)
	sameResult(t, "resumed as even", whole.Out, c.Out, c.TotalSteps(0))
}
