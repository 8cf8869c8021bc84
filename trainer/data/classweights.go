package data

import (
	"fmt"
	"slices"
	"strings"

	"finetune/run"
)

// Weights of classes stand in the loss mask, where a text's last place has that of its class. A mean loss is divided by the sum of
// the mask, so that it is Σ w·nll/Σ w, as torch's CrossEntropyLoss(weight=w).

// weigh gives the documents of a run's windows the weights that the settings ask for, those of the training data to both sides. A
// weight of a label that the training data has not is an error.
func weigh(c run.Config, train, val *Windows) error {
	if c.ClassWeights == "" || train.names == nil {
		return nil
	}
	weights, err := classWeights(c, train.names, train.countClasses())
	if err != nil {
		return err
	}
	train.weights = weights
	if val != nil {
		val.weights = weights
	}
	if c.ClassWeights == run.BalancedClasses && train.stats.Source != nil {
		said := make([]string, len(weights))
		for k, w := range weights {
			said[k] = fmt.Sprintf("%.40q %.3g", train.names[k], w)
		}
		train.stats.Source.Notes = append(train.stats.Source.Notes, "weights of the classes in the loss: "+strings.Join(said, ", "))
	}
	return nil
}

// countClasses returns how many documents are of each class.
func (w *Windows) countClasses() []int {
	counts := make([]int, len(w.names))
	for _, s := range w.spans {
		words := w.of(s)
		counts[words[len(words)-1]&^learnedBit]++
	}
	return counts
}

// classWeights returns the weight of each class. One that no document is of counts as if one were.
func classWeights(c run.Config, names []string, counts []int) ([]float32, error) {
	weights := slices.Repeat([]float32{1}, len(names))
	if c.ClassWeights == run.BalancedClasses {
		total := 0
		for _, n := range counts {
			total += n
		}
		for k, n := range counts {
			weights[k] = float32(float64(total) / float64(len(names)*max(n, 1)))
		}
		return weights, nil
	}
	given := map[string]bool{}
	for _, entry := range c.ClassWeightList() {
		k := slices.Index(names, entry.Label)
		switch {
		case k < 0:
			return nil, &FormatError{Msg: fmt.Sprintf("class-weights: label %q is none of the training data's: %s", entry.Label, listed(names)), Err: errClasses}
		case given[entry.Label]:
			return nil, &FormatError{Msg: fmt.Sprintf("class-weights: label %q has two weights", entry.Label), Err: errClasses}
		}
		given[entry.Label], weights[k] = true, float32(entry.Weight)
	}
	return weights, nil
}
