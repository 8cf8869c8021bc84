package ggml

/*
#cgo LDFLAGS: -lm
#include "gemm.h"

static tensor ft_new_cross_entropy(ggml_object ctx, tensor logits, tensor targets, tensor weights, tensor nll, bool in_place) {
	tensor args[4] = { logits, targets, weights, nll };
	if (in_place) return ggml_custom_inplace(ctx, logits, args + 1, 3, ft_cross_entropy, -1, NULL);
	return ggml_custom_4d(ctx, 0, logits->ne[0], logits->ne[1], 1, 1, args, 4, ft_cross_entropy, -1, NULL);
}
static tensor ft_new_distill(ggml_object ctx, tensor logits, tensor teacher, tensor targets, tensor weights, tensor loss, float share, bool in_place) {
	tensor args[5] = { logits, teacher, targets, weights, loss };
	tensor t = in_place ? ggml_custom_inplace(ctx, logits, args + 1, 4, ft_distill, -1, NULL)
		: ggml_custom_4d(ctx, 0, logits->ne[0], logits->ne[1], 1, 1, args, 5, ft_distill, -1, NULL);
	return ft_set_param(t, 0, share);
}
*/
import "C"

// CrossEntropy joins the loss of the head and its derivative in one sweep over logits [V, C]: for row i with target
// targets[i] (I32 [C]) and weight w = weights[i] (F32 [C]) the node is w·(softmax(logits) − onehot(target)), [V, C], and
// nll[i] (F32 [C], an input leaf that the node writes) is −log softmax(logits)[target]. Rows of weight 0 give 0 for
// both. It runs on the CPU. In place it takes the memory of the logits, which are gone then.
func (c *Context) CrossEntropy(logits, targets, weights, nll Tensor, inPlace bool) Tensor {
	return Tensor{C.ft_new_cross_entropy(c.p, logits.p, targets.p, weights.p, nll.p, C.bool(inPlace))}
}

// Distill is CrossEntropy against a teacher's probabilities q = softmax(teacher), [V, C] as the logits, beside the targets,
// which count with a share from 0 to 1: the node is w·(softmax(logits) − (1 − share)·q − share·onehot(target)), and loss[i]
// (F32 [C], an input leaf that the node writes) is (1 − share)·KL(q ‖ softmax(logits)) − share·log softmax(logits)[target].
// Both terms are those of Hinton et al., arXiv 1503.02531, at a temperature of 1.
func (c *Context) Distill(logits, teacher, targets, weights, loss Tensor, share float32, inPlace bool) Tensor {
	if teacher.Type() != F32 || !evenRows(teacher) || !teacher.SameShape(logits) {
		misuse("Distill", "teacher", teacher)
	}
	return Tensor{C.ft_new_distill(c.p, logits.p, teacher.p, targets.p, weights.p, loss.p, C.float(share), C.bool(inPlace))}
}
