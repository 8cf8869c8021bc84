package kernels

// #include "dual.h"
// #include "thin.h"
import "C"

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

var (
	thinFactors = newKernel("THIN_FACTORS", unsafe.Pointer(C.ft_thin_factors), nil)
	thinGrads   = newKernel("THIN_GRADS", unsafe.Pointer(C.ft_thin_grads),
		func(node C.tensor) uint64 { return uint64(C.ft_dual_grads_scratch(node)) })
	thinSum        = newKernel("THIN_SUM", unsafe.Pointer(C.ft_thin_sum), nil)
	thinDirections = newKernel("THIN_DIRECTIONS", unsafe.Pointer(C.ft_thin_directions), nil)
)

// ThinDirections computes dC and dD as DualGrads does for a magnitude of one rank, a [n_in, 1] and b [1, n_out], without its
// limit: a LoRA's gradients of twice the rank, no product of the size of W. Both are views of all.
func ThinDirections(c *ggml.Context, x, dy, a, b, cc, d ggml.Tensor, scale float32) (all, dc, dd ggml.Tensor) {
	nIn, nOut, r := mustBeThin("ThinDirections", x, dy, a, b, cc, d)
	factors := thinFactors.node(c, [4]int64{2 * r * (nIn + nOut), 1, 1, 1}, nil, a, b, cc, d)
	left := c.View(factors, [4]int64{nIn, 2 * r, 1, 1}, contiguousSteps(nIn, 2*r), 0)
	right := c.View(factors, [4]int64{2 * r, nOut, 1, 1}, contiguousSteps(2*r, nOut), left.Bytes())
	lora, _, _ := LoRAGrads(c, x, dy, left, right, scale)
	all = thinDirections.node(c, [4]int64{r * (nIn + nOut), 1, 1, 1}, nil, lora, a, b, cc)
	dc, dd = viewsLike(c, all, cc, d)
	return all, dc, dd
}

// ThinMagnitude computes dA and dB in the same case, which takes a product of the size of W. Both are views of all.
func ThinMagnitude(c *ggml.Context, x, dy, a, b, cc, d ggml.Tensor, scale float32) (all, da, db ggml.Tensor) {
	nIn, nOut, _ := mustBeThin("ThinMagnitude", x, dy, a, b, cc, d)
	parts := int64(C.ft_dual_parts(C.int64_t(nIn), C.int64_t(nOut), 1))
	shares := thinGrads.node(c, [4]int64{parts*nIn + nOut, 1, 1, 1}, params{scale}, x, dy, a, b, cc, d)
	all = thinSum.node(c, [4]int64{nIn + nOut, 1, 1, 1}, nil, shares, a, b)
	da, db = viewsLike(c, all, a, b)
	return all, da, db
}

// mustBeThin returns the shape of a product, and the directions' rank.
func mustBeThin(op string, x, dy, a, b, cc, d ggml.Tensor) (nIn, nOut, r int64) {
	nIn, nOut, r = x.NE()[0], dy.NE()[0], cc.NE()[1]
	mustPair(op, x, dy)
	mustBeDual(op, nIn, nOut, a, b, cc, d)
	if a.NE()[1] != 1 {
		misuse(op, "a", a)
	}
	return nIn, nOut, r
}

// viewsLike returns the parts [first | second] of a vector in two factors' shapes.
func viewsLike(c *ggml.Context, all, first, second ggml.Tensor) (one, other ggml.Tensor) {
	return c.View(all, first.NE(), first.NB(), 0), c.View(all, second.NE(), second.NB(), first.Bytes())
}

// contiguousSteps returns the distances in bytes of a contiguous F32 matrix.
func contiguousSteps(n0, n1 int64) [4]int64 { return [4]int64{4, 4 * n0, 4 * n0 * n1, 4 * n0 * n1} }
