#include "kernels.h"

#include <math.h>

// src: logits [V, C] F32, targets [C] I32, weights [C] F32, nll [C] F32 (written). dst: dlogits [V, C].
// Row by row, with m the row's maximum: Z = sum exp(x - m); nll = log Z - (x[target] - m);
// dlogits = weight * (exp(x - m)/Z - [target]). A row of weight 0 is not looked at: nll and dlogits are 0.
void ft_cross_entropy(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const int64_t n_vocab = dst->ne[0];
	const int32_t *targets = dst->src[1]->data;
	const float *weights = dst->src[2]->data;
	float *nll = dst->src[3]->data;

	for (int64_t row = ith; row < dst->ne[1]; row += nth) {
		const float *x = (const float *)((const char *)dst->src[0]->data + row * dst->src[0]->nb[1]);
		float *d = (float *)((char *)dst->data + row * dst->nb[1]);
		nll[row] = 0;
		if (weights[row] == 0) {
			for (int64_t i = 0; i < n_vocab; i++) d[i] = 0;
			continue;
		}
		float m = x[0];
		for (int64_t i = 1; i < n_vocab; i++) m = x[i] > m ? x[i] : m;
		double z = 0;
		for (int64_t i = 0; i < n_vocab; i++) {
			d[i] = expf(x[i] - m);
			z += d[i];
		}
		const float scale = (float)(weights[row] / z);
		nll[row] = (float)(log(z) - (double)(x[targets[row]] - m));
		for (int64_t i = 0; i < n_vocab; i++) d[i] *= scale;
		d[targets[row]] -= weights[row];
	}
}
