package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"finetune/adapter"
	"finetune/trainer/data"
	"finetune/trainer/graph"
)

// The start by gradients looks for the directions of C among the right singular vectors of G = dL/dW, summed over the first
// batches. G [n_in, n_out] is never formed: the gradient of A of a LoRA with A = 0 and B = Ω, which changes nothing, is
// Ωᵀ·G, a sketch of G's rows (Halko, Martinsson and Tropp, arXiv 0909.4061). So it takes the passes and the memory of a LoRA
// of a small rank.
const (
	startBatches       = 3  // batches that G is summed over: those of the first steps
	sketchOversampling = 10 // directions more than are wanted
)

// sketch is a LoRA over the weights of a run, whose gradients are the sketches, and the engine that finds them.
type sketch struct {
	*adapter.Adapter
	engine *graph.Engine
}

// close gives the engine back. A nil sketch has none.
func (k *sketch) close() error {
	if k == nil || k.engine == nil {
		return nil
	}
	e := k.engine
	k.engine = nil
	return e.Close()
}

// newSketch plans the start by gradients, if the run has one that is not behind it. Nothing of its memory is taken yet; it is
// taken and given back before that of the run, whose plan counts what it needs beyond it.
func (s *setup) newSketch(fromStart bool) error {
	a, ok := s.trainable.(*adapterTrainable)
	if !ok || a.recipe.Start != adapter.StartGradient || a.initial != nil || !fromStart {
		return nil
	}
	low, err := a.sketch(s.config.Seed)
	if err != nil {
		return err
	}
	k, plan, err := s.prepareSketch(low)
	if err != nil {
		return err
	}
	s.sketch, s.plan.Start = k, max(0, plan.Total()-s.plan.Total())
	return nil
}

// prepareSketch plans the passes over a LoRA, beside the factors of the run and with its loss.
func (s *setup) prepareSketch(low *adapter.Adapter) (*sketch, Plan, error) {
	task := s.trainable.(*adapterTrainable).task
	d := s.demand()
	d.Kept, d.Parameters, d.Optimizer, d.Statistics = 4*int64(d.Parameters), low.Parameters(), false, 0
	d.Prepare = func(o graph.Options) (*graph.Engine, error) {
		o.Statistics = false
		return graph.Prepare(s.model, low.Weights, task.Options(o))
	}
	e, plan, err := d.Engine()
	return &sketch{low, e}, plan, err
}

// startByGradient gives C its directions, before the memory of the run is taken.
func (l *loop) startByGradient(ctx context.Context) (err error) {
	if l.sketch == nil || l.step > 0 {
		return nil
	}
	defer func() { err = errors.Join(err, l.sketch.close()) }()
	begin := time.Now()
	if err := l.sketchGradients(ctx, l.sketch); err != nil {
		return err
	}
	a := l.trainable.(*adapterTrainable)
	for i, w := range l.sketch.Weights {
		basis, err := adapter.RowSpace(w.Factors.(*adapter.LoRA).A)
		if err != nil {
			return fmt.Errorf("trainer: tensor %q: %w", w.Name, err)
		}
		a.Weights[i].Factors.(*adapter.Dual).SetDirections(basis)
	}
	l.totals.Seconds += time.Since(begin).Seconds()
	return nil
}

// sketch returns a LoRA over the same weights, of a rank that is enough for C's, with B drawn and A zero.
func (a *adapterTrainable) sketch(seed uint64) (*adapter.Adapter, error) {
	low := &adapter.Adapter{Architecture: a.Architecture}
	rng := rand.New(rand.NewPCG(seed, math.MaxUint64))
	for _, w := range a.Weights {
		nIn, nOut := w.Shape()
		rank := min(w.Factors.(*adapter.Dual).C.NE[1]+sketchOversampling, nIn, nOut)
		f, err := adapter.New(adapter.MethodLoRA, nIn, nOut, rank, 0)
		if err != nil {
			return nil, err
		}
		b := f.(*adapter.LoRA).B
		for i := range b.Data {
			b.Data[i] = float32(rng.NormFloat64())
		}
		low.Weights = append(low.Weights, adapter.Weight{Name: w.Name, Factors: f})
	}
	return low, nil
}

// sketchGradients puts the gradient of each A over the first batches in its place.
func (l *loop) sketchGradients(ctx context.Context, k *sketch) error {
	e := k.engine
	if err := e.Allocate(); err != nil {
		return err
	}
	e.Reset()
	sampler, seqs := *l.sampler, e.Shape().Seqs
	for range startBatches {
		batch := sampler.Batch(l.config.Batch * l.config.GradAccum)
		for left := batch.Len; left > 0; left -= min(seqs, left) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if _, err := e.Step(data.Fill(batch.Next(min(seqs, left)), seqs), float32(1/batch.Weight)); err != nil {
				return err
			}
		}
	}
	if err := e.Collect(); err != nil {
		return err
	}
	grads := map[string][]float32{}
	for _, g := range e.Gradients() {
		grads[g.Name] = g.Data
	}
	for _, w := range k.Weights {
		copy(w.Factors.(*adapter.LoRA).A.Data, grads[w.Name+".lora_a"])
	}
	return nil
}
