package export

import (
	"context"
	"errors"
	"fmt"
	"math"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/trainer"
	"finetune/trainer/data"
	"finetune/trainer/graph"
	"finetune/trainer/optim"
)

// Healing trains the factors of a projection for a while against the model with the adapter as it was trained: on the run's
// own training data, with the loss of kernels.Distill. The projection has the directions that matter most for each
// matrix by itself; what one matrix lost, others can make up for.
const (
	// healShare is the part of the loss that the data's own targets make up, beside the teacher's probabilities.
	healShare = 0.5
	// healRate is the learning rate as a share of the run's, mostThinRate the most that it is after a thin start: there is
	// nearly nothing to heal, and from 1e-3 on healing harms (docs/learning.md).
	healRate, mostThinRate = 0.5, 5e-4
	// healWarmup is the share of the steps in which it rises: the optimizer has to learn the sizes of the gradients anew.
	healWarmup = 0.1
	// healClip is the largest global norm of the gradients.
	healClip = 1
	// Steps without a wish: a share of the run's, within bounds.
	healPart, leastHeal, mostHeal = 0.25, 20, 200
	// healReports is how often a healing says how far it is.
	healReports = 5
)

// healer holds what all projections of a run are healed with.
type healer struct {
	x       *exporter
	steps   int
	teacher *graph.Engine // the model with the adapter as it was trained
}

// newHealer makes the teacher. It takes its memory when the first student is there.
func (x *exporter) newHealer() *healer {
	steps := x.HealSteps
	if steps == 0 {
		steps = int(healPart * float64(x.run.TotalSteps(x.train.Len())))
		steps = min(max(steps, leastHeal), mostHeal)
	}
	return &healer{x: x, steps: steps}
}

func (h *healer) close() error {
	if h.teacher == nil {
		return nil
	}
	return h.teacher.Close()
}

// heal trains low, a LoRA, where it lies.
func (h *healer) heal(ctx context.Context, low *adapter.Adapter) error {
	student, err := h.x.engine(low, true, func(o *graph.Options) { o.Teacher, o.HardLabelWeight = true, healShare })
	if err != nil {
		return err
	}
	if err = h.teach(student.Shape()); err == nil {
		err = h.train(ctx, low, student)
	}
	return errors.Join(err, student.Close())
}

// teach makes the teacher for batches of a shape.
func (h *healer) teach(shape graph.Shape) (err error) {
	if h.teacher != nil && h.teacher.Shape() == shape {
		return nil
	}
	if err := h.close(); err != nil {
		return err
	}
	m, err := h.x.engineModel()
	if err != nil {
		return err
	}
	h.teacher, err = graph.Prepare(m, h.x.adapter.Weights, graph.Options{Shape: shape, Threads: h.x.threads(), On: h.x.on, ForwardOnly: true})
	if err != nil {
		return err
	}
	return h.teacher.Allocate()
}

// rate returns the highest learning rate.
func (h *healer) rate() float64 {
	rate := healRate * float64(h.x.run.LR)
	if h.x.thin() {
		return min(rate, mostThinRate)
	}
	return rate
}

// train takes the steps.
func (h *healer) train(ctx context.Context, low *adapter.Adapter, student *graph.Engine) error {
	c := h.x.run
	schedule, err := optim.NewSchedule("cosine", h.rate(), 0, h.steps, int(math.Ceil(healWarmup*float64(h.steps))))
	if err != nil {
		return err
	}
	params, values := trainer.AdapterParams(low, adapter.Recipe{})
	stepper := trainer.NewStepper(trainer.StepperOptions{Engine: student, Params: params, Values: values, Schedule: schedule,
		Clip: healClip, Threads: h.x.threads(), Pass: h.pass(student)})
	sampler := &trainer.Sampler{Windows: h.x.train, Seed: c.Seed}
	for step := 1; step <= h.steps; step++ {
		r, err := stepper.Step(ctx, sampler.Batch(c.Batch*c.GradAccum))
		if diverged := (*trainer.DivergedError)(nil); errors.As(err, &diverged) {
			return hint.With(fmt.Errorf("export: healing, step %d: %w: it diverged", step, err), "--mode project exports without healing")
		}
		if err != nil {
			return err
		}
		if step%max(1, h.steps/healReports) == 0 {
			h.x.say(fmt.Sprintf("healing %d parameters: step %d of %d, loss %.4f", low.Parameters(), step, h.steps, r.Loss))
		}
	}
	return nil
}

// pass computes the student's loss and gradient toward the teacher's hidden states, for one batch of windows.
func (h *healer) pass(student *graph.Engine) func([]data.Window, float32, int) (float64, error) {
	return func(windows []data.Window, scale float32, threads int) (float64, error) {
		h.teacher.SetThreads(threads)
		student.SetThreads(threads)
		hidden, err := h.teacher.Hidden(windows)
		if err != nil {
			return 0, err
		}
		return student.StepToward(windows, hidden, scale)
	}
}

// markHealed notes in a projection that it was healed.
func markHealed(low *adapter.Adapter) {
	if low.Meta == nil {
		low.Meta = map[string]gguf.Value{}
	}
	low.Meta[adapter.KeyExport] = ModeHeal
}
