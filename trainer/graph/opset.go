package graph

import (
	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// opSet says what the heavy operations of a graph are made of: kernels of our own, which run on the CPU (native), or ggml's
// operations, which the backends of devices have and which are the kernels' oracle.
type opSet struct {
	native   bool
	exact    bool        // no kernel rounds to 8 bits
	device   ggml.Device // that ggml's operations are chosen for; none: it has all of them
	counting ggml.Tensor // I32, 0, 1, 2 … for every row of a weight: by these numbers weights are decoded
}

// opSets are those of both sides.
type opSets struct {
	at    [2]opSet // by place
	homes *homes   // nil: everything is on the CPU
}

// mul returns W·x [n_out, …] for W [n_in, n_out] and x [n_in, …].
func (p opSet) mul(c *ggml.Context, w, x ggml.Tensor) ggml.Tensor {
	if x = contiguous(c, x); p.native {
		return kernels.WeightMul(c, w, x)
	}
	return product(c, w, x)
}

// decodedBytes bounds the memory of a part of a weight that is decoded and transposed: its rows go through in as many parts as
// it takes.
const decodedBytes = 64 << 20

// mulT returns Wᵀ·dy [n_in, …] for W [n_in, n_out] of any type that ggml can decode and dy [n_out, …].
func (p opSet) mulT(c *ggml.Context, w, dy ggml.Tensor) (dx ggml.Tensor) {
	if p.native {
		return kernels.WeightMulT(c, w, dy)
	}
	nIn, nOut := w.NE()[0], w.NE()[1]
	step := max(1, min(nOut, decodedBytes/(4*nIn)))
	for from := int64(0); from < nOut; from += step {
		n := min(step, nOut-from)
		part := product(c, transposed(c, p.decoded(c, w, from, n)), partOf(c, dy, from, n))
		if dx.IsNil() {
			dx = part
		} else {
			dx = c.Add(dx, part)
		}
	}
	return dx
}

// decoded returns n rows of W [n_in, n_out] in F32. Backends decode every type that they multiply with where rows are chosen,
// but copy few of them into another type.
func (p opSet) decoded(c *ggml.Context, w ggml.Tensor, from, n int64) ggml.Tensor {
	ne, nb := w.NE(), w.NB()
	if n < ne[1] && !p.isQuantized(w) {
		w = c.View(w, [4]int64{ne[0], n, 1, 1}, nb, from*nb[1])
	}
	switch {
	case w.Type() == ggml.F32:
		return w
	case !p.isQuantized(w) || p.counting.IsNil():
		return c.Cast(w, ggml.F32)
	}
	return c.GetRows(w, c.View(p.counting, [4]int64{n, 1, 1, 1}, p.counting.NB(), 4*from))
}

func (p opSet) isQuantized(w ggml.Tensor) bool { return w.Type().BlockSize() > 1 }

// partOf returns rows [from, from + n) of each column of t [m, …]: a part of dimension 0.
func partOf(c *ggml.Context, t ggml.Tensor, from, n int64) ggml.Tensor {
	ne := t.NE()
	if n == ne[0] {
		return contiguous(c, t)
	}
	ne[0] = n
	return c.Cont(c.View(t, ne, t.NB(), 4*from))
}

// product returns aᵀ·b, summed in F32 on every backend.
func product(c *ggml.Context, a, b ggml.Tensor) ggml.Tensor { return c.MulMat(a, b).Exact() }

// outer returns b·a [n, m] for a [n, r] and b [r, m], both F32, in full precision: a device may round the factors of a product, CUDA to
// TF32, Metal and Vulkan to half precision.
func (p opSet) outer(c *ggml.Context, a, b ggml.Tensor) ggml.Tensor {
	if !p.device.IsNil() && p.device.Type() != ggml.DeviceCPU {
		a, b = inHalves(c, a, b)
	}
	return product(c, transposed(c, a), b)
}

// inHalves returns factors [n, 3r] and [3r, m] with the product of a [n, r] and b [r, m] that stays what it is where a backend
// rounds the factors of a product to half precision: with a = a₁ + a₂, a₁ being a in F16, and b alike it is a₁·b₁ + a₂·b₁ + a₁·b₂,
// and what is left out, and rounded of a₂ and b₂, is 2⁻²² of it.
func inHalves(c *ggml.Context, a, b ggml.Tensor) (a3, b3 ggml.Tensor) {
	first := func(t ggml.Tensor) ggml.Tensor { return c.Cast(c.Cast(t, ggml.F16), ggml.F32) }
	a1, b1 := first(a), first(b)
	a2, b2 := c.Sub(a, a1), c.Sub(b, b1)
	return c.Concat(c.Concat(a1, a2, 1), a1, 1), c.Concat(c.Concat(b1, b1, 0), b2, 0)
}

// mulTransposed returns a·dy, [k, m, …], for a [k, n, …] F32 or F16 and dy [n, m, …]; ggml's own product is aᵀ·b.
func mulTransposed(c *ggml.Context, a, dy ggml.Tensor) ggml.Tensor {
	if a.Type() != ggml.F32 {
		a = c.Cast(a, ggml.F32)
	}
	return product(c, transposed(c, a), dy)
}

// repeatBack returns g summed over the dimensions in which x was broadcast, in the shape of x.
func (p opSet) repeatBack(c *ggml.Context, g, x ggml.Tensor) ggml.Tensor {
	sum := c.RepeatBack(g, x)
	if p.device.IsNil() || p.device.Supports(sum) {
		return sum
	}
	return summed(c, g, x.NE())
}

// summed does what REPEAT_BACK does by sums of rows: each dimension that was broadcast is brought to the front. A dimension
// that consists of several repetitions becomes two for that time, so that at most three others may be longer than 1.
func summed(c *ggml.Context, g ggml.Tensor, ne [4]int64) ggml.Tensor {
	for i := range ne {
		have := g.NE()
		if have[i] == ne[i] {
			continue
		}
		before, behind := int64(1), int64(1)
		for k := range have {
			if k < i {
				before *= have[k]
			} else if k > i {
				behind *= have[k]
			}
		}
		// [before·n, repetitions, behind] → [repetitions, before·n, behind] → [1, …]
		apart := c.Reshape(g, before*ne[i], have[i]/ne[i], behind)
		have[i] = ne[i]
		g = c.Reshape(c.SumRows(transposed(c, apart)), have[:]...)
	}
	return g
}

// transposed returns t with dimensions 0 and 1 swapped, in memory.
func transposed(c *ggml.Context, t ggml.Tensor) ggml.Tensor { return c.Cont(c.Transpose(t)) }

// inRows returns t [n, T, S], as recurrent layers have it, as rows [n, T·S].
func inRows(c *ggml.Context, t ggml.Tensor) ggml.Tensor {
	n := t.NE()[0]
	return c.Reshape(contiguous(c, t), n, t.Elements()/n)
}

// contiguous returns t in contiguous memory.
func contiguous(c *ggml.Context, t ggml.Tensor) ggml.Tensor {
	if t.IsContiguous() {
		return t
	}
	return c.Cont(t)
}
