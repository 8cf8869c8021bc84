#include "recurrent.h"

#include <string.h>

// A causal convolution over the last few tokens of a document, channel by channel:
//
//	y[c, t] = Σ_m w[taps − 1 − m, c]·x[c, t − m],  m < taps and m ≤ pos[t]
//
// The tokens, for the weights' gradient the channels, are dealt out to the threads.

enum { BLOCK = 64, ROWS = 128 }; // channels whose sums are formed at once; tokens whose sum is formed in F32

struct conv {
	int64_t taps, channels, tokens; // of all sequences
	const int32_t *pos;
};

static struct conv sizes(const struct ggml_tensor *x, const struct ggml_tensor *w, const struct ggml_tensor *pos) {
	return (struct conv){ w->ne[0], x->ne[0], x->ne[1] * x->ne[2], pos->data };
}

static const float *token(const struct ggml_tensor *x, int64_t t) {
	return (const float *)((const char *)x->data + (size_t)(t % x->ne[1]) * x->nb[1] + (size_t)(t / x->ne[1]) * x->nb[2]);
}

// How many tokens before t the convolution sees there.
static int64_t reach(const struct conv *c, int64_t t) { return t < c->tokens ? ft_min(c->taps - 1, c->pos[t]) : -1; }

size_t ft_short_conv_scratch(const struct ggml_tensor *dst) { return (size_t)(dst->src[1]->ne[0] * dst->src[1]->ne[1]); }

// taps[m]: the weights of all channels for the token m places back.
static float *taps_of(const struct conv *c, const struct ggml_tensor *w) {
	float *taps = ft_scratch_take((size_t)(c->taps * c->channels));
	for (int64_t i = 0; i < c->channels; i++) {
		const float *from = (const float *)((const char *)w->data + (size_t)i * w->nb[1]);
		for (int64_t m = 0; m < c->taps; m++) taps[m * c->channels + i] = from[c->taps - 1 - m];
	}
	return taps;
}

static void add_products(int64_t n, const float *restrict a, const float *restrict b, float *restrict out) {
	for (int64_t i = 0; i < n; i++) out[i] += a[i] * b[i];
}

// src: x [channels, T, S], w [taps, channels], pos I32 [T·S]. dst: y [channels, T, S].
void ft_short_conv(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ggml_tensor *x = dst->src[0];
	const struct conv c = sizes(x, dst->src[1], dst->src[2]);
	float *taps = taps_of(&c, dst->src[1]);
	for (int64_t t = c.tokens * ith / nth; t < c.tokens * (ith + 1) / nth; t++) {
		float *y = (float *)dst->data + t * c.channels;
		memset(y, 0, (size_t)c.channels * 4);
		for (int64_t m = 0; m <= reach(&c, t); m++) add_products(c.channels, taps + m * c.channels, token(x, t - m), y);
	}
	ft_scratch_give(taps);
}

// src: dy [channels, T, S], w [taps, channels], pos I32 [T·S]. dst: dx [channels, T, S].
void ft_short_conv_back(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ggml_tensor *dy = dst->src[0];
	const struct conv c = sizes(dy, dst->src[1], dst->src[2]);
	float *taps = taps_of(&c, dst->src[1]);
	for (int64_t t = c.tokens * ith / nth; t < c.tokens * (ith + 1) / nth; t++) {
		float *dx = (float *)dst->data + t * c.channels;
		memset(dx, 0, (size_t)c.channels * 4);
		for (int64_t m = 0; m < c.taps; m++)
			if (m <= reach(&c, t + m)) add_products(c.channels, taps + m * c.channels, token(dy, t + m), dx);
	}
	ft_scratch_give(taps);
}

// src: dy [channels, T, S], x likewise, pos I32 [T·S]. dst: dw [taps, channels].
void ft_short_conv_weight(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ggml_tensor *dy = dst->src[0], *x = dst->src[1];
	const struct conv c = sizes(dy, dst, dst->src[2]);
	const int64_t blocks = (c.channels + BLOCK - 1) / BLOCK, end = ft_min(c.channels, blocks * (ith + 1) / nth * BLOCK);
	for (int64_t from = blocks * ith / nth * BLOCK; from < end; from += BLOCK) {
		const int64_t count = ft_min(BLOCK, end - from);
		for (int64_t m = 0; m < c.taps; m++) {
			double whole[BLOCK] = { 0 };
			for (int64_t first = 0; first < c.tokens; first += ROWS) {
				float sums[BLOCK] = { 0 };
				for (int64_t t = first; t < ft_min(c.tokens, first + ROWS); t++)
					if (m <= reach(&c, t)) add_products(count, token(dy, t) + from, token(x, t - m) + from, sums);
				for (int64_t i = 0; i < count; i++) whole[i] += (double)sums[i];
			}
			for (int64_t i = 0; i < count; i++) ((float *)dst->data)[(from + i) * c.taps + c.taps - 1 - m] = (float)whole[i];
		}
	}
}
