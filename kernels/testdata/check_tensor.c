#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BLOCK_BYTES = 34 }; // of Q8_0: an F16 scale, which nothing here looks at, and 32 signed bytes

static float half(uint16_t h) {
	const int exponent = h >> 10 & 31, mantissa = h & 1023;
	const double v = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
	return (float)(h & 0x8000 ? -v : v);
}
static float byte_of_block(const signed char *row, int64_t i) { return (float)row[i / BLOCK * BLOCK_BYTES + 2 + i % BLOCK] / 64; }

static void f16_to_float(const void *x, float *y, int64_t k) {
	for (int64_t i = 0; i < k; i++) {
		uint16_t h;
		memcpy(&h, (const char *)x + 2 * i, 2);
		y[i] = half(h);
	}
}
static void q8_to_float(const void *x, float *y, int64_t k) {
	for (int64_t i = 0; i < k; i++) y[i] = byte_of_block(x, i);
}

// What the kernels ask ggml.
const struct ggml_type_traits *ggml_get_type_traits(enum ggml_type type) {
	static const struct ggml_type_traits f32 = { .type_name = "f32", .blck_size = 1, .type_size = 4 };
	static const struct ggml_type_traits f16 = { .type_name = "f16", .blck_size = 1, .type_size = 2, .to_float = f16_to_float };
	static const struct ggml_type_traits q8 = { .type_name = "q8_0", .blck_size = BLOCK, .type_size = BLOCK_BYTES, .to_float = q8_to_float };
	return type == F16 ? &f16 : type == Q8 ? &q8 : &f32;
}

int draw(int n) {
	static uint32_t state = 1;
	state = state * 1664525u + 1013904223u;
	return (int)(state >> 8) % n;
}

static void draw_element(enum ggml_type type, char *p) {
	const float eighths = (float)(draw(17) - 8) / 8;
	// Exponents from 2^−12 to 2^2, and the smallest of all below that are not normal.
	const uint16_t h = (uint16_t)(draw(2) << 15 | (draw(20) ? 3 + draw(15) : 0) << 10 | draw(1024));
	if (type == F32) memcpy(p, &eighths, 4);
	else if (type == F16) memcpy(p, &h, 2);
	else for (int i = 0; i < BLOCK_BYTES; i++) p[i] = (char)(draw(255) - 127);
}

// From the first to the last byte of a tensor.
static size_t extent(const struct ggml_tensor *t) {
	const struct ggml_type_traits *traits = ggml_get_type_traits(t->type);
	size_t n = (size_t)(t->ne[0] / traits->blck_size - 1) * t->nb[0] + traits->type_size;
	for (int i = 1; i < 4; i++) n += (size_t)(t->ne[i] - 1) * t->nb[i];
	return n;
}

static void draw_elements(tensor t) {
	const int64_t blocks = t->ne[0] / ggml_get_type_traits(t->type)->blck_size;
	for (int64_t row = 0; row < t->ne[1] * t->ne[2] * t->ne[3]; row++)
		for (int64_t i = 0; i < blocks; i++)
			draw_element(t->type, (char *)t->data + (size_t)i * t->nb[0] + (size_t)(row % t->ne[1]) * t->nb[1] +
				(size_t)(row / t->ne[1] % t->ne[2]) * t->nb[2] + (size_t)(row / t->ne[1] / t->ne[2]) * t->nb[3]);
}

static tensor fill(tensor t) {
	t->data = malloc(extent(t));
	memset(t->data, 0xff, extent(t));
	draw_elements(t);
	return t;
}

static tensor empty_tensor(enum ggml_type type, int64_t n0, int64_t n1, int64_t n2, int64_t n3) {
	tensor t = calloc(1, sizeof *t);
	t->type = type;
	t->ne[0] = n0, t->ne[1] = n1, t->ne[2] = n2, t->ne[3] = n3;
	return t;
}

tensor new_rows(enum ggml_type type, int64_t n0, int64_t n1, int64_t gap) {
	const struct ggml_type_traits *traits = ggml_get_type_traits(type);
	tensor t = empty_tensor(type, n0, n1, 1, 1);
	t->nb[0] = traits->type_size, t->nb[1] = (size_t)(n0 / traits->blck_size + gap) * traits->type_size;
	t->nb[2] = t->nb[3] = t->nb[1] * (size_t)n1;
	return fill(t);
}

tensor new_tensor(enum ggml_type type, int64_t n0, int64_t n1) { return new_rows(type, n0, n1, 0); }

tensor new_view(const struct layout *l, int64_t n0, int64_t n1, int64_t n2, int64_t n3) {
	tensor t = empty_tensor(F32, n0, n1, n2, n3);
	size_t stride = 4;
	for (int i = 0; i < 4; i++) {
		t->nb[l->axes[i]] = stride;
		stride *= (size_t)(t->ne[l->axes[i]] + (i == 0 ? l->gap : 0));
	}
	return fill(t);
}

tensor new_result(int64_t n0, int64_t n1, int64_t n2, int64_t n3) {
	static const struct layout plain = { "plain", { 0, 1, 2, 3 }, 0 };
	return new_view(&plain, n0, n1, n2, n3);
}

void drop(tensor t) { free(t->data), free(t); }

static tensor map(tensor t) {
	t->data = mmap(NULL, extent(t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (t->data != MAP_FAILED) return t;
	free(t);
	return NULL;
}

tensor new_far(const size_t nb[4], int64_t n0, int64_t n1, int64_t n2, int64_t n3) {
	tensor t = empty_tensor(F32, n0, n1, n2, n3);
	memcpy(t->nb, nb, sizeof t->nb);
	if ((t = map(t))) draw_elements(t);
	return t;
}

tensor new_large(int64_t n0, int64_t n1, int64_t n2, int64_t n3) {
	tensor t = empty_tensor(F32, n0, n1, n2, n3);
	t->nb[0] = 4;
	for (int i = 1; i < 4; i++) t->nb[i] = t->nb[i - 1] * (size_t)t->ne[i - 1];
	return map(t);
}

void drop_far(tensor t) {
	if (t) munmap(t->data, extent(t));
	free(t);
}

int64_t elements(const struct ggml_tensor *t) { return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; }

double at(const struct ggml_tensor *t, int64_t i0, int64_t i1, int64_t i2, int64_t i3) {
	const char *row = (const char *)t->data + (size_t)i1 * t->nb[1] + (size_t)i2 * t->nb[2] + (size_t)i3 * t->nb[3];
	if (t->type == Q8) return byte_of_block((const signed char *)row, i0);
	row += (size_t)i0 * t->nb[0];
	float v;
	if (t->type == F16) f16_to_float(row, &v, 1);
	else memcpy(&v, row, 4);
	return v;
}

double *dense(const struct ggml_tensor *t) {
	double *all = malloc((size_t)elements(t) * sizeof *all), *p = all;
	for (int64_t i3 = 0; i3 < t->ne[3]; i3++)
		for (int64_t i2 = 0; i2 < t->ne[2]; i2++)
			for (int64_t i1 = 0; i1 < t->ne[1]; i1++)
				for (int64_t i0 = 0; i0 < t->ne[0]; i0++) *p++ = at(t, i0, i1, i2, i3);
	return all;
}
