package optim

import (
	"math"
	"testing"

	"finetune/internal/near"
)

func TestScheduleLR(t *testing.T) {
	for _, tt := range []struct {
		name  string
		s     Schedule
		rates map[int]float64 // by step
	}{
		{"cosine", Schedule{"cosine", 2, 0, 8, 0}, map[int]float64{1: 2, 3: 1 + math.Sqrt2/2, 5: 1, 7: 1 - math.Sqrt2/2, 9: 0, 99: 0}},
		{"cosine with warm-up", Schedule{"cosine", 2, 0, 12, 4}, map[int]float64{1: 0.5, 2: 1, 3: 1.5, 4: 2, 5: 2, 9: 1, 13: 0}},
		{"cosine to a floor", Schedule{"cosine", 2, 1, 4, 0}, map[int]float64{1: 2, 3: 1.5, 5: 1, 6: 1}},
		{"linear", Schedule{"linear", 8, 0, 8, 0}, map[int]float64{1: 8, 2: 7, 8: 1, 9: 0}},
		{"linear with warm-up and floor", Schedule{"linear", 10, 2, 6, 2}, map[int]float64{1: 5, 2: 10, 3: 10, 5: 6, 7: 2}},
		{"constant", Schedule{"constant", 3, 0, 5, 0}, map[int]float64{1: 3, 5: 3, 50: 3}},
		{"constant with warm-up", Schedule{"constant", 3, 0, 5, 3}, map[int]float64{1: 1, 2: 2, 3: 3, 5: 3}},
		{"all warm-up", Schedule{"cosine", 4, 0, 4, 4}, map[int]float64{1: 1, 4: 4, 5: 0}},
	} {
		s, err := NewSchedule(tt.s.kind, tt.s.peak, tt.s.min, tt.s.total, tt.s.warmup)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		for step, want := range tt.rates {
			// 1e-12: a handful of float64 operations on values near 1.
			if got := s.LR(step); !near.Enough(got, want, 1e-12) {
				t.Errorf("%s: LR(%d) = %v, want %v", tt.name, step, got, want)
			}
		}
	}
}

func TestNewScheduleErrors(t *testing.T) {
	for _, tt := range []struct {
		kind          string
		total, warmup int
		want          string
	}{
		{"cosin", 10, 0, `optim: schedule "cosin": want one of cosine, linear, constant`},
		{"linear", 0, 0, `optim: schedule of 0 steps: want 1 or more`},
		{"linear", 10, 11, `optim: warm-up of 11 steps: want 0 to the 10 steps of the run`},
		{"linear", 10, -1, `optim: warm-up of -1 steps: want 0 to the 10 steps of the run`},
	} {
		if _, err := NewSchedule(tt.kind, 1, 0, tt.total, tt.warmup); err == nil || err.Error() != tt.want {
			t.Errorf("NewSchedule(%q, %d, %d) error = %v, want %s", tt.kind, tt.total, tt.warmup, err, tt.want)
		}
	}
}
