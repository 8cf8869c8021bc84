package trainer

import "finetune/trainer/data"

// Sampler draws the training windows: one pass after another, each in an order of its own that follows from the seed
// and the number of the pass. One goroutine at a time.
type Sampler struct {
	Windows *data.Windows
	Seed    uint64
	passes  int    // 0 = no end
	cursor  cursor // of the next window

	order  []int   // of the pass cursor.Epoch; nil until it is needed
	weight float64 // of the loss masks of a whole pass; 0 until it is needed
}

// Batch is the windows of an optimizer step: Len of them, whose loss masks sum to Weight. Next returns the next n of them,
// so that a step of many passes through the graph holds the windows of one. One goroutine at a time.
type Batch struct {
	Len    int
	Weight float64
	Next   func(n int) []data.Window
}

// BatchOf returns windows that are all in memory as a Batch.
func BatchOf(windows []data.Window) Batch {
	next := func(n int) (some []data.Window) {
		some, windows = windows[:n], windows[n:]
		return some
	}
	return Batch{len(windows), data.TotalWeight(windows), next}
}

// Batch returns the next n windows as a Batch, fewer where the passes end first. They are drawn when its Next is called:
// the sampler stands behind them once all of them were.
func (s *Sampler) Batch(n int) Batch {
	_, count, weight := s.ahead(n)
	return Batch{count, weight, s.Next}
}

// Next draws n windows, fewer where the passes end first.
func (s *Sampler) Next(n int) (drawn []data.Window) {
	for len(drawn) < n && s.goesOn() {
		drawn = append(drawn, s.one())
	}
	return drawn
}

func (s *Sampler) goesOn() bool { return s.passes == 0 || s.cursor.Epoch < s.passes }

// one draws a window.
func (s *Sampler) one() data.Window {
	if s.order == nil {
		s.order = data.Order(s.Seed, s.cursor.Epoch, s.Windows.Len())
	}
	w := s.Windows.At(s.order[s.cursor.Index])
	if s.cursor.Index++; s.cursor.Index == s.Windows.Len() {
		s.cursor, s.order = cursor{Epoch: s.cursor.Epoch + 1}, nil
	}
	return w
}

// back puts the sampler where it stood before.
func (s *Sampler) back(to cursor) { s.cursor, s.order = to, nil }

// ahead returns the sampler as it is n windows later, fewer where the passes end first, how many those are, and the sum of
// their loss masks: it is a whole number, the same in whatever order it is added up.
func (s *Sampler) ahead(n int) (later Sampler, count int, weight float64) {
	later = *s
	for count < n && later.goesOn() {
		if whole := s.wholePasses(later.cursor, n-count); whole > 0 {
			if s.weight == 0 {
				s.weight = s.passWeight()
			}
			count, weight = count+whole*s.Windows.Len(), weight+float64(whole)*s.weight
			later.back(cursor{Epoch: later.cursor.Epoch + whole})
			continue
		}
		weight += data.TotalWeight([]data.Window{later.one()})
		count++
	}
	return later, count, weight
}

// wholePasses returns how many of them n windows from a place on go through.
func (s *Sampler) wholePasses(from cursor, n int) int {
	whole := n / s.Windows.Len()
	switch {
	case from.Index > 0:
		return 0
	case s.passes > 0:
		return min(whole, s.passes-from.Epoch)
	}
	return whole
}

func (s *Sampler) passWeight() (weight float64) {
	for i := range s.Windows.Len() {
		weight += data.TotalWeight([]data.Window{s.Windows.At(i)})
	}
	return weight
}
