package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/trainer/data"
	"finetune/trainer/graph"
)

// Healing trains the factors of a projection for a while against the model with the adapter as it was trained: on the run's
// own training data, with the loss of kernels.Distill. The projection has the directions that matter most for each
// matrix by itself; what one matrix lost, others can make up for.
const (
	// healShare is the part of the loss that the data's own targets make up, beside the teacher's probabilities.
	healShare = 0.5
	// healRate is the learning rate as a share of the run's.
	healRate = 0.5
	// healWarmup is the share of the steps in which it rises: the optimizer has to learn the sizes of the gradients anew.
	healWarmup = 0.1
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
	pace    *pace
	blank   data.Window
}

// newHealer makes the teacher. It takes its memory when the first student is there.
func (x *exporter) newHealer() *healer {
	steps := x.HealSteps
	if steps == 0 {
		steps = int(healPart * float64(x.run.totalSteps(x.train.Len())))
		steps = min(max(steps, leastHeal), mostHeal)
	}
	return &healer{x: x, steps: steps, pace: newPace(x.threads()), blank: data.Blank(x.run.Ctx)}
}

func (h *healer) close() error {
	if h.teacher == nil {
		return nil
	}
	return h.teacher.Close()
}

// heal trains low, a LoRA, where it lies.
func (h *healer) heal(ctx context.Context, low *adapter.Adapter) error {
	student, err := h.x.engine(low, true, func(o *graph.Options) { o.Teacher, o.Share = true, healShare })
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
	h.teacher, err = graph.Prepare(h.x.model, h.x.adapter.Weights, graph.Options{Shape: shape, Threads: h.x.threads(), Ahead: true})
	if err != nil {
		return err
	}
	return h.teacher.Allocate()
}

// train takes the steps.
func (h *healer) train(ctx context.Context, low *adapter.Adapter, student *graph.Engine) error {
	run := h.x.run
	learner := &factors{Adapter: low}
	params, values := learner.params()
	var grads [][]float32
	for _, g := range student.Gradients() {
		grads = append(grads, g.Data)
	}
	opt := NewAdamW(params, 0)
	rate, err := NewSchedule("cosine", healRate*run.LR, 0, h.steps, int(math.Ceil(healWarmup*float64(h.steps))))
	if err != nil {
		return err
	}
	deal := &dealer{windows: h.x.train, seed: run.Seed}
	for step := 1; step <= h.steps; step++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		windows := deal.next(run.Batch * run.GradAccum)
		loss, err := h.gradients(student, windows)
		if err != nil {
			return err
		}
		norm := ClipGlobalNorm(grads, 1)
		if !healthy(loss, norm) {
			return hint.With(fmt.Errorf("trainer: healing, step %d: loss %v, gradient norm %v: it diverged", step, loss, norm), "--mode project exports without healing")
		}
		opt.Step(rate.LR(step), values, grads)
		student.Upload()
		if step%max(1, h.steps/healReports) == 0 {
			h.x.say(fmt.Sprintf("healing %d parameters: step %d of %d, loss %.4f", low.Parameters(), step, h.steps, loss))
		}
	}
	return nil
}

// gradients is the mean loss over the step's trained tokens, and its gradient.
func (h *healer) gradients(student *graph.Engine, windows []data.Window) (float64, error) {
	student.Reset()
	seqs := student.Shape().Seqs
	weight, sum := totalWeight(windows), 0.0
	for len(windows) > 0 {
		n := min(seqs, len(windows))
		part := fill(windows[:n], seqs, h.blank)
		err := h.pace.do(seqs, func(threads int) error {
			h.teacher.SetThreads(threads)
			student.SetThreads(threads)
			hidden, err := h.teacher.Hidden(part)
			if err != nil {
				return err
			}
			loss, err := student.StepToward(part, hidden, float32(1/weight))
			sum += loss
			return err
		})
		if err != nil {
			return 0, err
		}
		windows = windows[n:]
	}
	return sum / weight, nil
}

// markHealed notes in a projection that it was healed.
func markHealed(low *adapter.Adapter) {
	if low.Meta == nil {
		low.Meta = map[string]gguf.Value{}
	}
	low.Meta[adapter.KeyExport] = ModeHeal
}
