package graph

import (
	"fmt"

	"finetune/trainer/data"
)

// SetThreads sets the number of threads of the next steps, at most Options.Threads. No result depends on it.
func (e *Engine) SetThreads(n int) { e.backend.SetThreads(n) }

// SetDraw says by which draw the next calls of Step choose the tokens of Options.MagnitudeEvery. The same draw chooses the same.
func (e *Engine) SetDraw(n int) { e.drawn.by = n }

// Step adds the gradient of scale·Σ weight·nll over the windows, Shape.Seqs of Shape.Ctx tokens, to the summed gradients;
// weight is a window's LossMask. It returns Σ weight·nll, not scaled. With scale = 1/Σ weight over all windows of an
// optimizer step, the sums are the gradient of the mean loss over the step's trained tokens, however many calls it takes.
func (e *Engine) Step(windows []data.Window, scale float32) (float64, error) {
	return e.StepToward(windows, nil, scale)
}

// StepToward does what Step does for an Engine with Options.Teacher, with the loss of kernels.Distill in the place of nll:
// against the probabilities that the same head makes of a teacher's hidden states [n_embd, N], which Hidden returns.
func (e *Engine) StepToward(windows []data.Window, teacher []float32, scale float32) (float64, error) {
	e.drawn.next(&e.bus, e.shape.tokens())
	clear(e.seedState.data)
	loss, err := e.run(windows, teacher, e.seedState.data, scale*e.lossScale)
	if err != nil || len(e.rows) == 0 {
		return loss, err
	}
	e.count()
	e.seedState.push(&e.bus)
	return loss, e.compute(e.reverse)
}

// Loss returns Σ weight·nll over the windows, as Step does, without gradients.
func (e *Engine) Loss(windows []data.Window) (float64, error) { return e.run(windows, nil, nil, 1) }

// Hidden returns the state that the output matrix reads, [n_embd, N], for every position of the windows. It is the Engine's
// own memory and holds until the next call.
func (e *Engine) Hidden(windows []data.Window) ([]float32, error) {
	if err := e.load(windows); err != nil {
		return nil, err
	}
	if err := e.compute(e.forward); err != nil {
		return nil, err
	}
	e.hiddenState.pull(&e.bus)
	return e.hiddenState.data, e.failed
}

// run computes the forward pass and the head: the loss, and with a seed [n_embd, N] its derivative by the hidden state.
func (e *Engine) run(windows []data.Window, teacher, seed []float32, scale float32) (float64, error) {
	if e.contrast != nil {
		return e.runContrast(windows, seed, scale)
	}
	if (teacher != nil) == e.head.teacher.IsNil() {
		panic("internal error: graph: a step with a teacher needs an engine for it, and the other way round")
	}
	hidden, err := e.Hidden(windows)
	if err != nil {
		return 0, err
	}
	n := int(e.head.h.NE()[0])
	if e.pooling != nil {
		e.pooling.find(e.shape, windows, e.rows)
		hidden = e.pooling.pool(hidden, n, e.rows)
	}
	in := headInput{hidden: hidden, teacher: teacher, rows: e.rows, targets: e.targets, weights: e.weights, scale: scale}
	loss, err := e.head.run(&e.sides, in, seed)
	if e.pooling != nil && seed != nil {
		e.pooling.spread(seed, n, e.rows)
	}
	e.model.DropWeights(e.paged)
	return loss, err
}

// Failed returns why the device cannot be used any more, nil while it can: what every later call returns that computes.
func (e *Engine) Failed() error { return e.failed }

// Moved returns the bytes that were copied so far between the memory of the CPU and that of a device, weights aside.
func (e *Engine) Moved() int64 { return e.moved }

// load writes a batch into the input leaves and lists its trained rows.
func (e *Engine) load(windows []data.Window) error {
	if len(windows) != e.shape.Seqs {
		return fmt.Errorf("graph: %d windows, want %d", len(windows), e.shape.Seqs)
	}
	e.rows = e.rows[:0]
	for s, w := range windows {
		if len(w.Tokens) != e.shape.Ctx {
			return fmt.Errorf("graph: a window of %d tokens, want %d", len(w.Tokens), e.shape.Ctx)
		}
		copy(e.targets[s*e.shape.Ctx:], w.Targets)
		copy(e.weights[s*e.shape.Ctx:], w.LossMask)
		for i, weight := range w.LossMask {
			if weight != 0 {
				e.rows = append(e.rows, s*e.shape.Ctx+i)
			}
		}
	}
	for _, in := range e.inputs {
		if in.leaf.HasData() { // the allocator gives no memory to a leaf that no node reads
			in.fill(&e.bus, e.shape, windows)
		}
	}
	return nil
}
