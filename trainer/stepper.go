package trainer

import (
	"context"
	"fmt"

	"finetune/eval"
	"finetune/internal/machine"
	"finetune/trainer/data"
	"finetune/trainer/graph"
	"finetune/trainer/optim"
)

// Stepper takes optimizer steps: the gradient of the mean loss over a step's windows, in as many passes through the graph
// as it takes, clipped, and AdamW. Training an adapter, training every weight and healing an export step alike. One
// goroutine at a time.
type Stepper struct {
	StepperOptions
	tuner *machine.ThreadTuner
	grads [][]float32 // of the parameters, in the engine's memory
	share float32     // of ΔW that the engine has
}

// StepperOptions say what is stepped, and how.
type StepperOptions struct {
	Engine      *graph.Engine // with its memory allocated
	Params      []optim.Param // the trainable parameters
	Values      [][]float32   // their data
	Schedule    optim.Schedule
	Optimizer   *optim.AdamW // of Params; nil = a new one without weight decay
	DeltaWarmup int          // steps over which a share of ΔW rises from 0 to all of it; 0 = none
	Clip        float64      // largest global norm of the gradients; 0 = no clipping
	Threads     int
	// Pass computes Σ loss over one batch of windows, times scale, and adds its gradient to the engine's; nil = Engine.Step.
	Pass func(windows []data.Window, scale float32, threads int) (float64, error)
}

// StepResult is what a step has found.
type StepResult struct {
	Loss     float64 // mean over the loss masks of the step's windows, before the step
	GradNorm float64 // global norm of the gradient, before clipping
	LR       float64 // that the step was taken with
	Windows  int
	Trained  int64 // tokens in the loss
}

// DivergedError is what Step returns in place of a step that would spoil the parameters.
type DivergedError struct{ StepResult }

func (e *DivergedError) Error() string {
	return fmt.Sprintf("loss %v, gradient norm %v", e.Loss, e.GradNorm)
}

// NewStepper finds the gradients of the parameters. Every parameter has to be one of the engine's.
func NewStepper(o StepperOptions) *Stepper {
	s := &Stepper{StepperOptions: o, tuner: machine.NewThreadTuner(o.Threads), share: 1}
	if s.Optimizer == nil {
		s.Optimizer = optim.NewAdamW(o.Params, 0)
	}
	if s.Pass == nil {
		s.Pass = func(windows []data.Window, scale float32, threads int) (float64, error) {
			s.Engine.SetThreads(threads)
			return s.Engine.Step(windows, scale)
		}
	}
	var names []string
	for _, p := range o.Params {
		names = append(names, p.Name)
	}
	s.grads = o.Engine.GradientsOf(names)
	return s
}

// Step takes one step over a batch. A loss or a gradient that is not healthy is a *DivergedError, and leaves the parameters
// as they were; so does the end of ctx, which is seen before each pass and returned as its error. The engine's statistics
// have the passes up to then either way.
func (s *Stepper) Step(ctx context.Context, batch Batch) (StepResult, error) {
	step := s.Optimizer.Steps() + 1
	s.setShare(deltaShare(step, s.DeltaWarmup))
	s.Engine.SetDraw(step)
	r, err := s.gradients(ctx, batch)
	if err != nil {
		return r, err
	}
	s.scaleWarming()
	r.GradNorm = optim.ClipGlobalNorm(s.grads, s.Clip)
	if !healthy(r.Loss, r.GradNorm) {
		return r, &DivergedError{r}
	}
	r.LR = s.Schedule.LR(step)
	s.Optimizer.Step(r.LR, s.Values, s.grads)
	s.Engine.Upload()
	return r, nil
}

// deltaShare returns the share of ΔW that counts in an optimizer step, from 1, with a warm-up of so many steps.
func deltaShare(step, warmup int) float32 {
	if step >= warmup {
		return 1
	}
	return float32(step) / float32(warmup)
}

// setShare has the engine count a share of ΔW from now on.
func (s *Stepper) setShare(share float32) {
	if share != s.share {
		s.share = share
		s.Engine.SetChangeShare(share)
		s.Engine.Upload()
	}
}

// scaleWarming turns the gradients by what the graph reads of the factors that ΔW is proportional to, a share of them, into
// those by the factors.
func (s *Stepper) scaleWarming() {
	if s.share == 1 {
		return
	}
	for i, p := range s.Params {
		if p.Warms {
			for k := range s.grads[i] {
				s.grads[i][k] *= s.share
			}
		}
	}
}

// gradients finds the mean loss over all the step's trained tokens, however many passes they take, and its gradient.
func (s *Stepper) gradients(ctx context.Context, batch Batch) (r StepResult, _ error) {
	s.Engine.Reset()
	for r.Windows < batch.Len {
		if err := ctx.Err(); err != nil {
			return StepResult{}, err
		}
		windows := batch.Next(min(s.Engine.Shape().Seqs, batch.Len-r.Windows))
		loss, err := s.pass(windows, float32(1/batch.Weight))
		if err != nil {
			return StepResult{}, err
		}
		r.Loss += loss
		r.Windows += len(windows)
		r.Trained += data.TrainedTokens(windows)
	}
	r.Loss /= batch.Weight
	return r, s.Engine.Collect()
}

// pass computes Σ loss over windows, as many as the engine takes at once, with as many threads as are worth it.
func (s *Stepper) pass(windows []data.Window, scale float32) (loss float64, err error) {
	err = s.tuner.Do(len(windows), func(threads int) error {
		loss, err = s.Pass(data.Fill(windows, s.Engine.Shape().Seqs), scale, threads)
		return err
	})
	return loss, err
}

// healthy reports whether a step may be taken. Parameters that have grown too large show as losses that are no number,
// or, where a norm over an overflown state gives zeros, as a loss without any gradient.
func healthy(loss, norm float64) bool {
	return eval.Loss(loss+norm).Measured() && (norm > 0 || loss == 0)
}
