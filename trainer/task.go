package trainer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"finetune/classify"
	"finetune/convert"
	"finetune/model"
	"finetune/run"
	"finetune/trainer/graph"
)

// Task is what an adapter learns beside text, as an engine needs to know it. The zero Task is text itself. Goroutines may share one
// whose classifier nobody trains.
type Task struct {
	Head     *classify.Head  // a classifier, or a reranker's score; nil: none
	Contrast *graph.Contrast // of embeddings; nil: none
}

// usualTemperature is sentence-transformers' scale of 20.
const usualTemperature = 0.05

// newTask returns the task of a run's settings over a base whose states have nEmbd numbers, with a fresh classifier where it
// takes one: of the labels, without them of the relevance alone.
func newTask(c run.Config, base *model.Base, nEmbd int, labels []string) (t Task, err error) {
	if c.Task == "" {
		return t, nil
	}
	pooling, err := classify.PoolingOf(base.File)
	if err != nil {
		return t, err
	}
	if c.Task == run.TaskEmbed {
		t.Contrast = &graph.Contrast{Temperature: float32(cmp.Or(c.Temperature, usualTemperature)), Dims: c.DimList(), Pooling: pooling}
		return t, checkDims(t.Contrast.Dims, nEmbd)
	}
	id, err := base.Identity()
	if err != nil {
		return t, err
	}
	t.Head = classify.New(nEmbd, labels, pooling, c.Seed)
	t.Head.Architecture, t.Head.BaseHash = id.Architecture, id.Hash
	return t, nil
}

// TaskOf returns the task of a run that is done, with the classifier that its directory has. The classes have to be those of the
// data.
func TaskOf(dir string, c run.Config, base *model.Base, nEmbd int, labels []string) (Task, error) {
	t, err := newTask(c, base, nEmbd, labels)
	if err != nil || t.Head == nil {
		return t, err
	}
	path := filepath.Join(dir, run.ClassifierFile)
	h, err := classify.Load(path)
	if err != nil {
		return t, err
	}
	if err := h.CheckBase(t.Head.Architecture, h.BaseHash, nEmbd); err != nil { // another quantization will do
		return t, err
	}
	if n := t.Head.Take(h); n != len(t.Head.Biases) || n != len(h.Biases) {
		return t, fmt.Errorf("classifier %q: it knows the labels %q, the run's data has %q", path, h.Labels, labels)
	}
	return t, nil
}

// checkDims refuses beginnings that are longer than the states.
func checkDims(dims []int, nEmbd int) error {
	for _, d := range dims {
		if d > nEmbd {
			return fmt.Errorf("trainer: dims: %d, the states of the model have %d numbers", d, nEmbd)
		}
	}
	return nil
}

// Options returns the options of an engine with the loss of the task.
func (t Task) Options(o graph.Options) graph.Options {
	if o.Contrast = t.Contrast; t.Head != nil {
		o.Classes = &graph.Classes{Weights: t.Head.Weights, Biases: t.Head.Biases, Pooling: t.Head.Pooling}
	}
	return o
}

// goOn takes the scores of labels that the adapter's classifier knows already, where the training goes on from that adapter, and
// returns what is to be told of it, empty for nothing.
func (t Task) goOn(initial string) (string, error) {
	if t.Head == nil || initial == "" {
		return "", nil
	}
	if convert.IsFolder(initial) {
		return fmt.Sprintf("a classifier in %q does not go on, it begins anew: finetune convert makes files that do", initial), nil
	}
	file, err := run.AdapterPath(initial)
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(file), run.ClassifierFile)
	h, err := classify.Load(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("there is no classifier beside %q to go on with: it begins anew", file), nil
	case err != nil:
		return "", err
	case h.Architecture != t.Head.Architecture || h.NEmbd() != t.Head.NEmbd() || h.Pooling != t.Head.Pooling || h.Dense != nil:
		return fmt.Sprintf("the classifier %q is of another kind than the one that is trained, which begins anew", path), nil
	}
	if n := t.Head.Take(h); n < len(t.Head.Biases) {
		return fmt.Sprintf("the classifier goes on with %d of its %d classes, %q knows no others", n, len(t.Head.Biases), path), nil
	}
	return "", nil
}
