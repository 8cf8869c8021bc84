package graph

import (
	"cmp"
	"slices"
	"time"

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
	times, err := e.profile("forward", e.forward, 1)
	if err != nil {
		return nil, err
	}
	chunk := e.rows[:min(len(e.rows), e.head.rows)]
	e.hiddenState.pull(&e.bus)
	e.head.load(&e.bus, headInput{hidden: e.hiddenState.data, targets: e.targets, weights: e.weights, scale: 1}, chunk)
	head, err := e.profile("head", slices.Concat(e.head.runs[:]...), (len(e.rows)+e.head.rows-1)/e.head.rows)
	if err != nil {
		return nil, err
	}
	clear(e.seedState.data) // the time does not depend on the values
	e.seedState.push(&e.bus)
	reverse, err := e.profile("reverse", e.reverse, 1)
	if err != nil {
		return nil, err
	}
	times = append(append(times, head...), reverse...)
	slices.SortFunc(times, func(a, b OpTime) int { return cmp.Compare(b.Seconds, a.Seconds) })
	return times, nil
}

func (e *Engine) profile(part string, runs []run, times int) ([]OpTime, error) {
	byOp := map[string]*OpTime{}
	note := func(op string, start time.Time) {
		if byOp[op] == nil {
			byOp[op] = &OpTime{Part: part, Op: op}
		}
		byOp[op].Nodes += times
		byOp[op].Seconds += float64(times) * time.Since(start).Seconds()
	}
	for _, r := range runs {
		for _, twin := range r.copies {
			start := time.Now()
			e.bus.copy(twin)
			note(copied, start)
		}
		if err := e.profileRun(r, note); err != nil {
			return nil, err
		}
	}
	var all []OpTime
	for _, t := range byOp {
		all = append(all, *t)
	}
	return all, e.failed
}

// copied is the name of what a profile has for copies between the CPU and a device.
const copied = "COPY"

func (e *Engine) profileRun(r run, note func(op string, start time.Time)) error {
	n := r.graph.Len()
	ctx, err := ggml.NewContext(2, n)
	if err != nil {
		return err
	}
	defer ctx.Close()
	for i := range n {
		node := ctx.Part(r.graph, i, i+1)
		start := time.Now()
		if err := e.backends[r.at].Compute(node); err != nil {
			return err
		}
		note(nameOf(r.graph.Node(i)), start)
	}
	return nil
}
