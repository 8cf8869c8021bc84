// The LoRA loops of struct ft_batch_simd, included by batch_simd.h. A factor's ranks go by fours.
#if FT_LANES == 16 || defined(__aarch64__)
enum { FT_WIDE = 6, FT_TOGETHER = 6 }; // 24 of 32 registers hold sums
#else
enum { FT_WIDE = 3, FT_TOGETHER = 3 }; // 12 of 16
#endif

FT_INLINE vec4 part_sum(vec v) {
	vec4 part[FT_LANES / 4], sum;
	memcpy(part, &v, sizeof v);
	sum = part[0];
	FT_UNROLL for (int i = 1; i < FT_LANES / 4; i++) sum += part[i];
	return sum;
}

// The sums of the lanes of four vectors.
FT_INLINE vec4 lane_sums(const vec v[4]) {
	const vec4 a = part_sum(v[0]), b = part_sum(v[1]), c = part_sum(v[2]), d = part_sum(v[3]);
	const vec4 ab = FT_SHUFFLE(a, b, 0, 4, 1, 5) + FT_SHUFFLE(a, b, 2, 6, 3, 7);
	const vec4 cd = FT_SHUFFLE(c, d, 0, 4, 1, 5) + FT_SHUFFLE(c, d, 2, 6, 3, 7);
	return FT_SHUFFLE(ab, cd, 0, 1, 4, 5) + FT_SHUFFLE(ab, cd, 2, 3, 6, 7);
}

// Counts to a constant: a compiler that unrolls before it knows G unrolls nothing.
#define FT_EACH_TOKEN(g) FT_UNROLL for (int g = 0; g < FT_TOGETHER; g++) if (g < G)

// G tokens and all ranks. The columns after the last whole vector of x are in rest, followed by zeros.
FT_INLINE void dots_of(const int G, int64_t n, const float *x, int64_t ldx, const float *f, int64_t fs, int64_t ranks, float s,
	float *out, bool add) {
	const int64_t whole = n / FT_LANES * FT_LANES;
	vec rest[FT_TOGETHER];
	for (int g = 0; g < G && whole < n; g++) {
		float padded[FT_LANES] = { 0 };
		memcpy(padded, x + g * ldx + whole, (size_t)(n - whole) * 4);
		rest[g] = LOAD(padded);
	}
	for (int64_t q = 0; q < ranks; q += 4, f += 4 * fs) {
		vec acc[FT_TOGETHER][4], fv[4];
		FT_EACH_TOKEN(g)
			FT_UNROLL for (int r = 0; r < 4; r++) acc[g][r] = (vec){ 0 };
		for (int64_t i = 0; i < whole; i += FT_LANES) {
			FT_UNROLL for (int r = 0; r < 4; r++) fv[r] = LOAD(f + r * fs + i);
			FT_EACH_TOKEN(g) {
				const vec xv = LOAD(x + g * ldx + i);
				FT_UNROLL for (int r = 0; r < 4; r++) acc[g][r] += xv * fv[r];
			}
		}
		if (whole < n) {
			FT_UNROLL for (int r = 0; r < 4; r++) fv[r] = LOAD(f + r * fs + whole);
			FT_EACH_TOKEN(g)
				FT_UNROLL for (int r = 0; r < 4; r++) acc[g][r] += rest[g] * fv[r];
		}
		FT_EACH_TOKEN(g) {
			uvec4 *p = (uvec4 *)(out + g * ranks + q);
			const vec4 sums = s * lane_sums(acc[g]);
			if (add) *p += sums;
			else *p = sums;
		}
	}
}

FT_FUNC void dots(int64_t tokens, int64_t n, const float *x, int64_t ldx, const float *f, int64_t fs, int64_t ranks, float s,
	float *out, bool add) {
	for (; tokens >= FT_TOGETHER; tokens -= FT_TOGETHER, x += FT_TOGETHER * ldx, out += FT_TOGETHER * ranks)
		dots_of(FT_TOGETHER, n, x, ldx, f, fs, ranks, s, out, add);
	for (; tokens > 0; tokens--, x += ldx, out += ranks) dots_of(1, n, x, ldx, f, fs, ranks, s, out, add);
}

FT_FUNC void outer(int64_t tokens, const float *x, int64_t ldx, const float *t, int64_t ldt, float *out) {
	vec acc[4][FT_WIDE];
	FT_UNROLL for (int r = 0; r < 4; r++)
		FT_UNROLL for (int v = 0; v < FT_WIDE; v++) acc[r][v] = (vec){ 0 };
	for (; tokens > 0; tokens--, x += ldx, t += ldt) {
		vec xv[FT_WIDE];
		FT_UNROLL for (int v = 0; v < FT_WIDE; v++) {
			__builtin_prefetch(x + 12 * ldx + v * FT_LANES);
			xv[v] = LOAD(x + v * FT_LANES);
		}
		FT_UNROLL for (int r = 0; r < 4; r++)
			FT_UNROLL for (int v = 0; v < FT_WIDE; v++) acc[r][v] += t[r] * xv[v];
	}
	FT_UNROLL for (int r = 0; r < 4; r++)
		FT_UNROLL for (int v = 0; v < FT_WIDE; v++) STORE(out + (r * FT_WIDE + v) * FT_LANES, acc[r][v]);
}
