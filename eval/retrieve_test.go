package eval

import (
	"math"
	"testing"

	"finetune/internal/near"
)

func TestPlacesOfTheRightTexts(t *testing.T) {
	t.Parallel()
	states := [][]float32{{1, 0}, {0.6, 0.8}, {0.8, 0.6}, {0, 1}}
	for want, right := range map[int]int{1: 2, 2: 1, 3: 3} {
		if got := place(states, 0, right, []int{1, 2, 3}); got != want {
			t.Errorf("text %d is at place %d, want %d", right, got, want)
		}
	}
	r := ofPlaces([]int{1, 2, 6, 20})
	const tolerance = 1e-12 // of sums of four
	for _, x := range []struct {
		name      string
		got, want float64
	}{{"recall@1", r.Recall1, 0.25}, {"recall@5", r.Recall5, 0.5}, {"recall@10", r.Recall10, 0.75}, {"MRR", r.MRR, (1 + 0.5 + 1.0/6 + 0.05) / 4},
		{"nDCG@10", r.NDCG10, (1 + 1/math.Log2(3) + 1/math.Log2(7)) / 4}} {
		if !near.Enough(x.got, x.want, tolerance) {
			t.Errorf("%s %v, want %v", x.name, x.got, x.want)
		}
	}
}
