package eval

import (
	"testing"

	"finetune/internal/near"
)

// The figures are those of the formulas, worked out apart from the program.
func TestGradeClasses(t *testing.T) {
	t.Parallel()
	p := func(class int) []float32 {
		all := []float32{0.1, 0.1, 0.1}
		all[class] = 0.8
		return all
	}
	right := []int{0, 0, 1, 1, 2, 2, 2, 0}
	found := []int{0, 1, 1, 1, 2, 0, 2, 0}
	var probabilities [][]float32
	for _, k := range found {
		probabilities = append(probabilities, p(k))
	}
	c := GradeClasses([]string{"a", "b", "c"}, probabilities, right)
	const tolerance = 1e-6 // of figures with seven digits
	for _, x := range []struct {
		name      string
		got, want float64
	}{{"accuracy", c.Share, 0.75}, {"Matthews", c.Matthews, 0.6428571}, {"F1", c.F1, 0.7555556}, {"calibration", c.Calibration, 0.05},
		{"loss", float64(c.Loss), 0.7430039}, {"precision of b", c.Classes[1].Precision, 2.0 / 3}, {"recall of c", c.Classes[2].Recall, 2.0 / 3}} {
		if !near.Enough(x.got, x.want, tolerance) {
			t.Errorf("%s %v, want %v", x.name, x.got, x.want)
		}
	}
	if c.Confusion[2][0] != 1 || c.Confusion[0][2] != 0 {
		t.Errorf("confusion %v, want one of the third class taken for the first, none the other way round", c.Confusion)
	}
	if one := GradeClasses([]string{"a", "b"}, [][]float32{{1, 0}, {1, 0}}, []int{0, 1}); one.Matthews != 0 {
		t.Errorf("a classifier that finds one class only has a Matthews correlation of %v, want 0", one.Matthews)
	}
}
