package eval

import (
	"slices"
	"testing"

	"finetune/internal/near"
)

// roundingOfSums is what a few additions of float64 may lose.
const roundingOfSums = 1e-12

// Correlations worked out by hand. Of the first the ranks are 1, 2½, 2½, 4 and 1, 3, 2, 4: Σ dx·dy = 4.5, Σ dx² = 4.5, Σ dy² = 5; of
// the values it is 44.8/√(0.33·7306).
func TestCorrelations(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b              []float64
		spearman, pearson float64
	}{
		{[]float64{0.1, 0.4, 0.4, 0.9}, []float64{0, 3, 1, 100}, 0.9486832980505138, 0.9123914568519713},
		{[]float64{1, 2, 3}, []float64{1, 4, 9}, 1, 0.989743318610787},
		{[]float64{1, 2, 3}, []float64{5, 5, 2}, -0.8660254037844387, -0.8660254037844387}, // ranks 2½, 2½, 1: −1.5/√(2·1.5); −3/√(2·6)
		{[]float64{2, 2, 2}, []float64{1, 2, 3}, 0, 0},
	} {
		s, p := pearson(ranks(c.a), ranks(c.b)), pearson(c.a, c.b)
		if !near.Enough(s, c.spearman, roundingOfSums) || !near.Enough(p, c.pearson, roundingOfSums) {
			t.Errorf("%v with %v: Spearman %v, Pearson %v, want %v, %v", c.a, c.b, s, p, c.spearman, c.pearson)
		}
	}
	if got, want := ranks([]float64{7, -1, 7, 3, 7}), []float64{4, 1, 4, 2, 4}; !slices.Equal(got, want) {
		t.Errorf("ranks %v, want %v", got, want)
	}
}
