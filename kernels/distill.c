#include "gemm.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 1024 }; // logits whose probabilities are held at once

// A probability below it moves neither loss nor derivative, and its logit may be −∞, which nothing must be multiplied by.
static const float NEGLIGIBLE = 1e-30f;

// src: logits [V, C] F32 of the student, [V, C] of the teacher, targets [C] I32, weights [C] F32, loss [C] F32 (written).
// dst: dlogits [V, C], perhaps in the memory of the student's logits. Parameter 0: the share a of the target.
// Row by row, with p = softmax(student) and q = softmax(teacher):
//	loss    = (1 − a)·Σ q·log(q/p) − a·log p[target]
//	dlogits = weight·(p − (1 − a)·q − a·[target])
// A row of weight 0 is not looked at: loss and dlogits are 0.
void ft_distill(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	const int64_t n_vocab = dst->ne[0];
	const int32_t *targets = dst->src[2]->data;
	const float *weights = dst->src[3]->data, share = ft_param(dst, 0);
	float *loss = dst->src[4]->data;

	for (int64_t row = ith; row < dst->ne[1]; row += nth) {
		const float *x = (const float *)((const char *)dst->src[0]->data + (size_t)row * dst->src[0]->nb[1]);
		const float *y = (const float *)((const char *)dst->src[1]->data + (size_t)row * dst->src[1]->nb[1]);
		float *d = (float *)((char *)dst->data + (size_t)row * dst->nb[1]), x_max, y_max;
		const float w = weights[row];
		loss[row] = 0;
		if (w == 0) {
			memset(d, 0, (size_t)n_vocab * 4);
			continue;
		}
		const double zx = v->exp_sum(x, n_vocab, &x_max), zy = v->exp_sum(y, n_vocab, &y_max);
		const double x_log = log(zx) + (double)x_max, y_log = log(zy) + (double)y_max;
		const double nll = x_log - (double)x[targets[row]];
		double divergence = x_log - y_log; // Σ q·(y − x − y_log + x_log)
		for (int64_t from = 0; from < n_vocab; from += BLOCK) {
			const int64_t count = ft_min(BLOCK, n_vocab - from);
			float q[BLOCK];
			v->exp_scale(y + from, q, count, y_max, (float)(1 / zy));
			for (int64_t i = 0; i < count; i++)
				if (!(q[i] < NEGLIGIBLE)) divergence += (double)q[i] * ((double)y[from + i] - (double)x[from + i]);
			v->exp_scale(x + from, d + from, count, x_max, (float)((double)w / zx));
			for (int64_t i = 0; i < count; i++) d[from + i] -= w * (1 - share) * q[i];
		}
		d[targets[row]] -= w * share;
		loss[row] = (float)((1 - (double)share) * divergence + (double)share * nll);
	}
}
