#include "thin.h"

// A magnitude M = b·aᵀ of one rank is positive where a and b have the same sign: with v⁺ = max(v, 0) and v⁻ = max(−v, 0)
//
//   ReLU(M) = b⁺·a⁺ᵀ + b⁻·a⁻ᵀ
//
// so that dN = s·G ⊙ ReLU(M) is of the form that a LoRA's gradients have. With the factors A' [n_in, 2·r], whose rows are
// a⁺ ⊙ C and then a⁻ ⊙ C, and B' [2·r, n_out] of b⁺ ⊙ D and b⁻ ⊙ D
//
//   dC = a⁺ ⊙ dA'⁺ + a⁻ ⊙ dA'⁻      dD = b⁺ ⊙ dB'⁺ + b⁻ ⊙ dB'⁻
//
// and only dA and dB need G, see dual_grads.c.
static float plus(float v) { return v > 0 ? v : 0; }
static float minus(float v) { return v < 0 ? -v : 0; }

// src: a [n_in, 1], b [1, n_out], c [n_in, r], d [r, n_out]. dst: [A' | B'].
void ft_thin_factors(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const tensor a = dst->src[0], b = dst->src[1], c = dst->src[2], d = dst->src[3];
	const int64_t n_in = a->ne[0], n_out = b->ne[1], r = c->ne[1];
	const float *av = a->data, *bv = b->data, *cv = c->data, *dv = d->data;
	float *left = dst->data, *right = left + 2 * r * n_in;
	for (int64_t k = r * ith / nth; k < r * (ith + 1) / nth; k++)
		for (int64_t i = 0; i < n_in; i++) {
			left[k * n_in + i] = plus(av[i]) * cv[k * n_in + i];
			left[(r + k) * n_in + i] = minus(av[i]) * cv[k * n_in + i];
		}
	for (int64_t o = n_out * ith / nth; o < n_out * (ith + 1) / nth; o++)
		for (int64_t k = 0; k < r; k++) {
			right[o * 2 * r + k] = plus(bv[o]) * dv[o * r + k];
			right[o * 2 * r + r + k] = minus(bv[o]) * dv[o * r + k];
		}
}

// src: [dA' | dB'], a [n_in, 1], b [1, n_out], c [n_in, r]. dst: [dC | dD].
void ft_thin_directions(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const float *a = dst->src[1]->data, *b = dst->src[2]->data;
	const int64_t n_in = dst->src[1]->ne[0], n_out = dst->src[2]->ne[1], r = dst->src[3]->ne[1];
	const float *left = dst->src[0]->data, *right = left + 2 * r * n_in;
	float *out = dst->data, *dd = out + r * n_in;
	for (int64_t k = r * ith / nth; k < r * (ith + 1) / nth; k++)
		for (int64_t i = 0; i < n_in; i++)
			out[k * n_in + i] = plus(a[i]) * left[k * n_in + i] + minus(a[i]) * left[(r + k) * n_in + i];
	for (int64_t o = n_out * ith / nth; o < n_out * (ith + 1) / nth; o++)
		for (int64_t k = 0; k < r; k++)
			dd[o * r + k] = plus(b[o]) * right[o * 2 * r + k] + minus(b[o]) * right[o * 2 * r + r + k];
}
