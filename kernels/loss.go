package kernels

// #include "kernels.h"
import "C"

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

var (
	crossEntropy = newKernel("CROSS_ENTROPY", unsafe.Pointer(C.ft_cross_entropy), nil)
	distill      = newKernel("DISTILL", unsafe.Pointer(C.ft_distill), nil)
)

// CrossEntropy joins the loss of the head and its derivative in one sweep over logits [V, C]: for row i with target
// targets[i] (I32 [C]) and weight w = weights[i] (F32 [C]) the node is w·(softmax(logits) − onehot(target)), [V, C], and
// nll[i] (F32 [C], an input leaf that the node writes) is −log softmax(logits)[target]. Rows of weight 0 give 0 for
// both. In place it takes the memory of the logits, which are gone then.
func CrossEntropy(c *ggml.Context, logits, targets, weights, nll ggml.Tensor, inPlace bool) ggml.Tensor {
	return crossEntropy.sweep(c, inPlace, nil, logits, targets, weights, nll)
}

// Distill is CrossEntropy against a teacher's probabilities q = softmax(teacher), [V, C] as the logits, beside the targets,
// which count with a share from 0 to 1: the node is w·(softmax(logits) − (1 − share)·q − share·onehot(target)), and loss[i]
// (F32 [C], an input leaf that the node writes) is (1 − share)·KL(q ‖ softmax(logits)) − share·log softmax(logits)[target].
// Both terms are those of Hinton et al., arXiv 1503.02531, at a temperature of 1.
func Distill(c *ggml.Context, logits, teacher, targets, weights, loss ggml.Tensor, share float32, inPlace bool) ggml.Tensor {
	if !evenRows(teacher) || !teacher.SameShape(logits) {
		misuse("Distill", "teacher", teacher)
	}
	return distill.sweep(c, inPlace, params{share}, logits, teacher, targets, weights, loss)
}

// sweep adds a node over logits [V, C].
func (k *kernel) sweep(c *ggml.Context, inPlace bool, p params, logits ggml.Tensor, others ...ggml.Tensor) ggml.Tensor {
	if inPlace {
		return k.inPlace(c, p, logits, others...)
	}
	ne := logits.NE()
	return k.node(c, [4]int64{ne[0], ne[1], 1, 1}, p, append([]ggml.Tensor{logits}, others...)...)
}
