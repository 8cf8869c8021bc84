// Package trained trains the runs of package testrun, for tests of what comes after training.
package trained

import (
	"context"
	"testing"

	"finetune/eval"
	"finetune/run"
	"finetune/trainer"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Run trains to the end.
func Run(t testing.TB, c run.Config) *trainer.Summary {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := trainer.Train(context.Background(), c, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Evaluator returns one with one thread that is closed at the end of the test.
func Evaluator(t testing.TB, m *llama.Model, nCtx int) *eval.Evaluator {
	t.Helper()
	e, err := eval.NewEvaluator(m, nCtx, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// Loss returns the evaluator's loss over windows.
func Loss(t testing.TB, e *eval.Evaluator, windows []data.Window) float64 {
	t.Helper()
	loss, err := e.Loss(context.Background(), windows, nil)
	if err != nil {
		t.Fatal(err)
	}
	return float64(loss)
}
