// Loss and derivative of a student's logits against a teacher's, beside the student's logits and in their place. The first
// row has no weight, and is NaN to show that nobody reads it.
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { UNREAD, ANY, TEACHER_SURE, NO_NUMBER, ROWS };

// Times the tolerance it allows for 6e-38 in place of 0: the exponential ends at e^−87, the weights at 3.
static const double SMALLEST = 2e-32;

static double log_sum(const struct ggml_tensor *x, int64_t r) {
	double max = -INFINITY, z = 0;
	for (int64_t i = 0; i < x->ne[0]; i++) max = fmax(max, at(x, i, r, 0, 0));
	for (int64_t i = 0; i < x->ne[0]; i++) z += exp(at(x, i, r, 0, 0) - max);
	return max + log(z);
}

static void want_row(const struct ggml_tensor *x, const struct ggml_tensor *y, int64_t r, int32_t target, double weight,
	double share, struct want *d, struct want *loss) {
	const double x_log = log_sum(x, r), y_log = log_sum(y, r), nll = x_log - at(x, target, r, 0, 0);
	double kl = 0, size = 1 + fabs(x_log) + fabs(y_log);
	for (int64_t i = 0; i < x->ne[0]; i++) {
		const double log_p = at(x, i, r, 0, 0) - x_log, log_q = at(y, i, r, 0, 0) - y_log, p = exp(log_p), q = exp(log_q);
		if (q > 0) kl += q * (log_q - log_p), size += q * (fabs(at(x, i, r, 0, 0)) + fabs(at(y, i, r, 0, 0)));
		const double own = i == target ? share : 0;
		set_want(d, r * x->ne[0] + i, weight * (p - (1 - share) * q - own), weight * (p + (1 - share) * q + own) + SMALLEST);
	}
	set_want(loss, r, (1 - share) * kl + share * nll, (1 - share) * size + share * (1 + nll));
}

static float *row_of(const struct ggml_tensor *t, int64_t r) { return (float *)((char *)t->data + (size_t)r * t->nb[1]); }

static void check_size(int64_t n, int64_t gap, float share, bool in_place) {
	tensor x = new_rows(F32, n, ROWS, gap), y = new_rows(F32, n, ROWS, gap), targets = new_tensor(F32, ROWS, 1), weights = new_tensor(F32, ROWS, 1);
	tensor loss = new_result(ROWS, 1, 1, 1), d = new_result(n, ROWS, 1, 1);
	struct want wd = want_like(d), wl = want_like(loss);
	memset(x->data, 0xff, (size_t)n * 4), memset(y->data, 0xff, (size_t)n * 4);
	for (int r = 0; r < ROWS; r++) {
		const int32_t target = ((int32_t *)targets->data)[r] = draw((int)n);
		((float *)weights->data)[r] = (float)r;
		if (r == UNREAD) continue;
		for (int64_t i = 0; i < n; i++) row_of(x, r)[i] *= 20, row_of(y, r)[i] *= 20;
		if (r == TEACHER_SURE)
			for (int64_t i = 0; i < n; i++) row_of(y, r)[i] = i == n / 3 ? 1 : -INFINITY;
		if (r == NO_NUMBER) row_of(x, r)[n / 2] = NAN;
		want_row(x, y, r, target, r, share, &wd, &wl);
	}
	void *logits = x->data, *own = d->data;
	if (in_place) x->data = d->data;
	d->src[0] = x, d->src[1] = y, d->src[2] = targets, d->src[3] = weights, d->src[4] = loss;
	check_nodes(label("distillation over %lld, share %g%s", (long long)n, share, in_place ? " in place" : ""),
		&(struct node){ d, ft_distill, share, in_place ? logits : NULL }, 1,
		(struct result[]){ { "dlogits", d, wd }, { "loss", loss, wl } }, 2);
	x->data = logits, d->data = own;
	drop(x), drop(y), drop(targets), drop(weights), drop(loss), drop(d), drop_want(wd), drop_want(wl);
}

void check_distill(void) {
	static const int64_t sizes[] = { 1, 2, 13, 121, 1023, 1024, 1025, 3281 };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		check_size(sizes[i], 3, 0, false);
		check_size(sizes[i], 0, 0.25f, true);
		check_size(sizes[i], 0, 1, false);
	}
}
