#include "check.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The error of a sum in float32 against the sum of the magnitudes of its terms: K·2^−24 at worst for K terms, about
// √K·2^−24 as roundings go; the checks have up to 2600 terms, most of them exact.
static const double tolerance = 3e-6;

const char *instruction_sets[] = { "avx512", "avx2", "neon", "portable", NULL };
int failures;
int64_t compared;

enum { SHOWN = 20, MAX_THREADS = 4 };

void fail(const char *format, ...) {
	if (failures++ >= SHOWN) return;
	va_list args;
	va_start(args, format);
	fprintf(stderr, "%s: ", ft_best_simd()->name);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

const char *label(const char *format, ...) {
	static char text[200];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	return text;
}

struct want new_want(int64_t n) {
	return (struct want){ n, calloc((size_t)n, sizeof(double)), calloc((size_t)n, sizeof(double)) };
}
struct want want_like(const struct ggml_tensor *t) { return new_want(elements(t)); }
void drop_want(struct want w) { free(w.sum), free(w.abs); }
void set_want(struct want *w, int64_t i, double value, double abs) { w->sum[i] = value, w->abs[i] = abs; }

void expect(const char *what, const char *name, const float *got, struct want want) {
	compared += want.n;
	for (int64_t i = 0; i < want.n; i++) {
		if (isnan(want.sum[i]) ? isnan(got[i]) : fabs(got[i] - want.sum[i]) <= tolerance * want.abs[i]) continue;
		fail("%s: %s[%lld] = %.9g, want %.9g within %.2g", what, name, (long long)i, got[i], want.sum[i], tolerance * want.abs[i]);
	}
}

struct share { const struct node *node; int ith, nth; };

static void *share(void *p) {
	const struct share *s = p;
	s->node->kernel(s->node->dst, s->ith, s->nth, NULL);
	return NULL;
}

void compute_share(const struct node *n, int ith, int nth) {
	ft_set_param(n->dst, 0, n->param);
	share(&(struct share){ n, ith, nth });
}

void compute_node(const struct node *n, int nth) {
	pthread_t threads[MAX_THREADS];
	struct share shares[MAX_THREADS];
	ft_set_param(n->dst, 0, n->param);
	for (int i = 0; i < nth; i++) {
		shares[i] = (struct share){ n, i, nth };
		if (i > 0) pthread_create(&threads[i], NULL, share, &shares[i]);
	}
	share(&shares[0]);
	for (int i = 1; i < nth; i++) pthread_join(threads[i], NULL);
}

static size_t bytes(const struct ggml_tensor *t) { return (size_t)elements(t) * 4; }

static void compute_all(const struct node *nodes, int n_nodes, const struct result *results, int n_results, int nth) {
	for (int i = 0; i < n_results; i++) memset(results[i].t->data, 0xff, bytes(results[i].t));
	for (int i = 0; i < n_nodes; i++) {
		memset(nodes[i].dst->data, 0xff, bytes(nodes[i].dst));
		if (nodes[i].before) memcpy(nodes[i].dst->data, nodes[i].before, bytes(nodes[i].dst));
	}
	for (int i = 0; i < n_nodes; i++) compute_node(&nodes[i], nth);
}

// The results, to keep them or to compare them with those kept.
static void keep(const struct result *results, int n, float **kept) {
	for (int i = 0; i < n; i++) {
		kept[i] = malloc(bytes(results[i].t));
		memcpy(kept[i], results[i].t->data, bytes(results[i].t));
	}
}
static void expect_same(const char *what, const char *how, const struct result *results, int n, float **kept) {
	for (int i = 0; i < n; i++) {
		compared += elements(results[i].t);
		if (memcmp(kept[i], results[i].t->data, bytes(results[i].t)) != 0) fail("%s: %s is not the same %s", what, results[i].name, how);
	}
}

void check_nodes(const char *what, const struct node *nodes, int n_nodes, const struct result *results, int n_results) {
	float *kept[4];
	for (const char **set = instruction_sets; *set; set++) {
		if (!ft_use_simd(*set)) continue;
		drain_scratch();
		compute_all(nodes, n_nodes, results, n_results, 1);
		for (int i = 0; i < n_results; i++) expect(what, results[i].name, results[i].t->data, results[i].want);
		keep(results, n_results, kept);
		spoil_scratch();
		compute_all(nodes, n_nodes, results, n_results, 1);
		expect_same(what, "with other scratch memory", results, n_results, kept);
		compute_all(nodes, n_nodes, results, n_results, 3);
		expect_same(what, "with three threads", results, n_results, kept);
		compute_all(nodes, n_nodes, results, n_results, 4);
		expect_same(what, "with four threads", results, n_results, kept);
		for (int i = 0; i < n_results; i++) free(kept[i]);
	}
}
