package newmodel

import (
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
)

// normal draws from the standard normal distribution by Marsaglia's polar method. It gives
// the same bits on every machine: only operations that IEEE 754 rounds in one way are used,
// and the conversions to float64 keep a compiler from fusing a product with a sum.
type normal struct {
	bits  *rand.PCG
	spare float64 // the second number of a pair
	kept  bool    // whether there is one
}

// newNormal seeds the generator of one tensor.
func newNormal(seed uint64, name string) *normal {
	h := fnv.New64a()
	io.WriteString(h, name)
	return &normal{bits: rand.NewPCG(seed, h.Sum64())}
}

// next takes a point of the unit disc: of its angle the squared radius r is independent and
// uniform, so that √(−2·ln r) is the length of a normal pair.
func (n *normal) next() float64 {
	if n.kept {
		n.kept = false
		return n.spare
	}
	for {
		x, y := n.uniform(), n.uniform()
		r := float64(x*x) + float64(y*y)
		if r == 0 || r >= 1 {
			continue
		}
		scale := math.Sqrt(-2 * logarithm(r) / r)
		n.spare, n.kept = y*scale, true
		return x * scale
	}
}

// uniform returns a multiple of 2⁻⁵² from −1 on, below 1.
func (n *normal) uniform() float64 { return float64(int64(n.bits.Uint64())>>11) * (1.0 / (1 << 52)) }

// logarithm returns ln x for x > 0, to a few last bits. math.Log computes another number on some machines.
//
//	x = f·2^e,  √½ ≤ f < √2,  z = (f−1)/(f+1):  ln x = e·ln 2 + 2·(z + z³/3 + z⁵/5 + …),  |z| < 0.172
func logarithm(x float64) float64 {
	f, e := math.Frexp(x)
	if f < math.Sqrt2/2 {
		f, e = 2*f, e-1
	}
	z := (f - 1) / (f + 1)
	square := z * z
	sum := 0.0
	for k := 21; k >= 1; k -= 2 { // z²² is below 2⁻⁵⁵
		sum = float64(sum*square) + 1/float64(k)
	}
	return float64(float64(e)*math.Ln2) + 2*float64(z*sum)
}
