package quant

import (
	"fmt"
	"math"
	"slices"

	"finetune/gguf"
)

// onGrid reports true for the types of one to three bits that store points of a grid.
// Their encoders (quantize_row_iq… in ggml-quants.c) keep the candidate of the smallest
// weighted error, and end the process where no candidate is better than none: where
// products of values and weights overflow, or vanish. What follows keeps them from it.
func onGrid(t gguf.Type) bool {
	switch t {
	case gguf.TypeIQ1_S, gguf.TypeIQ1_M, gguf.TypeIQ2_XXS, gguf.TypeIQ2_XS, gguf.TypeIQ2_S, gguf.TypeIQ3_XXS, gguf.TypeIQ3_S:
		return true
	}
	return false
}

const (
	// gridLargest is above what any of those types can hold: the scale of a block is a
	// half, at most 65504, and a point of the grid less than a thousand times that.
	gridLargest = 1e9
	// gridSmallest is below half of what they tell from 0 with the smallest scale.
	gridSmallest = 1e-10
	// leastImportance is the least importance of a column as a share of their mean.
	// Columns that a text never used are 0, and a block of nothing but those has no
	// error that a scale could be fitted to.
	leastImportance = 1e-6
)

// checkGrid refuses values that are too large for a type on a grid.
func checkGrid(t gguf.Type, src []float32) error {
	if !onGrid(t) {
		return nil
	}
	for i, v := range src {
		if v > gridLargest || v < -gridLargest {
			return fmt.Errorf("quant: element %d is %v, more than type %s can hold", i, v, t)
		}
	}
	return nil
}

// withoutDust returns src with 0 for values that are next to nothing for a type on a
// grid, in a copy if there are any.
func withoutDust(t gguf.Type, src []float32) []float32 {
	dust := func(v float32) bool { return v != 0 && v < gridSmallest && v > -gridSmallest }
	if !onGrid(t) || !slices.ContainsFunc(src, dust) {
		return src
	}
	clean := slices.Clone(src)
	for i, v := range clean {
		if dust(v) {
			clean[i] = 0
		}
	}
	return clean
}

// levelled returns the importance with a mean of about 1, which changes nothing for an
// encoder, and with none below the least; nil if all is 0. The factor is a power of
// two: no other bit changes.
func levelled(importance []float32) []float32 {
	mean := 0.0
	for _, v := range importance {
		mean += float64(v) / float64(len(importance))
	}
	if mean == 0 {
		return nil
	}
	fraction, exponent := math.Frexp(mean)
	level := make([]float32, len(importance))
	for i, v := range importance {
		level[i] = float32(max(math.Ldexp(float64(v), -exponent), leastImportance*fraction))
	}
	return level
}
