package adapter

import (
	"context"
	"fmt"
	"maps"
	"math"

	"finetune/gguf"
)

// A Cut says how much of a change stays when it becomes a LoRA. One of the fields is set.
type Cut struct {
	Rank   int     // for every weight, or less where ΔW has no more components
	Energy float64 // for every weight, as few components as carry this share of ‖ΔW‖², above 0 to 1
	Budget int     // parameters of all together, spread as [Decomposition.Allocate] does
}

// Check reports a cut with none of its fields set or several, or with one out of its range.
func (c Cut) Check() error {
	set := 0
	for _, given := range []bool{c.Rank != 0, c.Energy != 0, c.Budget != 0} {
		if given {
			set++
		}
	}
	switch {
	case set != 1:
		return fmt.Errorf("adapter: %d of rank, energy and budget are given, want one", set)
	case c.Rank < 0 || c.Rank > maxCutRank:
		return fmt.Errorf("adapter: rank %d: want 1 to %d", c.Rank, maxCutRank)
	case c.Energy != 0 && !(c.Energy > 0 && c.Energy <= 1):
		return fmt.Errorf("adapter: energy %v: want a share above 0, at most 1", c.Energy)
	case c.Budget < 0:
		return fmt.Errorf("adapter: budget %d: want a number of parameters", c.Budget)
	}
	return nil
}

// maxCutRank keeps products of ranks and shapes far from overflow.
const maxCutRank = math.MaxInt32

// CutOptions are those of [Rerank] and [Combine].
type CutOptions struct {
	Seed     uint64                // of the random directions in which big ΔW are searched
	Progress func(done, total int) // if not nil, called after each weight
}

// Rerank returns the LoRA that a cut leaves of an adapter: for each weight the nearest product of its rank (Eckart and
// Young). A LoRA is decomposed by its factors, a Dual LoRA by its ΔW, one at a time. The errors are those of [Cut.Check]
// and [Decompose].
func Rerank(ctx context.Context, a *Adapter, c Cut, o CutOptions) (*Adapter, []Report, error) {
	return c.project(ctx, a, a.changes(), o)
}

// project cuts changes; the result has the source's identity.
func (c Cut) project(ctx context.Context, source *Adapter, weights []named, o CutOptions) (*Adapter, []Report, error) {
	if err := c.Check(); err != nil {
		return nil, nil, err
	}
	d, err := decompose(ctx, source, weights, DecomposeOptions{Budget: c.budget(weights), Energy: c.Energy, Seed: o.Seed, Progress: o.Progress})
	if err != nil {
		return nil, nil, err
	}
	ranks := d.Whole()
	switch {
	case c.Rank > 0:
		ranks, err = d.Uniform(c.Rank)
	case c.Budget > 0:
		ranks, err = d.Allocate(c.Budget)
	}
	if err != nil {
		return nil, nil, err
	}
	result, reports, err := d.Project(ranks)
	if err != nil {
		return nil, nil, err
	}
	result.Meta = derivedMeta(result.Meta)
	return result, reports, nil
}

// budget returns the parameters that the decomposition has to be good for.
func (c Cut) budget(weights []named) int {
	if c.Rank > 0 {
		return c.Rank * (&Decomposition{weights: weights}).MinBudget()
	}
	return c.Budget
}

// derivedMeta returns a copy of the keys that stay true when the factors change.
func derivedMeta(meta map[string]gguf.Value) map[string]gguf.Value {
	kept := map[string]gguf.Value{}
	maps.Copy(kept, meta)
	delete(kept, KeyRetention)
	return kept
}
