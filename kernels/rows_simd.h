// The row operations of struct ft_simd, included by gemm_simd.h.

// e^x for |x| ≤ 87, e^±87 beyond, NaN for NaN. x = n·ln 2 + r with |r| ≤ ln 2/2, ln 2 in two parts so that r is exact to 1e-9;
// e^r by its Taylor polynomial of degree 7, whose remainder is below 5.3e-9. Relative error below 2e-7 (1.7 ulp).
FT_INLINE vec vexp(vec x) {
	const vec lo = (vec){ 0 } - 87.0f, hi = (vec){ 0 } + 87.0f;
	ivec below = (ivec)(x < lo), above = (ivec)(x > hi);
	x = (vec)(((ivec)x & ~below & ~above) | ((ivec)lo & below) | ((ivec)hi & above));
	const vec shift = (vec){ 0 } + 12583039.0f; // 1.5·2^23 + 127: adding it leaves the bits of 2^n's exponent lowest
	const vec t = x * 1.44269504f + shift;
	const vec n = t - shift;
	const vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
	vec p = r * (1.0f / 5040) + 1.0f / 720;
	p = p * r + 1.0f / 120;
	p = p * r + 1.0f / 24;
	p = p * r + 1.0f / 6;
	p = p * r + 0.5f;
	p = p * (r * r) + r + 1.0f;
	return p * (vec)((ivec)t << 23); // times 2^n, not added to the exponent, so that NaN stays NaN
}

// Loads and stores n − i < FT_LANES floats; missing ones read as `fill`.
FT_INLINE vec load_tail(const float *p, int64_t count, float fill) {
	vec v = (vec){ 0 } + fill;
	memcpy(&v, p, (size_t)count * 4);
	return v;
}
FT_INLINE void store_tail(float *p, int64_t count, vec v) { memcpy(p, &v, (size_t)count * 4); }

FT_INLINE vec vmax(vec a, vec b) {
	const ivec first = (ivec)(a > b);
	return (vec)(((ivec)a & first) | ((ivec)b & ~first));
}

FT_INLINE float lane_max(vec v) {
	float m = v[0];
	FT_UNROLL for (int i = 1; i < FT_LANES; i++) m = v[i] > m ? v[i] : m;
	return m;
}

// The maximum m of a row and Σ exp(x − m), block by block: a block is read from memory once and its terms are summed in
// F32, the blocks' sums in F64, rescaled when a later block has a greater maximum.
FT_FUNC double exp_sum(const float *x, int64_t n, float *max) {
	enum { BLOCK = 1024 };
	double sum = 0;
	float m = x[0];
	for (int64_t from = 0; from < n; from += BLOCK) {
		const float *p = x + from;
		const int64_t count = n - from < BLOCK ? n - from : BLOCK, whole = count / FT_LANES * FT_LANES;
		vec top = (vec){ 0 } + m;
		for (int64_t i = 0; i < whole; i += FT_LANES) top = vmax(top, LOAD(p + i));
		if (whole < count) top = vmax(top, load_tail(p + whole, count - whole, m));
		const float block_max = lane_max(top);
		if (block_max > m) {
			sum *= exp((double)m - (double)block_max);
			m = block_max;
		}
		const float shift = m == -INFINITY ? 0 : m; // −∞ less −∞ is no number
		vec acc = (vec){ 0 };
		for (int64_t i = 0; i < whole; i += FT_LANES) acc += vexp(LOAD(p + i) - shift);
		sum += lane_sum(acc);
		if (whole < count) {
			const vec e = vexp(load_tail(p + whole, count - whole, m) - shift);
			for (int64_t i = 0; i < count - whole; i++) sum += e[i];
		}
	}
	*max = m;
	return sum;
}

// y = scale·exp(x − max).
FT_FUNC void exp_scale(const float *x, float *y, int64_t n, float max, float scale) {
	int64_t i = 0;
	for (; i + FT_LANES <= n; i += FT_LANES) STORE(y + i, vexp(LOAD(x + i) - max) * scale);
	if (i < n) store_tail(y + i, n - i, vexp(load_tail(x + i, n - i, max) - max) * scale);
}

// y = w ⊙ x/r, r = √(mean(x²) + ε).
FT_FUNC void rms_norm_mul(const float *x, const float *w, float *y, int64_t n, float eps) {
	const int64_t whole = n / FT_LANES * FT_LANES;
	vec squares = (vec){ 0 };
	for (int64_t i = 0; i < whole; i += FT_LANES) squares += LOAD(x + i) * LOAD(x + i);
	double square = lane_sum(squares);
	for (int64_t i = whole; i < n; i++) square += (double)x[i] * x[i];
	const float inverse = (float)(1 / sqrt(square / (double)n + (double)eps));
	for (int64_t i = 0; i < whole; i += FT_LANES) STORE(y + i, LOAD(x + i) * inverse * LOAD(w + i));
	for (int64_t i = whole; i < n; i++) y[i] = x[i] * inverse * w[i];
}

