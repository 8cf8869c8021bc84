// The Dual LoRA loops of struct ft_simd, included by gemm_simd.h. Every sum over the rank runs in the same order in each
// of them, so that M and N, and with them every mask, are the same to the bit in the forward and the backward pass.

// sum[q] = Σ_r f[r·fs]·w[q·q_step + r·r_step] for G rows q.
#define FT_RANK_SUMS(G, sum, f, fs, rank, w, q_step, r_step) do { \
		FT_UNROLL for (int q = 0; q < (G); q++) (sum)[q] = (vec){ 0 }; \
		for (int64_t r = 0; r < (rank); r++) { \
			const vec fv = LOAD((f) + r * (fs)); \
			FT_UNROLL for (int q = 0; q < (G); q++) (sum)[q] += (w)[q * (q_step) + r * (r_step)] * fv; \
		} \
	} while (0)

// x with the sign of n: x where n > 0, −x elsewhere.
FT_INLINE vec with_sign(vec x, vec n) {
	return (vec)((ivec)x ^ (~(ivec)(n > 0) & INT32_MIN));
}

FT_INLINE vec relu(vec m) { return (vec)((ivec)m & (ivec)(m > 0)); }

// 0 where |n| > limit, else x.
FT_INLINE vec within(vec x, vec n, float limit) { return (vec)((ivec)x & ~((ivec)(n > limit) | (ivec)(n < -limit))); }

// Rows of a panel whose M and N are in registers at once.
#if FT_LANES == 16 || defined(__aarch64__)
enum { FT_ROWS = 4 };
#else
enum { FT_ROWS = 2 };
#endif
// Counts to a constant: a compiler that unrolls before it knows G unrolls nothing.
#define FT_EACH_ROW(q) FT_UNROLL for (int q = 0; q < FT_ROWS; q++) if (q < G)

// p[q] = Σ_r left[r·FT_AK + q]·right[r] for G rows q and a row of a panel.
FT_INLINE void rank_products(const int G, vec p[FT_ROWS][FT_NV], const float *left, const float *right, int64_t rank) {
	FT_EACH_ROW(q)
		FT_UNROLL for (int v = 0; v < FT_NV; v++) p[q][v] = (vec){ 0 };
	for (int64_t r = 0; r < rank; r++, left += FT_AK, right += FT_NR)
		FT_UNROLL for (int v = 0; v < FT_NV; v++) {
			const vec rv = LOAD(right + v * FT_LANES);
			FT_EACH_ROW(q) p[q][v] += left[q] * rv;
		}
}

FT_INLINE void add_delta_rows(const int G, const float *m_left, const float *m_right, int64_t r1, const float *n_left,
	const float *n_right, int64_t r2, float s, float *out) {
	vec m[FT_ROWS][FT_NV], n[FT_ROWS][FT_NV];
	rank_products(G, m, m_left, m_right, r1);
	rank_products(G, n, n_left, n_right, r2);
	FT_EACH_ROW(q)
		FT_UNROLL for (int v = 0; v < FT_NV; v++) {
			float *p = out + q * FT_NR + v * FT_LANES;
			STORE(p, LOAD(p) + with_sign(s * relu(m[q][v]), n[q][v]));
		}
}

FT_FUNC void add_delta(int64_t steps, const float *m_left, const float *m_right, int64_t r1, const float *n_left,
	const float *n_right, int64_t r2, float s, float *out) {
	int64_t q = 0;
	for (; q + FT_ROWS <= steps; q += FT_ROWS) add_delta_rows(FT_ROWS, m_left + q, m_right, r1, n_left + q, n_right, r2, s, out + q * FT_NR);
	for (; q < steps; q++) add_delta_rows(1, m_left + q, m_right, r1, n_left + q, n_right, r2, s, out + q * FT_NR);
}

enum { FT_HALF = FT_MR / 2 };

// dM = s·G ⊙ sign(N) ⊙ [M ≥ 0] over g, dN = s·G ⊙ ReLU(M) ⊙ [|N| ≤ limit] to dn. bt [r1][FT_AK] and dt [r2][FT_AK] hold B and D of the
// tile's rows step by step.
FT_FUNC void through_delta(int64_t n, float *g, float *dn, int64_t stride, const float *a, const float *c,
	const float *bt, int64_t r1, const float *dt, int64_t r2, float s, float limit) {
	for (int half = 0; half < 2; half++, g += FT_HALF * stride, dn += FT_HALF * stride, bt += FT_HALF, dt += FT_HALF)
		for (int64_t i = 0; i < n; i += FT_LANES) {
			vec m[FT_HALF], nn[FT_HALF];
			FT_RANK_SUMS(FT_HALF, m, a + i, stride, r1, bt, 1, FT_AK);
			FT_RANK_SUMS(FT_HALF, nn, c + i, stride, r2, dt, 1, FT_AK);
			FT_UNROLL for (int q = 0; q < FT_HALF; q++) {
				const vec sg = s * LOAD(g + q * stride + i);
				STORE(g + q * stride + i, (vec)((ivec)with_sign(sg, nn[q]) & (ivec)(m[q] >= 0)));
				STORE(dn + q * stride + i, within(sg * relu(m[q]), nn[q], limit));
			}
		}
}

