package trainer

import (
	"context"
	"testing"

	"finetune/eval"
	"finetune/internal/testrun"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// sameLossTolerance is for one model's loss computed in batches of other shapes, or by llama.cpp with its cache in F16
// instead of by the engine in F32.
const sameLossTolerance = 1e-3

// sameBatchTolerance is for llama.cpp's loss when documents share a batch.
const sameBatchTolerance = 1e-4

// mustTrain runs to the end and returns the losses of the steps, in order.
func mustTrain(t testing.TB, c run.Config, resume bool) (*Summary, []float64) {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	var losses []float64
	s, err := Train(context.Background(), c, resume, func(e Event) {
		if e.Kind == "step" {
			losses = append(losses, float64(e.Loss))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, losses
}

// loggedSteps are the numbers of the steps that log.jsonl tells of.
func loggedSteps(t testing.TB, dir string) (steps []int) {
	t.Helper()
	for _, e := range testrun.Logged(t, dir) {
		if e["event"] == "step" {
			steps = append(steps, int(e["step"].(float64)))
		}
	}
	return steps
}

// countTo is 1 to n.
func countTo(n int) (steps []int) {
	for i := range n {
		steps = append(steps, i+1)
	}
	return steps
}

// opened is the setup of a configuration with its memory taken, closed at the end of the test.
func opened(t testing.TB, c run.Config) *setup {
	t.Helper()
	s, err := newSetup(context.Background(), c, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	if err := s.engine.Allocate(); err != nil {
		t.Fatal(err)
	}
	return s
}

// evaluator has one thread and is closed at the end of the test.
func evaluator(t testing.TB, m *llama.Model, nCtx int) *eval.Evaluator {
	t.Helper()
	e, err := eval.NewEvaluator(m, nCtx, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// lossOf is the evaluator's loss over windows.
func lossOf(t testing.TB, e *eval.Evaluator, windows []data.Window) float64 {
	t.Helper()
	loss, err := e.Loss(context.Background(), windows, nil)
	if err != nil {
		t.Fatal(err)
	}
	return float64(loss)
}
