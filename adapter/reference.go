package adapter

// This file is the arbiter for the native engine: one layer forward and
// backward in plain loops and float64, as the formulas are written. Legend:
// W [n_in, n_out], X [n_in, T], Y [n_out, T], G = dL/d(ΔW) [n_in, n_out].

// Forward returns y = (W + ΔW)·x, [n_out, T], for a weight w [n_in, n_out] and
// activations x [n_in, T]. A zero Mat as w leaves the weight out, y = ΔW·x, and is
// nothing for a DoRA.
func Forward(f Factors, w, x Mat) Mat {
	nIn, nOut := f.Shape()
	x.check("x", nIn, x.NE[1])
	sum := plusDelta(f, w)
	y := NewMat(nOut, x.NE[1])
	for t := range x.NE[1] {
		for o := range nOut {
			acc := 0.0
			for i, v := range x.Row(t) {
				acc += sum[o*nIn+i] * float64(v)
			}
			y.Row(t)[o] = float32(acc)
		}
	}
	return y
}

// Backward takes dy = dL/dy [n_out, T] and returns dx [n_in, T] and the
// gradient of every factor, in the order and the shapes of [Factors.Matrices].
func Backward(f Factors, w, x, dy Mat) (dx Mat, grads []Mat) {
	nIn, nOut := f.Shape()
	x.check("x", nIn, x.NE[1])
	dy.check("dy", nOut, x.NE[1])
	g := make([]float64, nIn*nOut)
	for t := range x.NE[1] {
		for o, d := range dy.Row(t) {
			for i, v := range x.Row(t) {
				g[o*nIn+i] += float64(d) * float64(v)
			}
		}
	}
	return inputGradient(f, w, dy), f.gradients(g, w)
}

// inputGradient returns dx = (W + ΔW)ᵀ·dy.
func inputGradient(f Factors, w, dy Mat) Mat {
	nIn, nOut := f.Shape()
	sum := plusDelta(f, w)
	dx := NewMat(nIn, dy.NE[1])
	for t := range dy.NE[1] {
		for i := range nIn {
			acc := 0.0
			for o := range nOut {
				acc += sum[o*nIn+i] * float64(dy.Row(t)[o])
			}
			dx.Row(t)[i] = float32(acc)
		}
	}
	return dx
}

// plusDelta returns W + ΔW [n_in, n_out].
func plusDelta(f Factors, w Mat) []float64 {
	sum := f.reference(w)
	if w.Data == nil {
		return sum
	}
	nIn, nOut := f.Shape()
	w.check("W", nIn, nOut)
	for i, v := range w.Data {
		sum[i] += float64(v)
	}
	return sum
}

// product returns B·A [n_in, n_out] for A [n_in, r] and B [r, n_out].
func product(a, b Mat) []float64 {
	nIn, r, nOut := a.NE[0], a.NE[1], b.NE[1]
	p := make([]float64, nIn*nOut)
	for o := range nOut {
		for k := range r {
			for i, v := range a.Row(k) {
				p[o*nIn+i] += float64(b.Row(o)[k]) * float64(v)
			}
		}
	}
	return p
}

// productGradients takes dp = dL/d(B·A) [n_in, n_out] apart into
// dA = Bᵀ·dp [n_in, r] and dB = dp·Aᵀ [r, n_out].
func productGradients(dp []float64, a, b Mat) (da, db Mat) {
	nIn, r, nOut := a.NE[0], a.NE[1], b.NE[1]
	da, db = NewMat(nIn, r), NewMat(r, nOut)
	for k := range r {
		row := make([]float64, nIn)
		for o := range nOut {
			acc := 0.0
			for i, v := range a.Row(k) {
				d := dp[o*nIn+i]
				row[i] += float64(b.Row(o)[k]) * d
				acc += d * float64(v)
			}
			db.Row(o)[k] = float32(acc)
		}
		for i, v := range row {
			da.Row(k)[i] = float32(v)
		}
	}
	return da, db
}
