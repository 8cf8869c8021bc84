package trainer

import "finetune/trainer/data"

// dealer deals out the training windows: one pass after another, each in an order of its own that follows from the seed
// and the number of the pass.
type dealer struct {
	windows *data.Windows
	seed    uint64
	passes  int // 0 = no end
	at      Cursor
	order   []int // of the pass at.Epoch; nil until it is needed
}

// next deals n windows, fewer where the passes end first.
func (d *dealer) next(n int) (dealt []data.Window) {
	for len(dealt) < n && (d.passes == 0 || d.at.Epoch < d.passes) {
		if d.order == nil {
			d.order = data.Order(d.seed, d.at.Epoch, d.windows.Len())
		}
		dealt = append(dealt, d.windows.At(d.order[d.at.Index]))
		if d.at.Index++; d.at.Index == d.windows.Len() {
			d.at, d.order = Cursor{Epoch: d.at.Epoch + 1}, nil
		}
	}
	return dealt
}

// totalSteps is the number of optimizer steps of a run over n windows.
func (c Config) totalSteps(n int) int {
	if c.Steps > 0 {
		return c.Steps
	}
	perStep := c.Batch * c.GradAccum
	return (c.Epochs*n + perStep - 1) / perStep
}

// trainedTokens counts the positions that are learned.
func trainedTokens(windows []data.Window) (n int64) {
	for _, w := range windows {
		for _, weight := range w.Weight {
			if weight != 0 {
				n++
			}
		}
	}
	return n
}

// totalWeight is what a mean loss over the windows is divided by.
func totalWeight(windows []data.Window) (sum float64) {
	for _, w := range windows {
		for _, weight := range w.Weight {
			sum += float64(weight)
		}
	}
	return sum
}