// da[r] += Σ_q bt[r][q]·dm[q], two ranks at a time.
FT_FUNC void left_grads(int64_t n, const float *dm, int64_t stride, const float *bt, int64_t rank, float *da) {
	for (int64_t i = 0; i < n; i += FT_LANES) {
		int64_t r = 0;
		for (; r + 4 <= rank; r += 4) {
			vec acc[4];
			FT_UNROLL for (int k = 0; k < 4; k++) acc[k] = LOAD(da + (r + k) * stride + i);
			FT_UNROLL for (int q = 0; q < FT_MR; q++) {
				const vec v = LOAD(dm + q * stride + i);
				FT_UNROLL for (int k = 0; k < 4; k++) acc[k] += bt[(r + k) * FT_AK + q] * v;
			}
			FT_UNROLL for (int k = 0; k < 4; k++) STORE(da + (r + k) * stride + i, acc[k]);
		}
		for (; r < rank; r++) {
			vec acc = LOAD(da + r * stride + i);
			FT_UNROLL for (int q = 0; q < FT_MR; q++) acc += bt[r * FT_AK + q] * LOAD(dm + q * stride + i);
			STORE(da + r * stride + i, acc);
		}
	}
}

FT_INLINE float lane_sum(vec v) {
	vec4 part[FT_LANES / 4], sum;
	memcpy(part, &v, sizeof v);
	sum = part[0];
	FT_UNROLL for (int i = 1; i < FT_LANES / 4; i++) sum += part[i];
	return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// db[r][q] += Σ_i dm[q][i]·a[r][i], step by step as bt.
FT_FUNC void right_grads(int64_t n, const float *dm, int64_t stride, const float *a, int64_t rank, float *db) {
	for (int64_t r = 0; r < rank; r++)
		for (int q0 = 0; q0 < FT_MR; q0 += FT_HALF) {
			vec acc[FT_HALF];
			FT_UNROLL for (int q = 0; q < FT_HALF; q++) acc[q] = (vec){ 0 };
			for (int64_t i = 0; i < n; i += FT_LANES) {
				const vec v = LOAD(a + r * stride + i);
				FT_UNROLL for (int q = 0; q < FT_HALF; q++) acc[q] += v * LOAD(dm + (q0 + q) * stride + i);
			}
			FT_UNROLL for (int q = 0; q < FT_HALF; q++) db[r * FT_AK + q0 + q] += lane_sum(acc[q]);
		}
}

FT_FUNC void dual_grads(int64_t n, float *g, float *dn, int64_t stride, const float *a, const float *c, float *da, float *dc,
	const float *bt, int64_t r1, const float *dt, int64_t r2, float s, float limit, float *db, float *dd) {
	through_delta(n, g, dn, stride, a, c, bt, r1, dt, r2, s, limit);
	left_grads(n, g, stride, bt, r1, da);
	left_grads(n, dn, stride, dt, r2, dc);
	right_grads(n, g, stride, a, r1, db);
	right_grads(n, dn, stride, c, r2, dd);
}

// dM as above, for M = b·a of one rank, exists in registers: da += Σ_q bt[q]·dm[q], db[q] += Σ_i dm[q][i]·a[i].
FT_FUNC void thin_grads(int64_t n, const float *g, int64_t stride, const float *a, const float *c, float *da, const float *bt,
	const float *dt, int64_t r2, float s, float *db) {
	for (int half = 0; half < 2; half++, g += FT_HALF * stride, bt += FT_HALF, dt += FT_HALF, db += FT_HALF) {
		vec sums[FT_HALF];
		FT_UNROLL for (int q = 0; q < FT_HALF; q++) sums[q] = (vec){ 0 };
		for (int64_t i = 0; i < n; i += FT_LANES) {
			vec nn[FT_HALF], av = LOAD(a + i), dav = LOAD(da + i);
			FT_RANK_SUMS(FT_HALF, nn, c + i, stride, r2, dt, 1, FT_AK);
			FT_UNROLL for (int q = 0; q < FT_HALF; q++) {
				const vec dm = (vec)((ivec)with_sign(s * LOAD(g + q * stride + i), nn[q]) & (ivec)(bt[q] * av >= 0));
				dav += bt[q] * dm;
				sums[q] += av * dm;
			}
			STORE(da + i, dav);
		}
		FT_UNROLL for (int q = 0; q < FT_HALF; q++) db[q] += lane_sum(sums[q]);
	}
}
