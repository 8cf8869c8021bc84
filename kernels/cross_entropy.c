#include "gemm.h"

#include <math.h>
#include <string.h>

// src: logits [V, C] F32, targets [C] I32, weights [C] F32, nll [C] F32 (written). dst: dlogits [V, C].
// Row by row, with m the row's maximum: Z = sum exp(x - m); nll = log Z - (x[target] - m);
// dlogits = weight * (exp(x - m)/Z - [target]). Two passes over a row: m and Z, then dlogits. A row of weight 0 is not
// looked at: nll and dlogits are 0.
void ft_cross_entropy(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	const int64_t n_vocab = dst->ne[0];
	const int32_t *targets = dst->src[1]->data;
	const float *weights = dst->src[2]->data;
	float *nll = dst->src[3]->data;

	for (int64_t row = ith; row < dst->ne[1]; row += nth) {
		const float *x = (const float *)((const char *)dst->src[0]->data + row * dst->src[0]->nb[1]);
		float *d = (float *)((char *)dst->data + row * dst->nb[1]), m;
		nll[row] = 0;
		if (weights[row] == 0) {
			memset(d, 0, (size_t)n_vocab * 4);
			continue;
		}
		const double z = v->exp_sum(x, n_vocab, &m);
		nll[row] = (float)(log(z) - (double)(x[targets[row]] - m));
		v->exp_scale(x, d, n_vocab, m, (float)(weights[row] / z));
		d[targets[row]] -= weights[row];
	}
}
