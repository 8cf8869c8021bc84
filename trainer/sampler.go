package trainer

import "finetune/trainer/data"

// Sampler draws the training windows: one pass after another, each in an order of its own that follows from the seed
// and the number of the pass. One goroutine at a time.
type Sampler struct {
	Windows *data.Windows
	Seed    uint64
	passes  int    // 0 = no end
	cursor  cursor // of the next window

	order []int // of the pass cursor.Epoch; nil until it is needed
}

// Next draws n windows, fewer where the passes end first.
func (s *Sampler) Next(n int) (drawn []data.Window) {
	for len(drawn) < n && (s.passes == 0 || s.cursor.Epoch < s.passes) {
		if s.order == nil {
			s.order = data.Order(s.Seed, s.cursor.Epoch, s.Windows.Len())
		}
		drawn = append(drawn, s.Windows.At(s.order[s.cursor.Index]))
		if s.cursor.Index++; s.cursor.Index == s.Windows.Len() {
			s.cursor, s.order = cursor{Epoch: s.cursor.Epoch + 1}, nil
		}
	}
	return drawn
}
