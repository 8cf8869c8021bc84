#include "gemm.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct ft_simd *candidate(int i) {
#if defined(__x86_64__)
	__builtin_cpu_init();
	switch (i) {
	case 0: return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") ? &ft_avx512 : NULL;
	case 1: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &ft_avx2 : NULL;
	}
#elif defined(__aarch64__)
	if (i == 0) return &ft_neon;
#endif
	return i == 2 ? &ft_portable : NULL;
}

static _Atomic(const struct ft_simd *) chosen;

const struct ft_simd *ft_best_simd(void) {
	const struct ft_simd *v = atomic_load_explicit(&chosen, memory_order_acquire);
	for (int i = 0; !v; i++) v = candidate(i);
	atomic_store_explicit(&chosen, v, memory_order_release);
	return v;
}

bool ft_use_simd(const char *name) {
	for (int i = 0; i < 3; i++) {
		const struct ft_simd *v = candidate(i);
		if (v && strcmp(v->name, name) == 0) {
			atomic_store_explicit(&chosen, v, memory_order_release);
			return true;
		}
	}
	return false;
}

// The pool: a list of free pieces. ggml's threads may end after every graph, so memory cannot belong to a thread.
struct piece {
	struct piece *next;
	size_t floats;
	char padding[48];
};
static struct piece *pool;
size_t ft_piece_bytes(size_t floats) {
	return floats ? (sizeof(struct piece) + 4 * floats + 63) / 64 * 64 : 0;
}
static atomic_flag pool_lock = ATOMIC_FLAG_INIT;

static void lock(void) { while (atomic_flag_test_and_set_explicit(&pool_lock, memory_order_acquire)) {} }
static void unlock(void) { atomic_flag_clear_explicit(&pool_lock, memory_order_release); }

float *ft_scratch_take(size_t n) {
	lock();
	struct piece *p = pool;
	if (p) pool = p->next;
	unlock();
	if (p && p->floats < n) {
		free(p);
		p = NULL;
	}
	if (!p) {
		const size_t bytes = ft_piece_bytes(n);
		if (posix_memalign((void **)&p, 64, bytes)) abort();
		memset(p, 0, bytes);
		p->floats = n;
	}
	return (float *)(p + 1);
}

void ft_scratch_give(float *data) {
	struct piece *p = (struct piece *)data - 1;
	lock();
	p->next = pool;
	pool = p;
	unlock();
}

size_t ft_scratch_held(void) {
	size_t bytes = 0;
	lock();
	for (struct piece *p = pool; p; p = p->next) bytes += ft_piece_bytes(p->floats);
	unlock();
	return bytes;
}

void ft_scratch_free(void) {
	lock();
	struct piece *p = pool;
	pool = NULL;
	unlock();
	while (p) {
		struct piece *next = p->next;
		free(p);
		p = next;
	}
}

// Copies rows [i0, i0+rows) and steps [k0, k1) of A to a panel [MR][FT_KS]; missing rows are 0.
static void pack_rows(float *out, const float *a, int64_t lda, int64_t i0, int64_t rows, int64_t k0, int64_t k1, int mr) {
	for (int64_t r = 0; r < mr; r++) {
		if (r < rows) memcpy(out + r * FT_KS, a + (i0 + r) * lda + k0, (size_t)(k1 - k0) * 4);
		else memset(out + r * FT_KS, 0, (size_t)(k1 - k0) * 4);
	}
}

// The next panel of A is asked for a few rows at a time, between the tiles of this one.
static void prefetch_row(const float *p, int64_t n) {
	for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(p + i);
}

// A tile at the border of C goes through a buffer of the full size.
static void border_tile(const struct ft_simd *v, int64_t k, const float *a, const float *b, float *c, int64_t ldc,
	int64_t rows, int64_t cols, bool add) {
	_Alignas(64) float t[FT_MR_MAX * FT_NR_MAX];
	v->tile(k, a, b, t, v->nr, false);
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++) c[i * ldc + j] = add ? c[i * ldc + j] + t[i * v->nr + j] : t[i * v->nr + j];
}

