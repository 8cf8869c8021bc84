// The gated delta rule's steps of struct ft_batch_simd, included by batch_simd.h: one token, rows of the state by fours. What n
// numbers are read or written is padded to whole vectors. No product is stored that is as cheap to form again.

FT_INLINE vec decay_at(const struct ft_delta_token *t, int64_t i) {
	if (t->decay) return LOAD(t->decay + i);
	return (vec){ 0 } + t->fade;
}

// next = prev ⊙ decay + d·kᵀ with u = v − (prev ⊙ decay)·k, d = beta·u, and, unless y is NULL, y = scale·next·q. next may be prev.
FT_FUNC void delta_step(int64_t n, int64_t rows, const struct ft_delta_token *t, const float *v, const float *prev, float *next,
	float *u, float *y) {
	for (int64_t j = 0; j < rows; j += 4, prev += 4 * n, next += 4 * n) {
		vec sums[4], read[4];
		FT_UNROLL for (int r = 0; r < 4; r++) sums[r] = read[r] = (vec){ 0 };
		for (int64_t i = 0; i < n; i += FT_LANES) {
			const vec k = LOAD(t->k + i) * decay_at(t, i);
			FT_UNROLL for (int r = 0; r < 4; r++) sums[r] += LOAD(prev + r * n + i) * k;
		}
		const vec4 left = *(const uvec4 *)(v + j) - lane_sums(sums), d = t->beta * left;
		*(uvec4 *)(u + j) = left;
		for (int64_t i = 0; i < n; i += FT_LANES) {
			const vec k = LOAD(t->k + i), q = LOAD(t->q + i), decay = decay_at(t, i);
			FT_UNROLL for (int r = 0; r < 4; r++) {
				const vec m = LOAD(prev + r * n + i) * decay + d[r] * k;
				STORE(next + r * n + i, m);
				if (y) read[r] += m * q;
			}
		}
		if (y) *(uvec4 *)(y + j) = t->scale * lane_sums(read);
	}
}

// The step backwards. a is dL/d(next) on entry, without what y gives, and dL/d(prev) on return. dq, dk, ddecay and the
// result, dL/dbeta, are sums over the rows, of which the first three are added to.
FT_FUNC float delta_step_back(int64_t n, int64_t rows, const struct ft_delta_token *t, const float *prev, const float *u,
	const float *dy, float *a, float *dv, float *dq, float *dk, float *ddecay) {
	double dbeta = 0;
	for (int64_t j = 0; j < rows; j += 4, prev += 4 * n, a += 4 * n) {
		vec sums[4];
		const vec4 y = t->scale * *(const uvec4 *)(dy + j), left = *(const uvec4 *)(u + j), d = t->beta * left, products = y * d;
		const float along = (products[0] + products[1]) + (products[2] + products[3]);
		FT_UNROLL for (int r = 0; r < 4; r++) sums[r] = (vec){ 0 };
		for (int64_t i = 0; i < n; i += FT_LANES) {
			const vec k = LOAD(t->k + i), q = LOAD(t->q + i);
			vec to_q = (vec){ 0 }, to_k = LOAD(dk + i);
			FT_UNROLL for (int r = 0; r < 4; r++) {
				const vec x = LOAD(a + r * n + i) + y[r] * q;
				sums[r] += x * k;
				to_k += d[r] * x;
				to_q += y[r] * LOAD(prev + r * n + i);
			}
			STORE(dq + i, LOAD(dq + i) + to_q * decay_at(t, i) + along * k);
			STORE(dk + i, to_k);
		}
		const vec4 sum = lane_sums(sums), c = t->beta * sum, of_beta = sum * left;
		dbeta += (double)((of_beta[0] + of_beta[1]) + (of_beta[2] + of_beta[3]));
		*(uvec4 *)(dv + j) = c;
		for (int64_t i = 0; i < n; i += FT_LANES) {
			const vec k = LOAD(t->k + i), q = LOAD(t->q + i), decay = decay_at(t, i);
			vec to_k = (vec){ 0 }, to_decay = LOAD(ddecay + i);
			FT_UNROLL for (int r = 0; r < 4; r++) {
				const vec x = LOAD(a + r * n + i) + y[r] * q - c[r] * k, p = LOAD(prev + r * n + i);
				to_k += c[r] * p;
				to_decay += x * p;
				STORE(a + r * n + i, x * decay);
			}
			STORE(dk + i, LOAD(dk + i) - to_k * decay);
			STORE(ddecay + i, to_decay);
		}
	}
	return (float)dbeta;
}
