// Package near compares computed numbers with the wanted ones, for tests. NaN is
// near nothing: `math.Abs(got-want) > tol`, which is false of it, lets it pass.
package near

import "math"

// Float is a kind of number that a test compares.
type Float interface{ ~float32 | ~float64 }

// Enough reports whether |got - want| is at most tol. It is false where one of the
// three is NaN or infinite.
func Enough[G, W Float](got G, want W, tol float64) bool {
	return math.Abs(float64(got)-float64(want)) <= tol && tol <= math.MaxFloat64
}

// Within reports whether got and want differ by at most a share of the larger of the
// two. It is false where one is NaN or infinite.
func Within[G, W Float](got G, want W, share float64) bool {
	return Enough(got, want, share*larger(got, want))
}

// Apart reports whether a and b are numbers that differ by more than a share of the
// larger of the two. So it is false, as Within is, where one is NaN or infinite.
func Apart[A, B Float](a A, b B, share float64) bool {
	larger := larger(a, b)
	return math.Abs(float64(a)-float64(b)) > share*larger && larger <= math.MaxFloat64
}

func larger[A, B Float](a A, b B) float64 {
	return math.Max(math.Abs(float64(a)), math.Abs(float64(b)))
}

// Farthest returns the largest |got[i] - want[i]|. It returns +Inf, which no
// tolerance covers, where a difference is NaN, where the lengths differ and where
// there is nothing to compare.
func Farthest[G, W Float](got []G, want []W) float64 {
	if len(got) != len(want) || len(got) == 0 {
		return math.Inf(1)
	}
	far := 0.0
	for i, w := range want {
		far = math.Max(far, orInf(math.Abs(float64(got[i])-float64(w))))
	}
	return far
}

// Largest returns the largest |x[i]|, 0 of nothing and +Inf where one is NaN.
func Largest[F Float](x []F) float64 {
	largest := 0.0
	for _, v := range x {
		largest = math.Max(largest, orInf(math.Abs(float64(v))))
	}
	return largest
}

// Share returns Farthest as a share of the largest |want[i]|. It returns +Inf where
// Farthest does, and where want is zero throughout.
func Share[G, W Float](got []G, want []W) float64 {
	return orInf(Farthest(got, want) / Largest(want))
}

// orInf returns x, and +Inf for NaN.
func orInf(x float64) float64 {
	if math.IsNaN(x) {
		return math.Inf(1)
	}
	return x
}
