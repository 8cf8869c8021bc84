package trainer

import (
	"cmp"
	"fmt"
	"path/filepath"

	"finetune/classify"
	"finetune/internal/hint"
	"finetune/run"
	"finetune/trainer/graph"
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

// addTask puts beside an adapter what the task needs: a classifier of the data's labels, one of the relevance alone, or the loss
// between states.
func (s *setup) addTask() error {
	if s.config.Task == "" {
		return nil
	}
	pooling, err := classify.PoolingOf(s.base.File)
	if err != nil {
		return err
	}
	a, ok := s.trainable.(*adapterTrainable)
	if !ok {
		return fmt.Errorf("trainer: internal error: task %q is learned by an adapter only", s.config.Task)
	}
	if s.config.Task == run.TaskEmbed {
		a.contrast = &graph.Contrast{Temperature: float32(cmp.Or(s.config.Temperature, usualTemperature)), Dims: s.config.DimList(), Pooling: pooling}
		return a.checkDims(s.model.NEmbd())
	}
	h := classify.New(s.model.NEmbd(), s.train.Classes(), pooling, s.config.Seed)
	h.Architecture, h.BaseHash = s.id.Architecture, s.id.Hash
	a.head, a.headRate = h, cmp.Or(s.config.HeadLR, 1)
	return nil
}

// usualTemperature is sentence-transformers' scale of 20.
const usualTemperature = 0.05

// checkDims refuses beginnings that are longer than the states.
func (a *adapterTrainable) checkDims(nEmbd int) error {
	for _, d := range a.contrast.Dims {
		if d > nEmbd {
			return fmt.Errorf("trainer: dims: %d, the states of the model have %d numbers", d, nEmbd)
		}
	}
	return nil
}

// negativesNote says that the passes of a step over embeddings are smaller than the batch that was asked for, and with them the
// choice that a query has.
func (s *setup) negativesNote() []string {
	if s.config.Task != run.TaskEmbed || s.plan.MicroBatch >= s.plan.Batch {
		return nil
	}
	return []string{fmt.Sprintf("there is memory for %d of the %d sequences of --batch in one pass: the negatives of a query are the other texts of its pass, and fewer for that; a shorter --ctx or more memory keeps the batch whole",
		s.plan.MicroBatch, s.plan.Batch)}
}

// headParams describes the classifier to the optimizer, with its rate as a share of the adapter's. Its biases take no part in the weight
// decay.
func headParams(h *classify.Head, rate float64) (params []optim.Param, values [][]float32) {
	return []optim.Param{{Name: classify.TensorWeights, Len: len(h.Weights), LRScale: rate}, {Name: classify.TensorBiases, Len: len(h.Biases), LRScale: rate, NoDecay: true}},
		[][]float32{h.Weights, h.Biases}
}

// classes is the classifier as the engine takes it.
func classes(h *classify.Head) *graph.Classes {
	return &graph.Classes{Weights: h.Weights, Biases: h.Biases, Pooling: h.Pooling}
}

// saveHead writes the classifier beside the adapter of a run.
func saveHead(h *classify.Head, adapter string) error {
	return h.Save(filepath.Join(filepath.Dir(adapter), run.ClassifierFile))
}
