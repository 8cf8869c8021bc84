// Loss and derivative of rows of logits, beside the logits and in their place. The first row has no weight, and is NaN to
// show that nobody reads it.
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { UNREAD, ANY, IMPOSSIBLE, NO_NUMBER, BOTH, ROWS };

// Times the tolerance it allows for 6e-38 in place of 0: the exponential ends at e^−87, the weights at 4.
static const double SMALLEST = 2e-32;

static void want_row(const struct ggml_tensor *x, int64_t r, int32_t target, double weight, struct want *d, struct want *nll) {
	const int64_t n = x->ne[0];
	double max = -INFINITY, z = 0;
	for (int64_t i = 0; i < n; i++) max = fmax(max, at(x, i, r, 0, 0)); // of what is a number
	for (int64_t i = 0; i < n; i++) z += exp(at(x, i, r, 0, 0) - max);
	const double loss = log(z) - (at(x, target, r, 0, 0) - max);
	set_want(nll, r, loss, 1 + loss);
	for (int64_t i = 0; i < n; i++) {
		const double p = exp(at(x, i, r, 0, 0) - max) / z;
		set_want(d, r * n + i, weight * (p - (i == target)), weight * (p + (i == target)) + SMALLEST);
	}
}

static float *row_of(const struct ggml_tensor *t, int64_t r) { return (float *)((char *)t->data + (size_t)r * t->nb[1]); }

// Logits of up to ±40, and what no model should come to: a first part that is impossible, a logit that is no number, with
// bits set that NaN has not by itself, and both.
static void fill_row(tensor x, int64_t r, int32_t target) {
	float *row = row_of(x, r);
	const int64_t n = x->ne[0];
	for (int64_t i = 0; i < n; i++) row[i] *= 40;
	if (r == IMPOSSIBLE || r == BOTH)
		for (int64_t i = 0; i < n - n / 4; i++) row[i] = i == target ? row[i] : -INFINITY; // n/4 remain, and the target
	if (r == NO_NUMBER || r == BOTH) memcpy(&row[n / 2], &(uint32_t){ 0x7fc00001 }, 4);
}

static void check_size(int64_t n, int64_t gap, bool in_place) {
	tensor x = new_rows(F32, n, ROWS, gap), targets = new_tensor(F32, ROWS, 1), weights = new_tensor(F32, ROWS, 1);
	tensor nll = new_result(ROWS, 1, 1, 1), d = new_result(n, ROWS, 1, 1);
	struct want wd = want_like(d), wn = want_like(nll);
	memset(x->data, 0xff, (size_t)n * 4);
	for (int r = 0; r < ROWS; r++) {
		const int32_t target = r == IMPOSSIBLE || r == BOTH ? (int32_t)n - 1 : draw((int)n);
		((int32_t *)targets->data)[r] = target, ((float *)weights->data)[r] = (float)r;
		if (r == UNREAD) continue;
		fill_row(x, r, target);
		want_row(x, r, target, r, &wd, &wn);
	}
	void *logits = x->data, *own = d->data;
	if (in_place) x->data = d->data;
	d->src[0] = x, d->src[1] = targets, d->src[2] = weights, d->src[3] = nll;
	check_nodes(label("cross entropy over %lld%s", (long long)n, in_place ? " in place" : ""),
		&(struct node){ d, ft_cross_entropy, 0, in_place ? logits : NULL }, 1,
		(struct result[]){ { "dlogits", d, wd }, { "nll", nll, wn } }, 2);
	x->data = logits, d->data = own;
	drop(x), drop(targets), drop(weights), drop(nll), drop(d), drop_want(wd), drop_want(wn);
}

void check_cross_entropy(void) {
	static const int64_t sizes[] = { 1, 2, 13, 40, 121, 1023, 1024, 1025, 3281 };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		check_size(sizes[i], 3, false);
		check_size(sizes[i], 0, true);
	}
}
