package graph

import (
	"math"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// builder adds operations over the leaves x and returns the result.
type builder func(r *rewriter, x []ggml.Tensor) ggml.Tensor

// ruleCase is a small graph around one operation. build gets the leaves, of the given shapes, and returns the result.
type ruleCase struct {
	name   string
	shapes [][]int64
	build  builder
}

var ruleCases = []ruleCase{
	{"ADD", [][]int64{{6, 4}, {6, 4}}, of2((*ggml.Context).Add)},
	{"ADD broadcast", [][]int64{{6, 4}, {6}}, of2((*ggml.Context).Add)},
	{"ADD broadcast over rows", [][]int64{{6, 4, 2}, {1, 4}}, of2((*ggml.Context).Add)},
	{"ADD of itself", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Add(x[0], x[0])) }},
	{"MUL", [][]int64{{6, 4}, {6, 4}}, of2((*ggml.Context).Mul)},
	{"MUL broadcast", [][]int64{{6, 4, 2}, {6}}, of2((*ggml.Context).Mul)},
	{"MUL broadcast by heads", [][]int64{{6, 4, 2, 3}, {6, 4}}, of2((*ggml.Context).Mul)},
	{"MUL broadcast over rows", [][]int64{{6, 4, 2}, {1, 4}}, of2((*ggml.Context).Mul)},
	{"MUL of a permuted tensor", [][]int64{{6, 4, 2}, {6}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(r.ctx.Mul(r.add(r.ctx.Permute(x[0], [4]int{0, 2, 1, 3})), x[1]))
	}},
	{"W·x", [][]int64{{8, 5}, {8, 3, 2}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.product(&weightProduct{linear: unadapted{r.ops}, w: x[0], x: x[1]})
	}},
	{"SCALE", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.ScaleBias(x[0], -1.5, 0.3)) }},
	{"MUL_MAT", [][]int64{{8, 5}, {8, 7}}, of2((*ggml.Context).MulMat)},
	{"MUL_MAT grouped heads", [][]int64{{8, 5, 2, 3}, {8, 7, 6, 3}}, of2((*ggml.Context).MulMat)},
	{"BATCH_MUL grouped heads", [][]int64{{8, 5, 2, 3}, {8, 7, 6, 3}}, of2(kernels.BatchMul)},
	{"BATCH_MUL transposed", [][]int64{{5, 8, 2}, {8, 7, 6}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(kernels.BatchMul(r.ctx, r.add(r.ctx.Transpose(x[0])), x[1]))
	}},
	{"SHORT_CONV", [][]int64{{6, 4, 1}, {3, 6}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(kernels.ShortConv(r.ctx, x[0], x[1], chosen(r, 0, 1, 0, 1)))
	}},
	{"DELTA_NET", [][]int64{{4, 1, 4, 1}, {4, 1, 4, 1}, {4, 2, 4, 1}, {1, 2, 4, 1}, {1, 2, 4, 1}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(kernels.DeltaNet(r.ctx, x[0], x[1], x[2], r.add(r.ctx.Scale(x[3], 0.3)), r.add(r.ctx.Scale(x[4], 0.3)), chosen(r, 0, 1, 2, 0)))
	}},
	{"DELTA_NET gated by column", [][]int64{{4, 1, 4, 1}, {4, 1, 4, 1}, {4, 1, 4, 1}, {4, 1, 4, 1}, {1, 1, 4, 1}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(kernels.DeltaNet(r.ctx, x[0], x[1], x[2], r.add(r.ctx.Scale(x[3], 0.3)), r.add(r.ctx.Scale(x[4], 0.3)), chosen(r, 0, 1, 2, 3)))
	}},
	{"RMS_NORM", [][]int64{{9, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.RMSNorm(x[0], 0.1)) }},
	{"ROPE norm", [][]int64{{8, 2, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(rope(r, x[0], 8, 0)) }},
	{"ROPE neox", [][]int64{{8, 2, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(rope(r, x[0], 8, 2)) }},
	{"ROTATE neighbours", [][]int64{{10, 2, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return rotation(r, x[0], 0) }},
	{"ROTATE halves", [][]int64{{10, 2, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return rotation(r, x[0], 2) }},
	{"RMS_NORM_MUL", [][]int64{{19, 4}, {19}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(kernels.RMSNormMul(r.ctx, x[0], x[1], 0.1))
	}},
	{"NORM_MUL", [][]int64{{19, 4}, {19}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(kernels.NormMul(r.ctx, x[0], x[1], 0.1))
	}},
	{"ATTENTION grouped heads", [][]int64{{8, 5, 6, 2}, {8, 7, 2, 2}, {4, 7, 2, 2}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		v := r.add(r.ctx.Transpose(x[2]))
		mask := r.ctx.Fill(r.ctx.NewTensor(ggml.F32, 7, 5, 1, 2), 0)
		y := r.add(kernels.AttentionResult(r.ctx, r.add(kernels.Attention(r.ctx, x[0], x[1], v, mask, kernels.MaskSpans(r.ctx, mask), 0.6))))
		return r.add(r.ctx.Cont(y))
	}},
	{"SOFT_MAX", [][]int64{{5, 4, 3}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(r.ctx.SoftMaxExt(x[0], ggml.Tensor{}, 0.7, 0))
	}},
	{"SOFT_MAX with sinks", [][]int64{{5, 4, 3, 2}, {3}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		t := r.ctx.SoftMaxExt(x[0], ggml.Tensor{}, 0.7, 0)
		r.ctx.SoftMaxAddSinks(t, x[1])
		return r.add(t)
	}},
	{"SWIGLU split", [][]int64{{6, 4}, {6, 4}}, of2((*ggml.Context).SwigluSplit)},
	{"SWIGLU fused", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Swiglu(x[0], false)) }},
	{"SWIGLU swapped", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Swiglu(x[0], true)) }},
	{"RESHAPE", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Reshape(x[0], 3, 8)) }},
	{"CONT", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(r.ctx.Cont(r.add(r.ctx.Transpose(x[0]))))
	}},
	{"CPY", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Cast(x[0], ggml.F32)) }},
	{"PERMUTE", [][]int64{{2, 3, 4, 5}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(r.ctx.Cont(r.add(r.ctx.Permute(x[0], [4]int{2, 0, 3, 1}))))
	}},
	{"VIEW twice of one", [][]int64{{10, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		nb := x[0].NB()
		a := r.add(r.ctx.Cont(r.add(r.ctx.View(x[0], [4]int64{6, 4, 1, 1}, nb, 0))))
		b := r.add(r.ctx.Cont(r.add(r.ctx.View(x[0], [4]int64{6, 4, 1, 1}, nb, 4*4)))) // overlaps a by two
		return r.add(r.ctx.Mul(a, b))
	}},
	{"VIEW of a VIEW", [][]int64{{10, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		nb := x[0].NB() // as the heads of a fused QKV [2·5, 4], and two sequences of them
		heads := r.add(r.ctx.View(x[0], [4]int64{2, 3, 4, 1}, [4]int64{4, 8, nb[1], 4 * nb[1]}, 8))
		return r.add(r.ctx.Cont(r.add(r.ctx.View(heads, [4]int64{2, 3, 2, 2}, [4]int64{4, 8, nb[1], 2 * nb[1]}, 0))))
	}},
	{"SUB", [][]int64{{6, 4}, {6, 4}}, of2((*ggml.Context).Sub)},
	{"SUB broadcast", [][]int64{{6, 4}, {1, 4}}, of2((*ggml.Context).Sub)},
	{"DIV", [][]int64{{6, 4}, {6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Div(x[0], positive(r, x[1]))) }},
	{"DIV broadcast", [][]int64{{6, 4}, {6}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Div(x[0], positive(r, x[1]))) }},
	{"NORM", [][]int64{{9, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Norm(x[0], 0.1)) }},
	{"NORM of a permuted tensor", [][]int64{{9, 4, 2}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(r.ctx.Norm(r.add(r.ctx.Permute(x[0], [4]int{0, 2, 1, 3})), 0.1))
	}},
	{"L2_NORM", [][]int64{{9, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.L2Norm(x[0], 1e-3)) }},
	{"L2_NORM of rows shorter than eps", [][]int64{{9, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.L2Norm(x[0], 20)) }},
	{"NEG", [][]int64{{6, 4}}, of1((*ggml.Context).Neg)},
	{"SQR", [][]int64{{6, 4}}, of1((*ggml.Context).Sqr)},
	{"SQRT", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Sqrt(positive(r, x[0]))) }},
	{"EXP", [][]int64{{6, 4}}, of1((*ggml.Context).Exp)},
	{"RELU", [][]int64{{6, 4}}, of1((*ggml.Context).Relu)},
	{"SIGMOID", [][]int64{{6, 4}}, of1((*ggml.Context).Sigmoid)},
	{"TANH", [][]int64{{6, 4}}, of1((*ggml.Context).Tanh)},
	{"SOFTPLUS", [][]int64{{6, 4}}, of1((*ggml.Context).Softplus)},
	{"SILU", [][]int64{{6, 4}}, of1((*ggml.Context).Silu)},
	{"GELU", [][]int64{{6, 4}}, of1((*ggml.Context).Gelu)},
	{"GELU_ROWS", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(kernels.Gelu(r.ctx, x[0], false)) }},
	{"GELU_ERF", [][]int64{{6, 4}}, of1((*ggml.Context).GeluErf)},
	{"GELU_QUICK", [][]int64{{6, 4}}, of1((*ggml.Context).GeluQuick)},
	{"XIELU", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Xielu(x[0], 0.3, 0.8, 0.5, -0.16)) }},
	{"CLAMP", [][]int64{{6, 4}}, clamp(-0.6, 0.8)},
	{"CLAMP below", [][]int64{{6, 4}}, clamp(-0.6, float32(math.Inf(1)))},
	{"REGLU split", [][]int64{{6, 4}, {6, 4}}, gluSplit(ggml.GateReglu)},
	{"REGLU fused", [][]int64{{6, 4}}, glu(ggml.GateReglu)},
	{"GEGLU split", [][]int64{{6, 4}, {6, 4}}, gluSplit(ggml.GateGeglu)},
	{"GEGLU fused", [][]int64{{6, 4}}, glu(ggml.GateGeglu)},
	{"GEGLU swapped", [][]int64{{6, 4}}, swapped(ggml.GateGeglu)},
	{"GEGLU_ERF split", [][]int64{{6, 4}, {6, 4}}, gluSplit(ggml.GateGegluErf)},
	{"GEGLU_ERF swapped", [][]int64{{6, 4}}, swapped(ggml.GateGegluErf)},
	{"GEGLU_QUICK split", [][]int64{{6, 4}, {6, 4}}, gluSplit(ggml.GateGegluQuick)},
	{"GEGLU_QUICK fused", [][]int64{{6, 4}}, glu(ggml.GateGegluQuick)},
	{"SWIGLU_OAI", [][]int64{{6, 4}, {6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(r.ctx.SwigluOAI(x[0], x[1], 1.702, 0.83)) // a limit that some elements exceed
	}},
	{"CONCAT rows", [][]int64{{6, 4}, {3, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Concat(x[0], x[1], 0)) }},
	{"CONCAT heads", [][]int64{{6, 2, 4}, {6, 3, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Concat(x[0], x[1], 1)) }},
	{"REPEAT", [][]int64{{6, 1, 4}, {6, 3, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(r.ctx.Mul(r.add(r.ctx.Repeat(x[0], x[1])), x[1]))
	}},
	{"GET_ROWS", [][]int64{{6, 5}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(r.ctx.GetRows(x[0], chosen(r, 2, 0, 2, 4, 2)))
	}},
	{"SUM_ROWS", [][]int64{{6, 4, 2}}, of1((*ggml.Context).SumRows)},
	{"MEAN", [][]int64{{6, 4, 2}}, of1((*ggml.Context).Mean)},
}

func clamp(lo, hi float32) builder {
	return func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Clamp(x[0], lo, hi)) }
}

