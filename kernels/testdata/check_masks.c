// The mask [M > 0] of a Dual LoRA must be the same in the forward pass, the backward pass and the gradients, or a step
// moves what was not there. Here every M = B·A is a sum that cancels, so that nothing but the order of its roundings, fused
// or not, decides its sign. With N = 1 and s = 1 each kernel shows ReLU(M) as it sees it.
#include "check.h"

#include <stdlib.h>
#include <string.h>

enum { N_IN = 67, N_OUT = 9, HALF = 5, RANK = 2 * HALF };

struct factors { tensor a, b, c, d; };

static float real(void) { return (float)(draw(1 << 20) + 1) / (1 << 20) - 0.5f; }

static tensor ones(int64_t n0, int64_t n1) {
	tensor t = new_tensor(F32, n0, n1);
	for (int64_t i = 0; i < n0 * n1; i++) ((float *)t->data)[i] = 1;
	return t;
}

// The second half of the products is the first, negative and in another order.
static struct factors new_factors(void) {
	struct factors f = { new_tensor(F32, N_IN, RANK), new_tensor(F32, RANK, N_OUT), ones(N_IN, 1), ones(1, N_OUT) };
	float *a = f.a->data, *b = f.b->data;
	for (int k = 0; k < HALF; k++) {
		const int twin = HALF + (k * 2 + 1) % HALF;
		for (int i = 0; i < N_IN; i++) a[twin * N_IN + i] = a[k * N_IN + i] = real();
		for (int o = 0; o < N_OUT; o++) b[o * RANK + twin] = -(b[o * RANK + k] = real());
	}
	return f;
}

// W·I for W = 0 + ΔW, from either side: [n, tokens] with tokens as many as W has of the other dimension.
static tensor show(tensor w, const struct factors *f, ft_kernel kernel, int64_t n, int64_t tokens) {
	tensor identity = ones(tokens, tokens), y = new_result(n, tokens, 1, 1);
	const tensor parts[] = { w, identity, f->a, f->b, f->c, f->d };
	memset(identity->data, 0, (size_t)(tokens * tokens) * 4);
	for (int64_t t = 0; t < tokens; t++) ((float *)identity->data)[t * tokens + t] = 1;
	memcpy(y->src, parts, sizeof parts);
	compute_share(&(struct node){ y, kernel, 1, NULL }, 0, 1);
	drop(identity);
	return y;
}

// The gradients for G that is 1 in row o and 0 elsewhere: dC is ReLU(M) of that row, dA is B where M ≥ 0.
static tensor show_grads(const struct factors *f, int64_t o) {
	tensor x = ones(N_IN, 1), dy = ones(N_OUT, 1), all = new_result((N_IN + N_OUT) * (RANK + 1), 1, 1, 1);
	tensor shares = new_result(ft_dual_parts(N_IN, N_OUT, RANK + 1) * N_IN * (RANK + 1) + N_OUT * (RANK + 1), 1, 1, 1);
	for (int64_t i = 0; i < N_OUT; i++) ((float *)dy->data)[i] = i == o;
	const tensor parts[] = { x, dy, f->a, f->b, f->c, f->d }, sums[] = { shares, f->a, f->b, f->c, f->d };
	memcpy(shares->src, parts, sizeof parts), memcpy(all->src, sums, sizeof sums);
	compute_share(&(struct node){ shares, ft_dual_grads, 1, NULL }, 0, 1);
	compute_share(&(struct node){ all, ft_dual_sum, 0, NULL }, 0, 1);
	drop(x), drop(dy), drop(shares);
	return all;
}

static void compare(const struct factors *f, tensor y, tensor dx) {
	int64_t positive = 0;
	for (int64_t o = 0; o < N_OUT; o++) {
		tensor all = show_grads(f, o);
		const float *da = all->data, *dc = da + RANK * (N_IN + N_OUT);
		for (int64_t i = 0; i < N_IN; i++) {
			const float m = ((const float *)y->data)[i * N_OUT + o], back = ((const float *)dx->data)[o * N_IN + i];
			if (back != m || dc[i] != m) fail("masks: ReLU(M) is %g forward, %g backward, %g in the gradients", m, back, dc[i]);
			if (m > 0 && da[i] != ((const float *)f->b->data)[o * RANK]) fail("masks: M = %g passes no gradient", m);
			positive += m > 0;
			compared += 3;
		}
		drop(all);
	}
	if (positive == 0 || positive == N_IN * N_OUT) fail("masks: %lld of all M are positive", (long long)positive);
}

void check_masks(void) {
	for (const char **set = instruction_sets; *set; set++) {
		if (!ft_use_simd(*set)) continue;
		struct factors f = new_factors();
		tensor w = ones(N_IN, N_OUT);
		memset(w->data, 0, (size_t)(N_IN * N_OUT) * 4);
		tensor y = show(w, &f, ft_dual_mul, N_OUT, N_IN), dx = show(w, &f, ft_dual_mul_t, N_IN, N_OUT);
		compare(&f, y, dx);
		drop(w), drop(y), drop(dx), drop(f.a), drop(f.b), drop(f.c), drop(f.d);
	}
}
