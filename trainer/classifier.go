package trainer

import (
	"cmp"
	"fmt"
	"path/filepath"

	"finetune/classify"
	"finetune/internal/hint"
	"finetune/run"
	"finetune/trainer/optim"
)

// checkTask refuses a base that cannot learn what the settings ask for.
func (s *setup) checkTask() error {
	if s.config.Task == "" && classify.IsEncoder(s.base.File) {
		return hint.With(fmt.Errorf("trainer: model %q: a %s reads in both directions and predicts no text, want a task", s.base.Path(), s.base.Architecture()),
			"--task classify learns the label of each record, --task embed which texts belong together, --task rerank which documents answer a query")
	}
	return nil
}

// addTask puts beside an adapter what the task needs. A run that has not begun takes of the classifier what the adapter has that it
// goes on from.
func (s *setup) addTask(fromStart bool) (err error) {
	if s.config.Task == "" {
		return nil
	}
	a, ok := s.trainable.(*adapterTrainable)
	if !ok {
		return fmt.Errorf("trainer: internal error: task %q is learned by an adapter only", s.config.Task)
	}
	if a.task, err = newTask(s.config, s.base, s.model.NEmbd(), s.train.Classes()); err != nil {
		return err
	}
	a.headRate = cmp.Or(s.config.HeadLR, 1)
	if fromStart {
		s.headNote, err = a.task.goOn(s.config.InitFrom)
	}
	return err
}

// taskNotes say what is not as one might expect: of a classifier that goes on, and that the passes of a step over embeddings are
// smaller than the batch that was asked for, and with them the choice that a query has.
func (s *setup) taskNotes() (notes []string) {
	if s.headNote != "" {
		notes = append(notes, s.headNote)
	}
	if s.config.Task == run.TaskEmbed && s.plan.MicroBatch < s.plan.Batch {
		notes = append(notes, fmt.Sprintf("there is memory for %d of the %d sequences of --batch in one pass: the negatives of a query are the other texts of its pass, and fewer for that; a shorter --ctx or more memory keeps the batch whole",
			s.plan.MicroBatch, s.plan.Batch))
	}
	return notes
}

// headParams describes the classifier to the optimizer, with its rate as a share of the adapter's. Its biases take no part in the weight
// decay.
func headParams(h *classify.Head, rate float64) (params []optim.Param, values [][]float32) {
	return []optim.Param{{Name: classify.TensorWeights, Len: len(h.Weights), LRScale: rate}, {Name: classify.TensorBiases, Len: len(h.Biases), LRScale: rate, NoDecay: true}},
		[][]float32{h.Weights, h.Biases}
}

// saveHead writes the classifier beside the adapter of a run.
func saveHead(h *classify.Head, adapter string) error {
	return h.Save(filepath.Join(filepath.Dir(adapter), run.ClassifierFile))
}