// With g = w ⊙ dy: dx = (g − x·Σ(g·x)/(n·r²))/r.
FT_INLINE void norm_back(const float *x, const float *w, const float *dy, float *dx, int64_t n, float eps, const bool weighed) {
	const int64_t whole = n / FT_LANES * FT_LANES;
	vec squares = (vec){ 0 }, dots = (vec){ 0 };
	for (int64_t i = 0; i < whole; i += FT_LANES) {
		vec g = LOAD(dy + i);
		if (weighed) g *= LOAD(w + i);
		squares += LOAD(x + i) * LOAD(x + i);
		dots += LOAD(x + i) * g;
	}
	double square = lane_sum(squares), dot = lane_sum(dots);
	for (int64_t i = whole; i < n; i++) square += (double)x[i] * x[i], dot += (double)x[i] * dy[i] * (weighed ? w[i] : 1);
	const double r2 = square / (double)n + (double)eps;
	const float inverse = (float)(1 / sqrt(r2)), factor = (float)(dot / ((double)n * r2));
	for (int64_t i = 0; i < whole; i += FT_LANES) {
		vec g = LOAD(dy + i);
		if (weighed) g *= LOAD(w + i);
		STORE(dx + i, (g - LOAD(x + i) * factor) * inverse);
	}
	for (int64_t i = whole; i < n; i++) dx[i] = (dy[i] * (weighed ? w[i] : 1) - x[i] * factor) * inverse;
}

FT_FUNC void rms_norm_back(const float *x, const float *w, const float *dy, float *dx, int64_t n, float eps) {
	if (w) norm_back(x, w, dy, dx, n, eps, true);
	else norm_back(x, w, dy, dx, n, eps, false);
}

// The mean of a row and 1/r, r = √(variance + ε). The variance is of what differs from the mean, so that a large mean takes no
// digits from it.
FT_INLINE float layer_moments(const float *x, int64_t n, float eps, double *inverse) {
	const int64_t whole = n / FT_LANES * FT_LANES;
	vec sums = (vec){ 0 }, squares = (vec){ 0 };
	for (int64_t i = 0; i < whole; i += FT_LANES) sums += LOAD(x + i);
	double sum = lane_sum(sums);
	for (int64_t i = whole; i < n; i++) sum += x[i];
	const float mean = (float)(sum / (double)n);
	for (int64_t i = 0; i < whole; i += FT_LANES) squares += (LOAD(x + i) - mean) * (LOAD(x + i) - mean);
	double square = lane_sum(squares);
	for (int64_t i = whole; i < n; i++) square += ((double)x[i] - mean) * ((double)x[i] - mean);
	*inverse = 1 / sqrt(square / (double)n + (double)eps);
	return mean;
}

// y = w ⊙ (x − mean(x))/r.
FT_FUNC void layer_norm_mul(const float *x, const float *w, float *y, int64_t n, float eps) {
	const int64_t whole = n / FT_LANES * FT_LANES;
	double inverse;
	const float mean = layer_moments(x, n, eps, &inverse), scale = (float)inverse;
	for (int64_t i = 0; i < whole; i += FT_LANES) STORE(y + i, (LOAD(x + i) - mean) * scale * LOAD(w + i));
	for (int64_t i = whole; i < n; i++) y[i] = (x[i] - mean) * scale * w[i];
}

// With g = w ⊙ dy and h = x − mean(x): dx = (g − mean(g) − h·mean(g ⊙ h)/r²)/r.
FT_INLINE void layer_back(const float *x, const float *w, const float *dy, float *dx, int64_t n, float eps, const bool weighed) {
	const int64_t whole = n / FT_LANES * FT_LANES;
	double inverse;
	const float mean = layer_moments(x, n, eps, &inverse);
	vec sums = (vec){ 0 }, dots = (vec){ 0 };
	for (int64_t i = 0; i < whole; i += FT_LANES) {
		vec g = LOAD(dy + i);
		if (weighed) g *= LOAD(w + i);
		sums += g;
		dots += g * (LOAD(x + i) - mean);
	}
	double sum = lane_sum(sums), dot = lane_sum(dots);
	for (int64_t i = whole; i < n; i++) {
		const double g = (double)dy[i] * (weighed ? w[i] : 1);
		sum += g, dot += g * ((double)x[i] - mean);
	}
	const float shift = (float)(sum / (double)n), factor = (float)(dot / (double)n * inverse * inverse), scale = (float)inverse;
	for (int64_t i = 0; i < whole; i += FT_LANES) {
		vec g = LOAD(dy + i);
		if (weighed) g *= LOAD(w + i);
		STORE(dx + i, (g - shift - (LOAD(x + i) - mean) * factor) * scale);
	}
	for (int64_t i = whole; i < n; i++) dx[i] = (dy[i] * (weighed ? w[i] : 1) - shift - (x[i] - mean) * factor) * scale;
}

