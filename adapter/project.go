package adapter

import (
	"fmt"

	"finetune/gguf"
)

// Report tells how well the projection of one weight went.
type Report struct {
	Name   string
	Rank   int
	Total  float64 // ‖diag(g)·ΔW·diag(d)‖², d = 1 without Inputs, g = 1 without Outputs
	Energy float64 // share of Total that the components kept carry, 0 to 1
	Error  float64 // ‖ΔW − s·B·A‖/‖ΔW‖ as measured on the result, without d and g
}

// Allocate spreads a budget, in parameters, over the weights: at least rank 1 for
// each, and then always the component with the most energy a parameter. It returns
// a rank for each weight of the adapter, in its order; their parameters never
// exceed the budget. The budget may be that of [Decompose] at most.
func (d *Decomposition) Allocate(budget int) ([]int, error) {
	if budget > d.budget {
		return nil, fmt.Errorf("adapter: budget %d: decomposed for at most %d parameters", budget, d.budget)
	}
	spectra := make([]spectrum, len(d.parts))
	for i, p := range d.parts {
		spectra[i] = p.spectrum
	}
	return allocate(spectra, budget)
}

// Uniform returns one rank for all weights, less where there are no more
// components with any energy.
func (d *Decomposition) Uniform(rank int) ([]int, error) {
	if most := d.budget / d.MinBudget(); rank < 1 || rank > most {
		return nil, fmt.Errorf("adapter: rank %d: decomposed for 1 to %d", rank, most)
	}
	ranks := make([]int, len(d.parts))
	for i, p := range d.parts {
		ranks[i] = min(rank, p.a.NE[1])
	}
	return ranks, nil
}

// Whole returns the rank of each weight with all of its components that were kept.
func (d *Decomposition) Whole() []int {
	ranks := make([]int, len(d.parts))
	for i, p := range d.parts {
		ranks[i] = p.a.NE[1]
	}
	return ranks
}

// Project cuts each weight to its rank, from [Decomposition.Allocate],
// [Decomposition.Uniform] or [Decomposition.Whole]. The result is a LoRA whose scale is 1 and which belongs
// to the same base; the reports are in the order of its weights. It shares memory
// with nothing.
func (d *Decomposition) Project(ranks []int) (*Adapter, []Report, error) {
	if len(ranks) != len(d.parts) {
		return nil, nil, fmt.Errorf("adapter: %d ranks for %d weights", len(ranks), len(d.parts))
	}
	result := *d.source
	result.Weights = nil
	result.Meta = projectedMeta(d.source)
	alpha := alphaOfOne(ranks)
	var reports []Report
	for i, w := range d.weights {
		p := d.parts[i]
		if ranks[i] < 1 || ranks[i] > p.a.NE[1] {
			return nil, nil, fmt.Errorf("adapter: tensor %q: rank %d, decomposed for 1 to %d", w.name, ranks[i], p.a.NE[1])
		}
		l := &LoRA{A: p.a.firstRows(ranks[i]), B: p.b.firstColumns(ranks[i]), Alpha: alpha}
		result.Weights = append(result.Weights, Weight{w.name, l})
		reports = append(reports, p.report(w, l))
	}
	return &result, reports, nil
}

// alphaOfOne returns the alpha with which the scale is 1: the rank if all have one, so
// that a reader which takes no alpha for no effect sees one, and else 0.
func alphaOfOne(ranks []int) float32 {
	for _, r := range ranks {
		if r != ranks[0] {
			return 0
		}
	}
	return float32(ranks[0])
}

func projectedMeta(a *Adapter) map[string]gguf.Value {
	meta := withMeta(a.Meta, KeyExport, "project")
	if _, ok := meta[KeyMethod]; !ok {
		meta[KeyMethod] = string(a.Method())
	}
	return meta
}

func (p part) report(w named, l *LoRA) Report {
	r := Report{Name: w.name, Rank: l.Rank(), Total: p.total, Energy: 1}
	if p.total == 0 {
		return r
	}
	kept := 0.0
	for _, e := range p.energy[:r.Rank] {
		kept += e
	}
	r.Energy = min(kept/p.total, 1)
	difference, whole := distance(w.change, l)
	if r.Error = difference / whole; whole == 0 {
		r.Error = 0 // a ΔW that Gram matrices cannot tell from zero
	}
	return r
}

// Captured returns the share of the energy of all weights that a projection kept.
func Captured(reports []Report) float64 {
	kept, total := 0.0, 0.0
	for _, r := range reports {
		kept += r.Energy * r.Total
		total += r.Total
	}
	if total == 0 {
		return 1
	}
	return kept / total
}
