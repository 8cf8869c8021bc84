package trainer

import (
	"context"
	"fmt"
	"math"
	"path/filepath"

	"finetune/adapter"
)

// Budgets of the search, as multiples of the adapter's own parameters: doubled, or halved, from the first until the wanted
// share of the gain lies between two of them, then narrowed.
const (
	firstBudget    = 1.0
	lastBudget     = 8.0
	leastBudget    = 0.125
	unmeasured     = 2.0 // without validation data, or without a gain on it
	narrowingSteps = 2
)

// candidate is a form of the adapter that could be exported, with what it was found to keep. low is nil for the exact form.
type candidate struct {
	low             *adapter.Adapter
	reports         []adapter.Report
	loss, retention Loss
}

// shape finds the form that the adapter will be written in.
func (x *exporter) shape(ctx context.Context) (candidate, error) {
	if x.Mode == ModeExact || x.adapter.Method() == adapter.MethodLoRA && x.Rank == 0 {
		x.result.Mode = ModeExact // a LoRA is its own exact form
		return x.measured(ctx, candidate{}, x.writeExact)
	}
	x.say("decomposing ΔW")
	d, err := adapter.Decompose(ctx, x.adapter, adapter.DecomposeOptions{Budget: x.largestBudget(), Inputs: x.inputs, Outputs: x.outputs, Seed: x.run.Seed})
	if err != nil {
		return candidate{}, err
	}
	if x.Rank > 0 {
		ranks, err := d.Uniform(x.Rank)
		if err != nil {
			return candidate{}, err
		}
		return x.cut(ctx, d, ranks)
	}
	return x.search(ctx, d)
}

// largestBudget is what the decomposition has to be good for, in parameters.
func (x *exporter) largestBudget() int {
	if x.Rank == 0 {
		return int(lastBudget) * x.adapter.Parameters()
	}
	sum := 0
	for _, w := range x.adapter.Weights {
		nIn, nOut := w.Shape()
		sum += x.Rank * (nIn + nOut)
	}
	return sum
}

// search looks for the smallest budget that keeps the wanted share, or the one that keeps the most.
func (x *exporter) search(ctx context.Context, d *adapter.Decomposition) (candidate, error) {
	if len(x.val) == 0 || x.result.BaseLoss <= x.result.DualLoss {
		return x.budget(ctx, d, unmeasured)
	}
	try := func(share float64) (c candidate, enough bool, err error) {
		if c, err = x.budget(ctx, d, share); err != nil {
			return c, false, err
		}
		x.result.Tried = append(x.result.Tried, ExportTry{c.low.Parameters(), c.retention})
		return c, float64(c.retention) >= x.Retention, nil
	}
	share := firstBudget
	best, enough, err := try(share)
	if err != nil {
		return best, err
	}
	step := 0.5
	if !enough {
		step = 2
	}
	tooSmall := 0.0
	for next := step * share; next >= max(leastBudget, x.smallest(d)) && next <= lastBudget; next *= step {
		c, ok, err := try(next)
		if err != nil {
			return c, err
		}
		if !ok && enough { // on the way down, too far
			tooSmall = next
			break
		}
		if !ok {
			if c.retention > best.retention {
				best = c
			}
			continue
		}
		if !enough { // on the way up, arrived
			tooSmall, share, best, enough = next/step, next, c, true
			break
		}
		share, best = next, c
	}
	if !enough || tooSmall == 0 {
		return best, nil
	}
	for range narrowingSteps {
		middle := math.Sqrt(tooSmall * share)
		c, ok, err := try(middle)
		if err != nil {
			return c, err
		}
		if ok {
			share, best = middle, c
		} else {
			tooSmall = middle
		}
	}
	return best, nil
}

// smallest is the least budget that a projection can have: rank 1 everywhere.
func (x *exporter) smallest(d *adapter.Decomposition) float64 {
	return float64(d.MinBudget()) / float64(x.adapter.Parameters())
}

// budget projects to a multiple of the adapter's own parameters.
func (x *exporter) budget(ctx context.Context, d *adapter.Decomposition, share float64) (candidate, error) {
	ranks, err := d.Allocate(max(d.MinBudget(), int(share*float64(x.adapter.Parameters()))))
	if err != nil {
		return candidate{}, err
	}
	return x.cut(ctx, d, ranks)
}

// cut projects to the ranks, heals the result if that was asked for, and measures it.
func (x *exporter) cut(ctx context.Context, d *adapter.Decomposition, ranks []int) (c candidate, err error) {
	if c.low, c.reports, err = d.Project(ranks); err != nil {
		return c, err
	}
	if x.healer != nil {
		if err := x.healer.heal(ctx, c.low); err != nil {
			return c, err
		}
		markHealed(c.low)
	}
	x.say(fmt.Sprintf("measuring a projection of %d parameters", c.low.Parameters()))
	return x.measured(ctx, c, func(path string) error { return c.low.WriteLoRA(path, adapter.LoRAOptions{Type: x.Type}) })
}

// measured writes a candidate to a scratch file and takes its loss as llama.cpp finds it.
func (x *exporter) measured(ctx context.Context, c candidate, write func(path string) error) (candidate, error) {
	c.loss, c.retention = notMeasured, notMeasured
	path := filepath.Join(x.scratch, "candidate.gguf")
	err := write(path)
	if err != nil || len(x.val) == 0 {
		return c, err
	}
	if c.loss, err = x.lossWith(ctx, path); err != nil {
		return c, err
	}
	if gain := x.result.BaseLoss - x.result.DualLoss; gain > 0 {
		c.retention = (x.result.BaseLoss - c.loss) / gain
	}
	return c, nil
}

func (x *exporter) writeExact(path string) error {
	return x.adapter.WriteExact(path, adapter.LoRAOptions{Type: x.Type})
}
