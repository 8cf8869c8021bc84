package newmodel

import (
	"math"
	"slices"
	"testing"

	"finetune/internal/near"
)

// logarithmTolerance is a few units in the last place of the terms that are added, relative
// to the larger of the result and 1.
const logarithmTolerance = 4e-16

func TestLogarithm(t *testing.T) {
	for _, x := range []float64{1, 0.5, 2, math.Sqrt2 / 2, math.Nextafter(1, 0), math.Nextafter(1, 2), 1e-300, 1e300, 1e-307, 3, 0.9, 1e-10} {
		for range 50 {
			got, want := logarithm(x), math.Log(x)
			if !near.Enough(got, want, logarithmTolerance*max(1, math.Abs(want))) {
				t.Fatalf("logarithm(%v) = %v, want %v", x, got, want)
			}
			x *= 0.99
		}
	}
}

// kolmogorov is the distance between the share of samples and the probability below a value
// that is exceeded by chance once in a thousand times, times √n. The seed is fixed.
const kolmogorov = 1.95

func TestNormalIsNormal(t *testing.T) {
	const n = 200_000
	random := newNormal(1, "blk.0.attn_q.weight")
	x := make([]float64, n)
	for i := range x {
		x[i] = random.next()
	}
	correlation := 0.0
	for i := range n - 1 {
		correlation += x[i] * x[i+1] / n
	}
	if !near.Enough(correlation, 0.0, 4/math.Sqrt(n)) {
		t.Errorf("neighbours correlate by %v", correlation)
	}
	slices.Sort(x)
	most := 0.0
	for i, v := range x {
		below := 0.5 * math.Erfc(-v/math.Sqrt2)
		most = max(most, below-float64(i)/n, float64(i+1)/n-below)
	}
	if !(most*math.Sqrt(n) <= kolmogorov) {
		t.Errorf("the samples are off the normal distribution by %v·√n, want at most %v", most*math.Sqrt(n), kolmogorov)
	}
}

// The bits are pinned: a machine on which they differ would write another model.
func TestNormalIsTheSameEverywhere(t *testing.T) {
	random := newNormal(42, "token_embd.weight")
	want := []uint64{0x3ffc4758c7aecc68, 0x3ff4f5762973eca8, 0xbfe11ef5d718da50, 0x3ff69ab2f4f57f66}
	for i, w := range want {
		if got := math.Float64bits(random.next()); got != w {
			t.Errorf("number %d has the bits %#016x, want %#016x", i, got, w)
		}
	}
}