FT_FUNC void layer_norm_back(const float *x, const float *w, const float *dy, float *dx, int64_t n, float eps) {
	if (w) layer_back(x, w, dy, dx, n, eps, true);
	else layer_back(x, w, dy, dx, n, eps, false);
}

#if FT_LANES == 16
#define SWAP(v) FT_SHUFFLE(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#elif FT_LANES == 8
#define SWAP(v) FT_SHUFFLE(v, v, 1, 0, 3, 2, 5, 4, 7, 6)
#else
#define SWAP(v) FT_SHUFFLE(v, v, 1, 0, 3, 2)
#endif

// A rotation of the pairs (x[2i], x[2i+1]) or (x[i], x[i + n/2]): y = x ⊙ c + (x with its pairs exchanged) ⊙ s.
FT_FUNC void rotate_pairs(const float *x, const float *c, const float *s, float *y, int64_t n) {
	int64_t i = 0;
	for (; i + FT_LANES <= n; i += FT_LANES) {
		const vec v = LOAD(x + i);
		STORE(y + i, v * LOAD(c + i) + SWAP(v) * LOAD(s + i));
	}
	for (; i < n; i += 2) {
		const float a = x[i], b = x[i + 1];
		y[i] = a * c[i] + b * s[i];
		y[i + 1] = b * c[i + 1] + a * s[i + 1];
	}
}

FT_FUNC void rotate_halves(const float *x, const float *c, const float *s, float *y, int64_t n) {
	const int64_t h = n / 2;
	int64_t i = 0;
	for (; i + FT_LANES <= h; i += FT_LANES) {
		const vec a = LOAD(x + i), b = LOAD(x + h + i);
		STORE(y + i, a * LOAD(c + i) + b * LOAD(s + i));
		STORE(y + h + i, b * LOAD(c + h + i) + a * LOAD(s + h + i));
	}
	for (; i < h; i++) {
		const float a = x[i], b = x[h + i];
		y[i] = a * c[i] + b * s[i];
		y[h + i] = b * c[h + i] + a * s[h + i];
	}
}

// y = softmax(scale·x + mask): dx = scale·y ⊙ (dy − Σ dy·y).
FT_FUNC void soft_max_back(const float *y, const float *dy, float *dx, int64_t n, float scale) {
	const int64_t whole = n / FT_LANES * FT_LANES;
	vec dots = (vec){ 0 };
	for (int64_t i = 0; i < whole; i += FT_LANES) dots += LOAD(y + i) * LOAD(dy + i);
	double sum = lane_sum(dots);
	for (int64_t i = whole; i < n; i++) sum += (double)y[i] * dy[i];
	const float dot = (float)sum;
	for (int64_t i = 0; i < whole; i += FT_LANES) STORE(dx + i, (LOAD(dy + i) - dot) * LOAD(y + i) * scale);
	for (int64_t i = whole; i < n; i++) dx[i] = (dy[i] - dot) * y[i] * scale;
}

// y = silu(g) ⊙ u, σ = 1/(1 + e^−g): du = dy·g·σ, dg = dy·u·σ·(1 + g·(1 − σ)).
FT_INLINE void swiglu_vec(vec g, vec u, vec dy, vec *dg, vec *du) {
	const vec sigma = 1.0f / (1.0f + vexp(-g));
	const vec silu = g * sigma;
	*du = dy * silu;
	*dg = dy * u * (sigma + silu - silu * sigma);
}

FT_FUNC void swiglu_back(const float *g, const float *u, const float *dy, float *dg, float *du, int64_t n) {
	int64_t i = 0;
	vec a, b;
	for (; i + FT_LANES <= n; i += FT_LANES) {
		swiglu_vec(LOAD(g + i), LOAD(u + i), LOAD(dy + i), &a, &b);
		STORE(dg + i, a);
		STORE(du + i, b);
	}
	if (i < n) {
		swiglu_vec(load_tail(g + i, n - i, 0), load_tail(u + i, n - i, 0), load_tail(dy + i, n - i, 0), &a, &b);
		store_tail(dg + i, n - i, a);
		store_tail(du + i, n - i, b);
	}
}