// of1 and of2 are cases of one operation.
func of1(f func(*ggml.Context, ggml.Tensor) ggml.Tensor) builder {
	return func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(f(r.ctx, x[0])) }
}

func of2(f func(c *ggml.Context, a, b ggml.Tensor) ggml.Tensor) builder {
	return func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(f(r.ctx, x[0], x[1])) }
}

// gluSplit, glu and swapped are cases of a gated unit of two tensors, and of the halves of one in either order.
func gluSplit(f ggml.Gate) builder {
	return func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.GluSplit(x[0], x[1], f)) }
}

func glu(f ggml.Gate) builder {
	return func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Glu(x[0], f, false)) }
}

func swapped(f ggml.Gate) builder {
	return func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Glu(x[0], f, true)) }
}

// positive is x² + 0.5, to divide by and to take the root of.
func positive(r *rewriter, x ggml.Tensor) ggml.Tensor {
	return r.add(r.ctx.ScaleBias(r.add(r.ctx.Sqr(x)), 1, 0.5))
}

// rotation turns all but the last two elements of a head, by the angles of a ROPE node.
func rotation(r *rewriter, x ggml.Tensor, mode int) ggml.Tensor {
	node := rope(r, x, x.NE()[0]-2, mode)
	return r.add(kernels.Rotate(r.ctx, x, kernels.RopeTable(r.ctx, node, node.Src(1), ggml.Tensor{}), false, halves(node)))
}

func rope(r *rewriter, x ggml.Tensor, dims int64, mode int) ggml.Tensor {
	return r.ctx.Rope(x, chosen(r, 0, 1, 2, 3), ggml.Tensor{}, int(dims), mode, 100)
}

// chosen is an input of these integers.
func chosen(r *rewriter, ints ...int32) ggml.Tensor {
	leaf := r.ctx.NewTensor(ggml.I32, int64(len(ints))).SetName("integers").SetInput()
	r.inputs[leaf] = &input{role: rolePositions, leaf: leaf, ints: ints, sign: 1}
	return leaf
}
