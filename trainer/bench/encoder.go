package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"finetune/classify"
	"finetune/eval"
	"finetune/model"
	"finetune/model/native"
	"finetune/run"
	"finetune/trainer/data"
	"finetune/trainer/graph"
)

// What reads in both directions predicts no text: it is measured with a classifier of two classes over its pooled states, on
// texts that fill a sequence each.

// errFullEncoder says that an encoder's own weights are not trained.
var errFullEncoder = fmt.Errorf("bench: method %q: an encoder learns by adapters only", run.MethodFull)

// classifier returns what is trained beside the adapter over an encoder, nil over what predicts text.
func classifier(f *model.Base) (*graph.Classes, error) {
	if !classify.IsEncoder(f.File) {
		return nil, nil
	}
	pooling, err := classify.PoolingOf(f.File)
	if err != nil {
		return nil, err
	}
	width, err := f.Uint(f.Architecture() + ".embedding_length")
	if err != nil {
		return nil, err
	}
	h := classify.New(int(width), []string{"0", "1"}, pooling, 1)
	return &graph.Classes{Weights: h.Weights, Biases: h.Biases, Pooling: pooling}, nil
}

// oneTextEach leaves the windows one place each that is learned, the last, where a class is.
func oneTextEach(windows []data.Window) {
	for k, w := range windows {
		clear(w.LossMask)
		last := len(w.LossMask) - 1
		w.LossMask[last], w.Targets[last] = 1, int32(k%2)
	}
}

// encoderForward measures llama.cpp's own speed on the same texts, up to their pooled states, as many of them at a time as
// `eval` takes.
func encoderForward(ctx context.Context, o Options, f *model.Base) (_ float64, err error) {
	pooling, err := classify.PoolingOf(f.File)
	if err != nil {
		return 0, err
	}
	m, err := native.Load(f, o.On)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	e, err := eval.NewReader(m, o.Ctx, o.Threads)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	var texts [][]int32
	for _, w := range randomWindows(m, o) {
		texts = append(texts, w.Tokens)
	}
	var times []float64
	for i := range o.Repeat + 1 {
		start := time.Now()
		if err := e.States(ctx, texts, pooling, func(int, []float32) error { return nil }); err != nil {
			return 0, err
		}
		if i > 0 {
			times = append(times, time.Since(start).Seconds())
		}
	}
	return float64(o.Ctx*o.Seqs) / median(times), nil
}
