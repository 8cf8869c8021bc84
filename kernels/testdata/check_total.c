// Gradients that are added to what is there.
#include "check.h"
#include "total.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 300, TABLE = 4 };

static void add_before(struct want *w, const struct ggml_tensor *t) {
	for (int64_t i = 0; i < w->n; i++) add_term(w, i, ((const float *)t->data)[i]);
}

// The total starts as the numbers of a tensor; a kernel reads it as its first operand, which is the result itself.
static void check_total_of(const char *what, const char *name, ft_kernel kernel, tensor before, tensor a, tensor b, struct want w) {
	tensor total = new_result(before->ne[0], before->ne[1], 1, 1);
	add_before(&w, before);
	total->src[0] = total, total->src[1] = a, total->src[2] = b;
	check_nodes(what, &(struct node){ total, kernel, 0, before->data }, 1, &(struct result){ name, total, w }, 1);
	drop(total), drop_want(w);
}

void check_total(void) {
	for (int64_t n = 1; n < 1100; n = n * 3 + 1) {
		const char *what = label("totals of %lld", (long long)n);
		tensor a = new_tensor(F32, n, ROWS), b = new_tensor(F32, n, ROWS), ids = new_tensor(F32, ROWS, 1);
		tensor row = new_tensor(F32, n, 1), table = new_tensor(F32, n, TABLE);
		tensor weights = new_tensor(F32, ROWS, 1);
		struct want products = new_want(n), sums = new_want(n), rows = new_want(n * TABLE), squares = new_want(n);
		for (int r = 0; r < ROWS; r++) {
			const int32_t id = ((int32_t *)ids->data)[r] = draw(TABLE);
			const float weight = ((float *)weights->data)[r] = (float)(r % 3) / 2;
			for (int64_t i = 0; i < n; i++) {
				const double x = at(a, i, r, 0, 0);
				add_term(&products, i, x * at(b, i, r, 0, 0)), add_term(&sums, i, x), add_term(&rows, id * n + i, x);
				add_term(&squares, i, weight * x * x);
			}
		}
		check_total_of(what, "sums of products", ft_add_sums, row, a, b, products);
		check_total_of(what, "sums", ft_add_sums, row, a, NULL, sums);
		check_total_of(what, "rows", ft_add_rows, table, a, ids, rows);
		for (int r = 0; r < ROWS; r += 3) memset((float *)a->data + r * n, 0xff, (size_t)n * 4); // of no weight: not read
		check_total_of(what, "squares", ft_add_squares, row, a, weights, squares);
		drop(a), drop(b), drop(weights), drop(ids), drop(row), drop(table);
	}
}
