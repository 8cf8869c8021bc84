#include "factor.h"

struct ft_factor ft_factor_a(const struct ggml_tensor *a) {
	return (struct ft_factor){ a->data, 1, a->ne[0], a->ne[0], a->ne[1] };
}

struct ft_factor ft_factor_b(const struct ggml_tensor *b) {
	return (struct ft_factor){ b->data, b->ne[0], 1, b->ne[1], b->ne[0] };
}

void ft_pack_factor(const struct ft_factor *f, int64_t i0, int64_t i1, float scale, int64_t width, int64_t step, float *out) {
	for (int64_t i = i0; i < i1; i += width, out += f->r * step)
		for (int64_t q = 0; q < f->r; q++)
			for (int64_t p = 0; p < width; p++)
				out[q * step + p] = i + p < i1 ? scale * f->data[(i + p) * f->line + q * f->rank] : 0;
}
