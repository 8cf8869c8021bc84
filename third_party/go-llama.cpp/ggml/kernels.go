package ggml

/*
#cgo LDFLAGS: -lm
#include "kernels.h"

static tensor ft_new_cross_entropy(ggml_object ctx, tensor logits, tensor targets, tensor weights, tensor nll, bool in_place) {
	tensor args[4] = { logits, targets, weights, nll };
	if (in_place) return ggml_custom_inplace(ctx, logits, args + 1, 3, ft_cross_entropy, -1, NULL);
	return ggml_custom_4d(ctx, 0, logits->ne[0], logits->ne[1], 1, 1, args, 4, ft_cross_entropy, -1, NULL);
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
