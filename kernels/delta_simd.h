// The gated delta rule's steps of struct ft_simd, included by gemm_simd.h: one token, rows of the state by fours. What n
// numbers are read or written is padded to whole vectors.

// next = prev ⊙ decay + d·kᵀ with u = v − (prev ⊙ decay)·k, d = beta·u, and y = scale·next·q. next may be prev.
FT_FUNC void delta_step(int64_t n, int64_t rows, const struct ft_delta_token *t, const float *v, const float *prev, float *next,
	float *u, float *y) {
	for (int64_t j = 0; j < rows; j += 4, prev += 4 * n, next += 4 * n) {
		vec sums[4], read[4];
		float d[4];
		FT_UNROLL for (int r = 0; r < 4; r++) sums[r] = read[r] = (vec){ 0 };
		for (int64_t i = 0; i < n; i += FT_LANES) {
			const vec k = LOAD(t->k + i), decay = LOAD(t->decay + i);
			FT_UNROLL for (int r = 0; r < 4; r++) {
				const vec m = LOAD(prev + r * n + i) * decay;
				STORE(next + r * n + i, m);
				sums[r] += m * k;
			}
		}
		FT_UNROLL for (int r = 0; r < 4; r++) {
			u[j + r] = v[j + r] - lane_sum(sums[r]);
			d[r] = t->beta * u[j + r];
		}
		for (int64_t i = 0; i < n; i += FT_LANES) {
			const vec k = LOAD(t->k + i), q = LOAD(t->q + i);
			FT_UNROLL for (int r = 0; r < 4; r++) {
				const vec m = LOAD(next + r * n + i) + d[r] * k;
				STORE(next + r * n + i, m);
				read[r] += m * q;
			}
		}
		FT_UNROLL for (int r = 0; r < 4; r++) y[j + r] = t->scale * lane_sum(read[r]);
	}
}

// The step backwards. a is dL/d(next) on entry, without what y gives, and dL/d(prev) on return. dq, dk, ddecay and the
// result, dL/dbeta, are sums over the rows, of which the first three are added to.
FT_FUNC float delta_step_back(int64_t n, int64_t rows, const struct ft_delta_token *t, const float *prev, const float *u,
	const float *dy, float *a, float *dv, float *dq, float *dk, float *ddecay) {
	double dbeta = 0;
	for (int64_t j = 0; j < rows; j += 4, prev += 4 * n, a += 4 * n) {
		vec sums[4];
		float y[4], d[4], c[4];
		FT_UNROLL for (int r = 0; r < 4; r++) sums[r] = (vec){ 0 }, y[r] = t->scale * dy[j + r], d[r] = t->beta * u[j + r];
		for (int64_t i = 0; i < n; i += FT_LANES) {
			const vec k = LOAD(t->k + i), q = LOAD(t->q + i), decay = LOAD(t->decay + i);
			vec to_q = LOAD(dq + i), to_k = LOAD(dk + i);
			FT_UNROLL for (int r = 0; r < 4; r++) {
				const vec x = LOAD(a + r * n + i) + y[r] * q;
				STORE(a + r * n + i, x);
				sums[r] += x * k;
				to_q += y[r] * (LOAD(prev + r * n + i) * decay + d[r] * k);
				to_k += d[r] * x;
			}
			STORE(dq + i, to_q);
			STORE(dk + i, to_k);
		}
		FT_UNROLL for (int r = 0; r < 4; r++) {
			const float sum = lane_sum(sums[r]);
			dbeta += (double)sum * u[j + r];
			dv[j + r] = c[r] = t->beta * sum;
		}
		for (int64_t i = 0; i < n; i += FT_LANES) {
			const vec k = LOAD(t->k + i), decay = LOAD(t->decay + i);
			vec to_k = LOAD(dk + i), to_decay = LOAD(ddecay + i);
			FT_UNROLL for (int r = 0; r < 4; r++) {
				const vec x = LOAD(a + r * n + i) - c[r] * k, p = LOAD(prev + r * n + i);
				to_k -= c[r] * (p * decay);
				to_decay += x * p;
				STORE(a + r * n + i, x * decay);
			}
			STORE(dk + i, to_k);
			STORE(ddecay + i, to_decay);
		}
	}
	return (float)dbeta;
}