// The nearest half-precision number, of |x| below 2^16. Below 2^−14 those are the multiples of 2^−24, which is what the last bit of
// numbers between ½ and 1 stands for.
FT_INLINE vec round_half(vec x) {
	const ivec bits = (ivec)x, low = (ivec)(x < 0x1p-14f) & (ivec)(x > -0x1p-14f);
	const ivec normal = (bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF;
	return (vec)(((ivec)((x + 0.75f) - 0.75f) & low) | (normal & ~low));
}

// y = ½x·(1 + tanh u), u = k·(x + a·x³): with σ = ½(1 + tanh u) = 1/(1 + e^−2u) y = x·σ, dx = dy·(σ + 2x·σ·(1 − σ)·k·(1 + 3a·x²)).
static const float gelu_a = 0.044715f, gelu_k = 0.7978845608f; // k = √(2/π)

FT_INLINE vec gelu_sigma(vec x, vec x2) { return 1.0f / (1.0f + vexp(x * (x2 * (-2 * gelu_k * gelu_a) - 2 * gelu_k))); }

FT_INLINE vec gelu_slope(vec x) {
	const vec x2 = x * x, sigma = gelu_sigma(x, x2);
	return sigma + x * sigma * (1.0f - sigma) * (x2 * (6 * gelu_a * gelu_k) + 2 * gelu_k);
}

// As ggml's table has it: of a half-precision x a half-precision y, 0 up to −10 and x from 10 on.
FT_INLINE vec gelu_table(vec x) {
	const ivec left = (ivec)(x <= -10.0f), right = (ivec)(x >= 10.0f);
	const vec half = round_half(x);
	const vec y = round_half(half * gelu_sigma(half, half * half));
	return (vec)(((ivec)y & ~left & ~right) | ((ivec)x & right));
}

FT_FUNC void gelu(const float *x, float *y, int64_t n, bool table) {
	int64_t i = 0;
	if (!table) {
		for (; i + FT_LANES <= n; i += FT_LANES) STORE(y + i, LOAD(x + i) * gelu_sigma(LOAD(x + i), LOAD(x + i) * LOAD(x + i)));
		const vec last = load_tail(x + i, n - i, 0);
		store_tail(y + i, n - i, last * gelu_sigma(last, last * last));
		return;
	}
	for (; i + FT_LANES <= n; i += FT_LANES) STORE(y + i, gelu_table(LOAD(x + i)));
	if (i < n) store_tail(y + i, n - i, gelu_table(load_tail(x + i, n - i, 0)));
}

FT_FUNC void gelu_back(const float *x, const float *dy, float *dx, int64_t n) {
	int64_t i = 0;
	for (; i + FT_LANES <= n; i += FT_LANES) STORE(dx + i, LOAD(dy + i) * gelu_slope(LOAD(x + i)));
	if (i < n) store_tail(dx + i, n - i, load_tail(dy + i, n - i, 0) * gelu_slope(load_tail(x + i, n - i, 0)));
}

FT_INLINE void add_row(float *x, const float *y, int64_t n) {
	int64_t i = 0;
	for (; i + FT_LANES <= n; i += FT_LANES) STORE(x + i, LOAD(x + i) + LOAD(y + i));
	for (; i < n; i++) x[i] += y[i];
}

// Attention's rows. −∞ of a mask becomes e^−87, which is nothing beside the largest term, 1.
FT_FUNC float soft_row(float *x, const float *mask, int64_t n, float *lse) {
	const int64_t whole = n / FT_LANES * FT_LANES;
	if (mask) add_row(x, mask, n);
	vec top = (vec){ 0 } - INFINITY;
	for (int64_t i = 0; i < whole; i += FT_LANES) top = vmax(top, LOAD(x + i));
	if (whole < n) top = vmax(top, load_tail(x + whole, n - whole, -INFINITY));
	const float max = lane_max(top);
	vec acc = (vec){ 0 };
	for (int64_t i = 0; i < whole; i += FT_LANES) {
		const vec e = vexp(LOAD(x + i) - max);
		STORE(x + i, e);
		acc += e;
	}
	double sum = lane_sum(acc);
	if (whole < n) store_tail(x + whole, n - whole, vexp(load_tail(x + whole, n - whole, max) - max));
	for (int64_t i = whole; i < n; i++) sum += x[i];
	*lse = max + (float)log(sum);
	return (float)sum;
}

FT_FUNC void soft_row_back(float *x, float *dp, const float *mask, int64_t n, float lse, float dot) {
	int64_t i = 0;
	if (mask) add_row(x, mask, n);
	for (; i + FT_LANES <= n; i += FT_LANES) {
		const vec p = vexp(LOAD(x + i) - lse);
		STORE(x + i, p);
		STORE(dp + i, p * (LOAD(dp + i) - dot));
	}
	if (i == n) return;
	const vec p = vexp(load_tail(x + i, n - i, lse) - lse);
	store_tail(x + i, n - i, p);
	store_tail(dp + i, n - i, p * (load_tail(dp + i, n - i, 0) - dot));
}
