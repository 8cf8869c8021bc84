package classify

import (
	"fmt"
	"slices"
	"strings"

	"finetune/gguf"
	"finetune/internal/hint"
)

// withClassifier are the architectures whose code in llama.cpp reads a classifier with biases behind the pooled states.
var withClassifier = []string{"bert", "modern-bert", "neo-bert"}

// withTanh are those of them that put a dense layer with a tanh before the scores; modern-bert puts a GELU and a norm there.
var withTanh = []string{"bert", "neo-bert"}

// CheckMerge refuses a base whose code in llama.cpp has no place for the classifier.
func (h *Head) CheckMerge() error {
	if slices.Contains(withClassifier, h.Architecture) {
		if h.Dense != nil {
			return h.checkDense()
		}
		return nil
	}
	return hint.With(fmt.Errorf("llama.cpp's %s has no classifier, want one of %s", h.Architecture, strings.Join(withClassifier, ", ")),
		"finetune run --task classify applies the run directory's as it is")
}

// checkDense refuses a dense layer where llama.cpp computes another thing with one.
func (h *Head) checkDense() error {
	if slices.Contains(withTanh, h.Architecture) {
		return nil
	}
	return fmt.Errorf("a %s whose classifier has a dense layer, want one of %s, which have a tanh behind it", h.Architecture, strings.Join(withTanh, ", "))
}

// Replaces reports whether a tensor of the base gives way to the classifier: one of an older head.
func Replaces(tensor string) bool { return tensor == "cls" || strings.HasPrefix(tensor, "cls.") }

// AddTo adds the classifier to a model that is written, whose other tensors and keys are there: its tensors, and the keys by
// which llama.cpp's rank pooling returns the scores of the classes, or the relevance.
func (h *Head) AddTo(b *gguf.Builder) error {
	b.Set(h.Architecture+keyPooling, uint32(poolRank))
	b.Set(h.Architecture+keyBelow, uint32(h.Pooling))
	labels := h.Labels
	if h.Ranks() {
		labels = []string{"relevance"} // as many as there are scores
	}
	b.Set(h.Architecture+KeyLabels, gguf.ArrayOf(labels...))
	return h.addTensors(b)
}
