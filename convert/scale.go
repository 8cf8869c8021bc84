package convert

import (
	"math"
	"slices"
)

// A file of GGUF has one alpha, and scales a weight by alpha/rank; one of MLX has one
// scale. What of the scales of an adapter this cannot say goes into B, as a factor:
// exactly, and reversibly, if it is a power of two, else with one rounding.

// fold is a factor that a weight's B was multiplied by.
type fold struct {
	name   string
	factor float64
}

// choose returns the one of the candidates that leaves the fewest factors with a
// rounding, and of those the fewest factors; with the factor of each weight then.
func choose(candidates []float64, n int, factor func(candidate float64, i int) float64) (float64, []float64) {
	var best float64
	var factors []float64
	inexact, some := math.MaxInt, math.MaxInt
	for i, c := range candidates {
		if slices.Contains(candidates[:i], c) {
			continue
		}
		var fs []float64
		rounded, folded := 0, 0
		for w := range n {
			f := snap(factor(c, w))
			fs = append(fs, f)
			if !powerOfTwo(f) {
				rounded++
			}
			if f != 1 {
				folded++
			}
		}
		if rounded < inexact || rounded == inexact && folded < some {
			best, factors, inexact, some = c, fs, rounded, folded
		}
	}
	return best, factors
}

// powerOfTwo reports whether multiplying by f rounds nothing.
func powerOfTwo(f float64) bool {
	fraction, _ := math.Frexp(f)
	return math.Abs(fraction) == 0.5
}

// sameScale is how far, of one another, two scales may lie that are one: alpha is
// kept in float32, whose numbers lie 2⁻²³ apart.
const sameScale = 1.0 / (1 << 22)

// snap makes a factor that is a power of two but for the rounding of alpha that power.
func snap(f float64) float64 {
	_, exponent := math.Frexp(f)
	for _, e := range []int{exponent - 1, exponent} {
		if p := math.Copysign(math.Ldexp(1, e), f); math.Abs(f/p-1) < sameScale {
			return p
		}
	}
	return f
}

// tidy rounds what is a whole number but for a few operations in float64.
func tidy(v float64) float64 {
	if whole := math.Round(v); math.Abs(v-whole) < 1e-12*math.Abs(v) {
		return whole
	}
	return v
}

// usable reports whether a scale can be written as a float32, and does something.
func usable(scale float64) bool {
	const least = 0x1p-126 // the smallest normal float32
	return math.Abs(scale) >= least && math.Abs(scale) <= math.MaxFloat32
}

// most returns the value that comes most often, the smallest of several.
func most[T int | float64](values []T) T {
	counts := map[T]int{}
	var best T
	for _, v := range values {
		counts[v]++
	}
	for v, n := range counts {
		if n > counts[best] || n == counts[best] && v < best {
			best = v
		}
	}
	return best
}

// unfold takes factors out of B again, those that can be taken out exactly; a file
// may claim anything.
func unfold(pairs map[string]pair, folds []fold) {
	for _, f := range folds {
		p, ok := pairs[f.name]
		if !ok || !powerOfTwo(f.factor) || !usable(f.factor*p.scale) {
			continue
		}
		p.b = p.b.scaled(1 / f.factor)
		p.scale *= f.factor
		pairs[f.name] = p
	}
}
