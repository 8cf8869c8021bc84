package graph

import (
	"errors"

	"finetune/adapter"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// newReady makes an engine that is ready to compute.
func newReady(model *llama.Model, weights []adapter.Weight, o Options) (*Engine, error) {
	e, err := Prepare(model, weights, o)
	return ready(e, 0, err)
}

// newFullReady does what newReady does, for the base's own tensors.
func newFullReady(model *llama.Model, masters []Master, o Options) (*Engine, error) {
	e, err := PrepareFull(model, masters, o)
	return ready(e, 0, err)
}

// ready fits a prepared engine to a limit in bytes, 0 for none, and allocates it; on an error it closes it.
func ready(e *Engine, limit int64, err error) (*Engine, error) {
	if err != nil {
		return nil, err
	}
	if limit > 0 {
		err = e.FitMemory(limit)
	}
	if err == nil {
		err = e.Allocate()
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// logits computes the logits [V, N] of every position of the windows.
func (e *Engine) logits(windows []data.Window) ([]float32, error) {
	hidden, err := e.Hidden(windows)
	if err != nil {
		return nil, err
	}
	var logits []float32
	in := headInput{hidden: hidden, targets: make([]int32, e.shape.tokens()), weights: make([]float32, e.shape.tokens())}
	for row := 0; row < e.shape.tokens(); row += e.head.rows {
		var chunk []int
		for i := row; i < min(row+e.head.rows, e.shape.tokens()); i++ {
			chunk = append(chunk, i)
		}
		e.head.load(&e.bus, in, chunk)
		if err := e.head.compute(&e.sides, headScores); err != nil {
			return nil, err
		}
		vocab := int(e.head.logits.NE()[0])
		logits = append(logits, e.head.logits.Floats()[:vocab*len(chunk)]...)
	}
	return logits, nil
}
