package quant

import (
	"fmt"
	"math"

	"finetune/gguf"
)

// Accuracy tells how far values are from those that they stand for.
type Accuracy struct {
	RMSE     float64 // root of the mean squared difference
	Relative float64 // RMSE over the root mean square of the values meant; 0 if all is zero
	Max      float64 // the largest difference
}

// Compare returns the accuracy of got, values that stand for want. Both have to
// have the same length.
func Compare(want, got []float32) (Accuracy, error) {
	if len(want) != len(got) {
		return Accuracy{}, fmt.Errorf("quant: %d values compared with %d", len(got), len(want))
	}
	if len(want) == 0 {
		return Accuracy{}, nil
	}
	var a Accuracy
	sum, squares := 0.0, 0.0
	for i, w := range want {
		d := math.Abs(float64(got[i]) - float64(w))
		a.Max = max(a.Max, d)
		sum += d * d
		squares += float64(w) * float64(w)
	}
	a.RMSE = math.Sqrt(sum / float64(len(want)))
	if sum > 0 {
		a.Relative = math.Sqrt(sum / squares)
	}
	return a, nil
}

// RoundTrip returns what type t makes of src, rows of nPerRow elements, with the
// errors of [Encode].
func RoundTrip(t gguf.Type, src []float32, nPerRow int, importance []float32) (Accuracy, error) {
	data, err := Encode(t, src, nPerRow, importance)
	if err != nil {
		return Accuracy{}, err
	}
	back := make([]float32, len(src))
	if err := Decode(t, data, back); err != nil {
		return Accuracy{}, err
	}
	return Compare(src, back)
}