// Rows [i0, i1) of C, columns [j0, j1), steps [k0, k1), with B packed in b.
static void multiply_block(const struct ft_simd *v, int64_t i0, int64_t i1, int64_t j0, int64_t j1, int64_t k0, int64_t k1,
	const float *a, int64_t lda, const float *b, float *panel, float *c, int64_t ldc) {
	for (int64_t i = i0; i < i1; i += v->mr) {
		const int64_t rows = ft_min(v->mr, i1 - i);
		pack_rows(panel, a, lda, i, rows, k0, k1, v->mr);
		int64_t ahead = i + v->mr;
		const int64_t ahead_end = ft_min(i1, i + 2 * v->mr), ahead_step = (v->mr * v->nr + j1 - j0 - 1) / (j1 - j0);
		for (int64_t j = j0; j < j1; j += v->nr) {
			for (int64_t e = ft_min(ahead_end, ahead + ahead_step); ahead < e; ahead++) prefetch_row(a + ahead * lda + k0, k1 - k0);
			const int64_t cols = ft_min(v->nr, j1 - j);
			const float *bp = b + (j - j0) * (k1 - k0);
			float *ct = c + i * ldc + j;
			if (rows == v->mr && cols == v->nr) v->tile(k1 - k0, panel, bp, ct, ldc, k0 > 0);
			else border_tile(v, k1 - k0, panel, bp, ct, ldc, rows, cols, k0 > 0);
		}
	}
}

// Threads share C as a grid of `across` ranges of columns and nth/across ranges of rows. A column range costs its thread
// the production of B, a row range does not, so columns are split first; rows only where columns are too few.
static int columns_across(int64_t col_tiles, int64_t row_tiles, int nth) {
	int best = nth;
	double best_cost = 1e300;
	for (int across = nth; across >= 1; across--) {
		if (nth % across) continue;
		const int down = nth / across;
		const double cost = (double)((col_tiles + across - 1) / across) * (double)((row_tiles + down - 1) / down + 2);
		if (cost < best_cost) best_cost = cost, best = across;
	}
	return best;
}

// Columns of a block of B: where the second-level cache is known to be large, more than v->nc, so that A, which often
// comes from the third level, passes by less often.
static int64_t block_columns(const struct ft_simd *v) {
#ifdef _SC_LEVEL2_CACHE_SIZE
	const size_t bytes = 4 * (size_t)FT_KC * FT_NC_MAX;
	if (sysconf(_SC_LEVEL2_CACHE_SIZE) > (long)(bytes + bytes / 2)) return FT_NC_MAX / v->nr * v->nr;
#endif
	return v->nc;
}

size_t ft_gemm_scratch(const struct ft_simd *v, const struct ft_source *b) {
	return (size_t)(block_columns(v) * FT_KC + FT_MR_MAX * FT_KS) + b->work;
}

void ft_gemm(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const struct ft_source *b, float *c, int64_t ldc,
	int ith, int nth) {
	const struct ft_simd *v = ft_best_simd();
	const int64_t cols = (n + v->nr - 1) / v->nr, rows = (m + v->mr - 1) / v->mr;
	const int across = columns_across(cols, rows, nth), down = nth / across;
	const int64_t j_from = cols * (ith % across) / across * v->nr, j_to = ft_min(n, cols * (ith % across + 1) / across * v->nr);
	const int64_t i_from = rows * (ith / across) / down * v->mr, i_to = ft_min(m, rows * (ith / across + 1) / down * v->mr);
	if (j_from >= j_to || i_from >= i_to) return;

	const int64_t blocks = (k + FT_KC - 1) / FT_KC;
	const int64_t kc = ft_min(FT_KC / b->k_align * b->k_align, ft_up((k + blocks - 1) / blocks, b->k_align));
	const int64_t nc = block_columns(v);
	float *packed = ft_scratch_take(ft_gemm_scratch(v, b));
	float *panel = packed + nc * FT_KC, *work = panel + FT_MR_MAX * FT_KS;
	for (int64_t j = j_from; j < j_to;) {
		const int64_t next = ft_min(j_to, (j / nc + 1) * nc);
		for (int64_t p = 0; p < k; p += kc) {
			const int64_t q = ft_min(k, p + kc);
			b->panels(b, v, p, q, j, next, packed, work);
			multiply_block(v, i_from, i_to, j, next, p, q, a, lda, packed, panel, c, ldc);
		}
		j = next;
	}
	ft_scratch_give(packed);
}
