package kernels

// #include "bytes.h"
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
	balance   = newKernel("BALANCE", unsafe.Pointer(C.ft_balance), nil)
	quantize  = newKernel("QUANTIZE", unsafe.Pointer(C.ft_quantize), nil)
	byteGrads = newKernel("BYTE_GRADS", unsafe.Pointer(C.ft_byte_grads),
		func(node C.tensor) uint64 { return uint64(C.ft_byte_grads_scratch(node)) })
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

// ThinMagnitude computes dA and dB in the same case, which takes a product of the size of W. Where the CPU has dot products
// of bytes, and exact is not asked for, x and dy are rounded to 8 bits for it; see bytes.c. Both are views of all.
func ThinMagnitude(c *ggml.Context, x, dy, a, b, cc, d ggml.Tensor, scale float32, exact bool) (all, da, db ggml.Tensor) {
	nIn, nOut, _ := mustBeThin("ThinMagnitude", x, dy, a, b, cc, d)
	ne := [4]int64{int64(C.ft_dual_parts(C.int64_t(nIn), C.int64_t(nOut), 1))*nIn + nOut, 1, 1, 1}
	var shares ggml.Tensor
	if exact || !HasBytes() {
		shares = thinGrads.node(c, ne, params{scale}, x, dy, a, b, cc, d)
	} else {
		by, quantized := inBytes(c, x, dy)
		shares = byteGrads.node(c, ne, params{scale}, quantized, by, a, b, cc, d)
	}
	all = thinSum.node(c, [4]int64{nIn + nOut, 1, 1, 1}, nil, shares, a, b)
	da, db = viewsLike(c, all, a, b)
	return all, da, db
}

// HasBytes reports whether the CPU has dot products of bytes that the kernels use.
func HasBytes() bool { return C.ft_best_bytes() != nil }

// inBytes rounds x and dy to 8 bits: what each token was multiplied with before, and all of struct ft_quantized.
func inBytes(c *ggml.Context, x, dy ggml.Tensor) (by, quantized ggml.Tensor) {
	tokens := x.Elements() / x.NE()[0]
	by = balance.node(c, [4]int64{tokens, 2, 1, 1}, nil, x, dy)
	floats := C.ft_quantized_floats(C.int64_t(x.NE()[0]), C.int64_t(dy.NE()[0]), C.int64_t(tokens))
	return by, quantize.node(c, [4]int64{int64(floats), 1, 1, 1}, nil, x, dy, by)
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
