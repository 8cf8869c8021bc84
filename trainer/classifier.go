package trainer

import (
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
			"--task classify learns the label of each record")
	}
	return nil
}

// addClassifier puts a classifier of the data's labels beside what is trained.
func (s *setup) addClassifier() error {
	labels := s.train.Classes()
	if labels == nil {
		return nil
	}
	pooling, err := classify.PoolingOf(s.base.File)
	if err != nil {
		return err
	}
	h := classify.New(s.model.NEmbd(), labels, pooling, s.config.Seed)
	h.Architecture, h.BaseHash = s.id.Architecture, s.id.Hash
	a, ok := s.trainable.(*adapterTrainable)
	if !ok {
		return fmt.Errorf("trainer: internal error: a classifier is trained beside an adapter only")
	}
	a.head = h
	return nil
}

// headParams describes the classifier to the optimizer. Its biases take no part in the weight decay.
func headParams(h *classify.Head) (params []optim.Param, values [][]float32) {
	return []optim.Param{{Name: graph.ClassWeights, Len: len(h.Weights), LRScale: 1}, {Name: graph.ClassBiases, Len: len(h.Biases), LRScale: 1, NoDecay: true}},
		[][]float32{h.Weights, h.Biases}
}

// classes is the classifier as the engine takes it.
func classes(h *classify.Head) *graph.Classes {
	pooling := map[classify.Pooling]graph.Pooling{classify.PoolMean: graph.PoolMean, classify.PoolFirst: graph.PoolFirst, classify.PoolLast: graph.PoolLast}
	return &graph.Classes{Weights: h.Weights, Biases: h.Biases, Pooling: pooling[h.Pooling]}
}

// saveHead writes the classifier beside the adapter of a run.
func saveHead(h *classify.Head, adapter string) error {
	return h.Save(filepath.Join(filepath.Dir(adapter), run.ClassifierFile))
}
