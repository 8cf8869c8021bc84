package trainer

import "finetune/trainer/data"

// Sampler draws the training windows: one pass after another, each in an order of its own that follows from the seed
// and the number of the pass. One goroutine at a time.
type Sampler struct {
	Windows *data.Windows
	Seed    uint64
	Passes  int    // 0 = no end
	Cursor  Cursor // of the next window

	order []int // of the pass Cursor.Epoch; nil until it is needed
}

// Next draws n windows, fewer where the passes end first.
func (s *Sampler) Next(n int) (drawn []data.Window) {
	for len(drawn) < n && (s.Passes == 0 || s.Cursor.Epoch < s.Passes) {
		if s.order == nil {
			s.order = data.Order(s.Seed, s.Cursor.Epoch, s.Windows.Len())
		}
		drawn = append(drawn, s.Windows.At(s.order[s.Cursor.Index]))
		if s.Cursor.Index++; s.Cursor.Index == s.Windows.Len() {
			s.Cursor, s.order = Cursor{Epoch: s.Cursor.Epoch + 1}, nil
		}
	}
	return drawn
}
