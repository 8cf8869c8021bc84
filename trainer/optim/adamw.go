package optim

import (
	"fmt"
	"math"
)

// Param describes one trained tensor. Its values are a flat []float32 of Len
// elements in ggml order (fastest dimension first); the optimizer is
// element-wise and needs no shape.
type Param struct {
	Name    string  // the factor's tensor name, such as "blk.3.attn_q.weight.dual_a"
	Len     int     // elements
	LRScale float64 // multiplies the learning rate of this tensor; 1 is neutral
	NoDecay bool    // weight decay leaves this tensor alone
	Warms   bool    // a warm-up of an adapter's ΔW is one of this tensor
}

// AdamW is the optimizer of Loshchilov and Hutter, "Decoupled Weight Decay
// Regularization" (arXiv 1711.05101), with the arithmetic of PyTorch's
// torch.optim.AdamW. With gradient g at step t = 1, 2, …:
//
//	θ ← θ·(1 − lr·λ)
//	m ← β1·m + (1 − β1)·g
//	v ← β2·v + (1 − β2)·g²
//	θ ← θ − lr/(1 − β1ᵗ) · m / (√v/√(1 − β2ᵗ) + ε)
//
// Elements are computed in float32, as there, each by itself, by as many
// goroutines as can run: the result depends on nothing but the inputs.
// Callers must not share an AdamW between goroutines.
type AdamW struct {
	beta1, beta2 float64 // decay of the first and of the second moment
	eps          float64 // ε, added to the root of the second moment
	weightDecay  float64 // λ, decoupled: never enters the moments

	params []Param
	step   int
	m, v   [][]float32 // moments, one slice of Len elements a parameter
}

// NewAdamW returns an optimizer for the given parameters at step 0 with zero
// moments, betas 0.9 and 0.999 and eps 1e-8. It allocates 8 bytes an element.
func NewAdamW(params []Param, weightDecay float64) *AdamW {
	o := &AdamW{beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: weightDecay, params: params}
	for _, p := range params {
		o.m = append(o.m, make([]float32, p.Len))
		o.v = append(o.v, make([]float32, p.Len))
	}
	return o
}

// Step updates values in place by one step at learning rate lr. values[i] and
// grads[i] belong to the i-th parameter given to NewAdamW; grads are only read.
func (o *AdamW) Step(lr float64, values, grads [][]float32) {
	MustMatch(o.params, values)
	MustMatch(o.params, grads)
	o.step++
	inPieces(values, func(p piece) {
		param := o.params[p.tensor]
		t, rate, keep := float64(o.step), lr*param.LRScale, 1.0
		if !param.NoDecay {
			keep = 1 - rate*o.weightDecay
		}
		c1, c2 := 1-math.Pow(o.beta1, t), math.Sqrt(1-math.Pow(o.beta2, t))
		o.update(p.of(values), p.of(grads), p.of(o.m), p.of(o.v), keep, rate/c1, c2)
	})
}

// update applies the rule to a piece of a tensor. All four slices have the same length.
func (o *AdamW) update(theta, grad, m, v []float32, keep, rate, c2 float64) {
	b1, b2, eps := float32(o.beta1), float32(o.beta2), float32(o.eps)
	new1, new2 := float32(1-o.beta1), float32(1-o.beta2)
	k, r, inverse := float32(keep), float32(rate), float32(1/c2)
	grad, m, v = grad[:len(theta)], m[:len(theta)], v[:len(theta)]
	for i, x := range theta {
		g := grad[i]
		mi := b1*m[i] + new1*g
		vi := b2*v[i] + new2*g*g
		m[i], v[i] = mi, vi
		theta[i] = x*k - r*mi/(float32(math.Sqrt(float64(vi)))*inverse+eps)
	}
}

// Steps returns how many steps were taken.
func (o *AdamW) Steps() int { return o.step }

// Moments returns the first and second moments, one slice a parameter. They
// are the optimizer's own memory: read them, or save them, between steps.
func (o *AdamW) Moments() (m, v [][]float32) { return o.m, o.v }

// Reset puts the optimizer back to step 0, with zero moments.
func (o *AdamW) Reset() {
	o.step = 0
	for i := range o.params {
		clear(o.m[i])
		clear(o.v[i])
	}
}

// Restore sets the number of steps taken and copies the moments in, as a
// checkpoint holds them.
func (o *AdamW) Restore(steps int, m, v [][]float32) {
	MustMatch(o.params, m)
	MustMatch(o.params, v)
	o.step = steps
	for i := range o.params {
		copy(o.m[i], m[i])
		copy(o.v[i], v[i])
	}
}

// ClipGlobalNorm scales all gradients in place so that the Euclidean norm of
// them together is at most limit, and returns the norm before that. A limit of
// 0 only measures. A norm that is not finite is returned as it is and the
// gradients stay untouched: the caller must not step on them. The sum is
// formed in float64 piece by piece, in an order that does not depend on who
// computes them.
func ClipGlobalNorm(grads [][]float32, limit float64) float64 {
	norm := math.Sqrt(sumPieces(grads, func(p piece) (sum float64) {
		for _, g := range p.of(grads) {
			sum += float64(g) * float64(g)
		}
		return sum
	}))
	if limit <= 0 || norm <= limit || math.IsNaN(norm) || math.IsInf(norm, 0) {
		return norm
	}
	scale := float32(limit / norm)
	inPieces(grads, func(p piece) {
		grad := p.of(grads)
		for i := range grad {
			grad[i] *= scale
		}
	})
	return norm
}

// MustMatch panics unless data has one slice of the right length a parameter.
// Both come from the trainer itself, so a mismatch is a bug.
func MustMatch(params []Param, data [][]float32) {
	if len(data) != len(params) {
		panic(fmt.Sprintf("optim: internal error: %d slices for %d parameters", len(data), len(params)))
	}
	for i, p := range params {
		if len(data[i]) != p.Len {
			panic(fmt.Sprintf("optim: internal error: parameter %q has %d elements, slice has %d", p.Name, p.Len, len(data[i])))
		}
	}
}
