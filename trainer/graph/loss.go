package graph

import (
	"math"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// The loss of a row is −log p(target), p = softmax(logits), or against a teacher's probabilities q
//
//	(1 − share)·KL(q ‖ p) − share·log p(target)
//
// and its derivative by the logits p − onehot(target), or p − (1 − share)·q − share·onehot(target). kernels.CrossEntropy and
// kernels.Distill do that in one sweep; where they do not run, operations of ggml do.

// lossByKernel adds the node of Σ weights·nll by the logits [V, C], which writes nll beside it.
func (l *lossLeaves) lossByKernel(c *ggml.Context, logits, teacher ggml.Tensor, share float32, inPlace bool) ggml.Tensor {
	l.nll = c.NewTensor(ggml.F32, l.targets.NE()[0]).SetName("nll").SetInput().SetOutput()
	if teacher.IsNil() {
		return kernels.CrossEntropy(c, logits, l.targets, l.weights, l.nll, inPlace)
	}
	return kernels.Distill(c, logits, teacher, l.targets, l.weights, l.nll, share, inPlace)
}

// leastProbability keeps a logarithm finite: below it a probability is no normal number.
const leastProbability = 0x1p-126

// lossOfOperations does what lossByKernel does. A target is the place of its logit among all of them, as one row: the row i of C
// wants targets[i] + i·V. The node of nll comes before the derivative, which overwrites p.
func (l *lossLeaves) lossOfOperations(c *ggml.Context, logits, teacher ggml.Tensor, share float32) ggml.Tensor {
	ne := logits.NE()
	p := c.SoftMaxExt(contiguous(c, logits), ggml.Tensor{}, 1, 0)
	all := c.Reshape(p, 1, ne[0]*ne[1])
	of := c.GetRows(all, l.targets) // p(target), [1, C]
	nll := c.Neg(logOf(c, of))
	if teacher.IsNil() {
		share = 1
	}
	hit := c.Reshape(c.SetRows(all, c.ScaleBias(of, 1, -share), l.targets), ne[0], ne[1])
	if !teacher.IsNil() {
		q := c.SoftMaxExt(contiguous(c, teacher), ggml.Tensor{}, 1, 0)
		divergence := c.SumRows(c.Mul(q, c.Sub(logOf(c, q), logOf(c, p)))) // [1, C]
		nll = c.Add(c.Scale(divergence, 1-share), c.Scale(nll, share))
		hit = c.Sub(hit, c.Scale(q, 1-share))
	}
	l.nll = c.Cont(nll).SetName("nll").SetOutput()
	return c.Mul(hit, c.Reshape(l.weights, 1, ne[1]))
}

// logOf returns the logarithm of probabilities.
func logOf(c *ggml.Context, p ggml.Tensor) ggml.Tensor {
	return c.Log(c.Clamp(p, leastProbability, math.MaxFloat32))
}

// lossOfRelevance adds the node of Σ weights·nll by the logits [1, C] of relevances t, the targets:
//
//	nll = −t·log σ(z) − (1 − t)·log(1 − σ(z)) = softplus(z) − t·z     dnll/dz = σ(z) − t
func (l *lossLeaves) lossOfRelevance(c *ggml.Context, z ggml.Tensor) ggml.Tensor {
	ne := z.NE()
	t := c.Reshape(l.targets, 1, ne[1])
	l.nll = c.Sub(c.Softplus(z), c.Mul(t, z)).SetName("nll").SetOutput()
	return c.Mul(c.Sub(c.Sigmoid(z), t), c.Reshape(l.weights, 1, ne[1]))
}
