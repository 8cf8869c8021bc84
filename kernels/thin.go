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
	thinSum = newKernel("THIN_SUM", unsafe.Pointer(C.ft_thin_sum), nil)
)

// ThinGrads computes what DualGrads does for a magnitude of one rank, a [n_in, 1] and b [1, n_out], without its limit. Only
// dA and dB take a product with all of W's entries; dC and dD are a LoRA's gradients of twice the rank. With every above 1
// dA and dB are estimated over one of so many tokens, the others exact.
func ThinGrads(c *ggml.Context, x, dy, a, b, cc, d ggml.Tensor, scale float32, every int) (all, da, db, dc, dd ggml.Tensor) {
	nIn, nOut, r := x.NE()[0], dy.NE()[0], cc.NE()[1]
	mustPair("ThinGrads", x, dy)
	mustBeDual("ThinGrads", nIn, nOut, a, b, cc, d)
	if a.NE()[1] != 1 {
		misuse("ThinGrads", "a", a)
	}
	factors := thinFactors.node(c, [4]int64{2 * r * (nIn + nOut), 1, 1, 1}, nil, a, b, cc, d)
	left := c.View(factors, [4]int64{nIn, 2 * r, 1, 1}, contiguousSteps(nIn, 2*r), 0)
	right := c.View(factors, [4]int64{2 * r, nOut, 1, 1}, contiguousSteps(2*r, nOut), left.Bytes())
	directions, _, _ := LoRAGrads(c, x, dy, left, right, scale)

	part, weight := EveryNth(c, x, dy, every)
	parts := int64(C.ft_dual_parts(C.int64_t(nIn), C.int64_t(nOut), 1))
	shares := thinGrads.node(c, [4]int64{parts*nIn + nOut, 1, 1, 1}, params{scale * weight}, part[0], part[1], a, b, cc, d)
	all = thinSum.node(c, [4]int64{(nIn + nOut) * (1 + r), 1, 1, 1}, nil, shares, directions, a, b, cc)
	da, db, dc, dd = dualViews(c, all, a, b, cc, d)
	return all, da, db, dc, dd
}

// EveryNth returns one of so many rows of x and of dy, from the middle of the first so many on, since the first token of a
// sequence is like no other; and what a sum over them is multiplied by to stand for all.
func EveryNth(c *ggml.Context, x, dy ggml.Tensor, every int) (part [2]ggml.Tensor, weight float32) {
	if every <= 1 {
		return [2]ggml.Tensor{x, dy}, 1
	}
	rows, step := x.Elements()/x.NE()[0], int64(every)
	first := min(step/2, rows-1)
	n := (rows - first + step - 1) / step
	for i, t := range [2]ggml.Tensor{x, dy} {
		ne, line := t.NE()[0], t.NB()[1]
		part[i] = c.View(t, [4]int64{ne, n, 1, 1}, [4]int64{4, step * line, step * line * n, step * line * n}, first*line)
	}
	return part, float32(rows) / float32(n)
}

// contiguousSteps returns the distances in bytes of a contiguous F32 matrix.
func contiguousSteps(n0, n1 int64) [4]int64 { return [4]int64{4, 4 * n0, 4 * n0 * n1, 4 * n0 * n1} }
