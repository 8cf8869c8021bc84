package graph

import (
	"cmp"
	"slices"
	"time"

	"finetune/kernels"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// OpTime is the time that the nodes of one operation take in a step.
type OpTime struct {
	Part    string  `json:"part"` // forward, head or reverse
	Op      string  `json:"op"`
	Nodes   int     `json:"nodes"`
	Seconds float64 `json:"seconds"`
}

// Profile runs one step node by node and returns the time by operation, the longest first. Starting every node by itself
// costs some microseconds each, so the sum is above that of a step. The summed gradients mean nothing until the next Reset.
func (e *Engine) Profile(windows []data.Window) ([]OpTime, error) {
	if err := e.load(windows); err != nil {
		return nil, err
	}
	times, err := e.profile("forward", e.whole, 0, e.forwardLen, 1)
	if err != nil {
		return nil, err
	}
	chunk := e.rows[:min(len(e.rows), e.head.rows)]
	e.head.load(headInput{hidden: e.hidden.Floats(), targets: e.targets, weights: e.weights, scale: 1}, chunk)
	head, err := e.profile("head", e.head.whole, 0, e.head.whole.Len(), (len(e.rows)+e.head.rows-1)/e.head.rows)
	if err != nil {
		return nil, err
	}
	clear(e.seed.Floats()) // the time does not depend on the values
	reverse, err := e.profile("reverse", e.whole, e.forwardLen, e.whole.Len(), 1)
	if err != nil {
		return nil, err
	}
	times = append(append(times, head...), reverse...)
	slices.SortFunc(times, func(a, b OpTime) int { return cmp.Compare(b.Seconds, a.Seconds) })
	return times, nil
}

func (e *Engine) profile(part string, g ggml.Graph, from, to, times int) ([]OpTime, error) {
	ctx, err := ggml.NewContext(2, to-from)
	if err != nil {
		return nil, err
	}
	defer ctx.Close()
	byOp := map[string]*OpTime{}
	for i := from; i < to; i++ {
		node := ctx.Part(g, i, i+1)
		start := time.Now()
		if err := e.backend.Compute(node); err != nil {
			return nil, err
		}
		op := g.Node(i).Op()
		if name := kernels.Name(g.Node(i)); name != "" {
			op = name
		}
		if byOp[op] == nil {
			byOp[op] = &OpTime{Part: part, Op: op}
		}
		byOp[op].Nodes += times
		byOp[op].Seconds += float64(times) * time.Since(start).Seconds()
	}
	var all []OpTime
	for _, t := range byOp {
		all = append(all, *t)
	}
	return all, nil
}
