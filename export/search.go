package export

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"finetune/adapter"
	"finetune/eval"
)

// Budgets of the search, as multiples of the adapter's own parameters: doubled from the first, or with Smallest halved, until
// the wanted share of the gain lies between two of them, then narrowed.
const (
	firstBudget    = 1.0
	lastBudget     = 8.0
	leastBudget    = 0.125
	unmeasured     = 2.0 // without validation data, or without a gain on it; a thin start gets by with its own rank
	narrowingSteps = 2
)

// candidate is a form of the adapter that could be exported, with what it was found to keep. low is nil for the exact form.
type candidate struct {
	low             *adapter.Adapter
	reports         []adapter.Report
	healed          bool
	loss, retention eval.Loss
}

// shape finds the form that the adapter will be written in.
func (x *exporter) shape(ctx context.Context) (candidate, error) {
	if x.Mode == ModeExact || x.adapter.Method() == adapter.MethodLoRA && x.Rank == 0 {
		x.result.Mode = ModeExact // a LoRA is its own exact form
		return x.measured(ctx, candidate{}, x.writeExact)
	}
	x.say("decomposing ΔW")
	d, err := adapter.Decompose(ctx, x.adapter, adapter.DecomposeOptions{Budget: x.largestBudget(), Inputs: x.inputs, Outputs: x.outputs,
		Seed: x.run.Seed, Progress: x.nowAndThen("decomposing ΔW: %d of %d matrices")})
	if err != nil {
		return candidate{}, err
	}
	if x.Rank > 0 {
		return x.uniform(ctx, d, x.Rank)
	}
	return x.search(ctx, d)
}

// nowAndThen tells how far something is when a while has passed.
func (x *exporter) nowAndThen(format string) func(done, total int) {
	last := time.Now()
	return func(done, total int) {
		if time.Since(last) > talkPause {
			x.say(fmt.Sprintf(format, done, total))
			last = time.Now()
		}
	}
}

const talkPause = 5 * time.Second

// largestBudget returns what the decomposition has to be good for, in parameters.
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

// search tries the adapter's own rank, and where that keeps too little looks for the smallest budget that keeps the wanted
// share, or the one that keeps the most.
func (x *exporter) search(ctx context.Context, d *adapter.Decomposition) (candidate, error) {
	if len(x.val) == 0 || x.result.BaseLoss <= x.result.DualLoss {
		if x.thin() {
			return x.uniform(ctx, d, x.adapter.Rank())
		}
		return x.budget(ctx, d, unmeasured)
	}
	s := &searching{exporter: x, d: d}
	if !x.Smallest {
		own, err := x.uniform(ctx, d, x.adapter.Rank())
		if err != nil || s.note(firstBudget, own) {
			return own, err
		}
	}
	if err := s.enclose(ctx); err != nil {
		return candidate{}, err
	}
	err := s.narrow(ctx)
	return s.best, err
}

// thin reports whether the run's adapter has the rank of a LoRA as far as the loss can tell, docs/learning.md: a thin
// magnitude, and the rest in the directions. Runs that are older than starts are even.
func (x *exporter) thin() bool { return adapter.Start(x.run.Start).Thin() }

// searching is what is known of budgets, as multiples of the adapter's own parameters.
type searching struct {
	*exporter
	d                *adapter.Decomposition
	tooSmall, enough float64   // the last that kept too little, the least that kept enough; 0 = none so far
	best             candidate // of the least that kept enough, or as long as there is none, of the one that kept most
}

// try measures a budget.
func (s *searching) try(ctx context.Context, budget float64) error {
	c, err := s.budget(ctx, s.d, budget)
	if err == nil {
		s.note(budget, c)
	}
	return err
}

// note keeps what a measured candidate tells, and reports whether it keeps enough.
func (s *searching) note(budget float64, c candidate) bool {
	s.result.Tried = append(s.result.Tried, Try{c.low.Parameters(), c.retention})
	if s.keepsEnough(c) {
		s.enough, s.best = budget, c
		return true
	}
	if s.tooSmall = budget; s.enough == 0 && (s.best.low == nil || c.retention > s.best.retention) {
		s.best = c
	}
	return false
}

func (x *exporter) keepsEnough(c candidate) bool { return float64(c.retention) >= x.Retention }

// enclose doubles or, for the smallest, halves the budget until the wanted share lies between two.
func (s *searching) enclose(ctx context.Context) error {
	err := s.try(ctx, firstBudget)
	step, least := 2.0, max(leastBudget, float64(s.d.MinBudget())/float64(s.adapter.Parameters()))
	switch {
	case err != nil || s.enough > 0 && !s.Smallest:
		return err // shared out by singular values, the parameters of the own rank are enough
	case s.enough > 0:
		step = 0.5
	}
	for b := firstBudget * step; err == nil && b >= least && b <= lastBudget && (s.enough == 0 || s.tooSmall == 0); b *= step {
		err = s.try(ctx, b)
	}
	return err
}

// narrow divides what lies between.
func (s *searching) narrow(ctx context.Context) error {
	if s.enough == 0 || s.tooSmall == 0 {
		return nil
	}
	for range narrowingSteps {
		if err := s.try(ctx, math.Sqrt(s.tooSmall*s.enough)); err != nil {
			return err
		}
	}
	return nil
}

// uniform projects to one rank for every weight.
func (x *exporter) uniform(ctx context.Context, d *adapter.Decomposition, rank int) (candidate, error) {
	ranks, err := d.Uniform(rank)
	if err != nil {
		return candidate{}, err
	}
	return x.cut(ctx, d, ranks)
}

// budget projects to a multiple of the adapter's own parameters.
func (x *exporter) budget(ctx context.Context, d *adapter.Decomposition, share float64) (candidate, error) {
	ranks, err := d.Allocate(max(d.MinBudget(), int(share*float64(x.adapter.Parameters()))))
	if err != nil {
		return candidate{}, err
	}
	return x.cut(ctx, d, ranks)
}

// cut projects to the ranks, heals the result if that was asked for, and measures it. Where the rank was left open, a
// projection that keeps enough by itself is not healed.
func (x *exporter) cut(ctx context.Context, d *adapter.Decomposition, ranks []int) (c candidate, err error) {
	if c.low, c.reports, err = d.Project(ranks); err != nil {
		return c, err
	}
	if x.healer == nil || x.Rank == 0 {
		if c, err = x.measuredProjection(ctx, c); err != nil || x.healer == nil || x.keepsEnough(c) {
			return c, err
		}
	}
	if err := x.healer.heal(ctx, c.low); err != nil {
		return c, err
	}
	c.healed = true
	markHealed(c.low)
	return x.measuredProjection(ctx, c)
}

func (x *exporter) measuredProjection(ctx context.Context, c candidate) (candidate, error) {
	x.say(fmt.Sprintf("measuring a projection of %d parameters", c.low.Parameters()))
	return x.measured(ctx, c, func(path string) error { return c.low.WriteLoRA(path, adapter.LoRAOptions{Type: x.Type}) })
}

// measured writes a candidate to a scratch file and takes its loss as llama.cpp finds it.
func (x *exporter) measured(ctx context.Context, c candidate, write func(path string) error) (candidate, error) {
	c.loss, c.retention = eval.NotMeasured, eval.NotMeasured
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
