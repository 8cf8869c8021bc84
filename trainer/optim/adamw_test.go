package optim

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"finetune/internal/near"
)

// adamTolerance bounds |got − want| for values near 1: the optimizer computes in
// float32 (2⁻²⁴ = 6e-8 relative a rounding) for each of ten steps, the reference
// keeps float64 throughout.
const adamTolerance = 2e-6

// referenceAdamW is the update of one scalar parameter written from the
// formulas of the paper (algorithm 2, with m̂ and v̂ spelled out) in float64.
// It shares nothing with AdamW.
type referenceAdamW struct {
	theta, m, v, decay float64
	t                  int
}

func (r *referenceAdamW) step(lr, g float64) {
	r.t++
	r.m = 0.9*r.m + 0.1*g
	r.v = 0.999*r.v + 0.001*g*g
	mHat := r.m / (1 - math.Pow(0.9, float64(r.t)))
	vHat := r.v / (1 - math.Pow(0.999, float64(r.t)))
	r.theta -= lr * (mHat/(math.Sqrt(vHat)+1e-8) + r.decay*r.theta)
}

func TestAdamWTenStepsEqualReference(t *testing.T) {
	const n, decay = 37, 0.1
	rng := rand.New(rand.NewPCG(1, 2))
	params := []Param{{Name: "a", Len: n, LRScale: 1}, {Name: "b", Len: n, LRScale: 2.5}, {Name: "c", Len: n, LRScale: 1, NoDecay: true},
		{Name: "d", Len: n, LRScale: 1}}
	values, grads := make([][]float32, len(params)), make([][]float32, len(params))
	refs := make([][n]referenceAdamW, len(params))
	for i, p := range params {
		values[i], grads[i] = make([]float32, n), make([]float32, n)
		for j := range values[i] {
			values[i][j] = float32(rng.NormFloat64())
			refs[i][j] = referenceAdamW{theta: float64(values[i][j]), decay: decay}
			if p.NoDecay {
				refs[i][j].decay = 0
			}
		}
	}
	opt := NewAdamW(params, decay)
	for step := 1; step <= 10; step++ {
		lr := 0.01 * float64(step)
		for i := range grads {
			for j := range grads[i] {
				// Magnitudes from 1e-6 to 10: eps and the bias correction both matter.
				grads[i][j] = float32(rng.NormFloat64() * math.Pow(10, float64(j%8)-6))
				refs[i][j].step(lr*params[i].LRScale, float64(grads[i][j]))
			}
		}
		opt.Step(lr, values, grads)
		for i := range values {
			for j, got := range values[i] {
				if want := refs[i][j].theta; !near.Enough(got, want, adamTolerance*max(1, math.Abs(want))) {
					t.Fatalf("step %d: %s[%d] = %.9g, want %.9g", step, params[i].Name, j, got, want)
				}
			}
		}
	}
}

// At step 1 the bias corrections cancel the betas: m̂ = g and v̂ = g², so the
// parameter moves by lr·g/(|g| + eps), that is lr against the gradient's sign.
func TestAdamWFirstStepByHand(t *testing.T) {
	values := [][]float32{{1, -2, 3, 0.5}}
	grads := [][]float32{{0.5, -4, 0, 1e-8}}
	NewAdamW([]Param{{Name: "w", Len: 4, LRScale: 1}}, 0).Step(0.1, values, grads)
	want := []float32{0.9, -1.9, 3, 0.45} // the last: 0.1 · 1e-8/(1e-8 + 1e-8)
	for i, got := range values[0] {
		if !near.Enough(got, want[i], adamTolerance) {
			t.Errorf("element %d = %v, want %v", i, got, want[i])
		}
	}
}

func TestAdamWDecayIsDecoupled(t *testing.T) {
	decayed, plain := [][]float32{{2}}, [][]float32{{2}}
	grads := [][]float32{{0}}
	params := []Param{{Name: "w", Len: 1, LRScale: 1}}
	opt := NewAdamW(params, 0.5)
	opt.Step(0.1, decayed, grads)
	if got, want := decayed[0][0], float32(2*(1-0.1*0.5)); got != want {
		t.Errorf("zero gradient: parameter = %v, want %v", got, want)
	}
	if m, v := opt.Moments(); m[0][0] != 0 || v[0][0] != 0 {
		t.Errorf("moments after a zero gradient = %v, %v, want 0, 0", m[0][0], v[0][0])
	}
	NewAdamW(params, 0).Step(0.1, plain, grads)
	if plain[0][0] != 2 {
		t.Errorf("no decay: parameter = %v, want 2", plain[0][0])
	}
}

func TestAdamWRestoreContinuesBitForBit(t *testing.T) {
	const n = 16
	params := []Param{{Name: "w", Len: n, LRScale: 1}}
	rng := rand.New(rand.NewPCG(3, 4))
	gradients := make([][][]float32, 6)
	for i := range gradients {
		gradients[i] = [][]float32{make([]float32, n)}
		for j := range n {
			gradients[i][0][j] = float32(rng.NormFloat64())
		}
	}
	whole, halves := [][]float32{make([]float32, n)}, [][]float32{make([]float32, n)}
	opt, first := NewAdamW(params, 0.01), NewAdamW(params, 0.01)
	for _, g := range gradients {
		opt.Step(1e-2, whole, g)
	}
	for _, g := range gradients[:3] {
		first.Step(1e-2, halves, g)
	}
	second := NewAdamW(params, 0.01)
	m, v := first.Moments()
	second.Restore(first.Steps(), m, v)
	for _, g := range gradients[3:] {
		second.Step(1e-2, halves, g)
	}
	if !slices.Equal(whole[0], halves[0]) {
		t.Errorf("restored run = %v, want %v", halves[0], whole[0])
	}
}

// The work is shared in pieces; neither their computer nor their number shows in the result.
func TestOptimizerDoesNotDependOnTheThreads(t *testing.T) {
	const n = 5*pieceElements + 17
	step := func(threads int) (values, grads [][]float32, norm float64) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
		rng := rand.New(rand.NewPCG(5, 6))
		params := []Param{{Name: "a", Len: n, LRScale: 1}, {Name: "b", Len: 3, LRScale: 1}}
		for _, p := range params {
			v, g := make([]float32, p.Len), make([]float32, p.Len)
			for i := range v {
				v[i], g[i] = float32(rng.NormFloat64()), float32(rng.NormFloat64())
			}
			values, grads = append(values, v), append(grads, g)
		}
		opt := NewAdamW(params, 0.1)
		for range 3 {
			norm = ClipGlobalNorm(grads, 1)
			opt.Step(1e-2, values, grads)
		}
		return values, grads, norm
	}
	values, grads, norm := step(1)
	for _, threads := range []int{2, 5} {
		v, g, m := step(threads)
		for i := range values {
			if !slices.Equal(v[i], values[i]) || !slices.Equal(g[i], grads[i]) || m != norm {
				t.Errorf("%d threads: tensor %d or the norm %v differs from one thread's %v", threads, i, m, norm)
			}
		}
	}
}

func BenchmarkOptimizer(b *testing.B) {
	const n = 4 << 20
	params := []Param{{Name: "w", Len: n, LRScale: 1}}
	values, grads := [][]float32{make([]float32, n)}, [][]float32{make([]float32, n)}
	for i := range grads[0] {
		grads[0][i] = float32(i%1000)*1e-6 - 5e-4
	}
	opt := NewAdamW(params, 0.1)
	for b.Loop() {
		ClipGlobalNorm(grads, 1e-3)
		opt.Step(1e-3, values, grads)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/parameter")
}

func TestClipGlobalNorm(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, tt := range []struct {
		name  string
		grads [][]float32
		limit float64
		norm  float64
		want  [][]float32
	}{
		{"below the limit", [][]float32{{3}, {4}}, 6, 5, [][]float32{{3}, {4}}},
		{"at the limit", [][]float32{{3}, {4}}, 5, 5, [][]float32{{3}, {4}}},
		{"above the limit", [][]float32{{3}, {4}}, 2.5, 5, [][]float32{{1.5}, {2}}},
		{"no limit", [][]float32{{30, 40}}, 0, 50, [][]float32{{30, 40}}},
		{"zero gradient", [][]float32{{0, 0}}, 1, 0, [][]float32{{0, 0}}},
		{"float32 would overflow", [][]float32{{3e20, 4e20}}, 5, 5e20, [][]float32{{3, 4}}},
		{"not a number", [][]float32{{1, nan}}, 1, math.NaN(), [][]float32{{1, nan}}},
		{"infinite", [][]float32{{7}, {inf}}, 1, math.Inf(1), [][]float32{{7}, {inf}}},
	} {
		norm := ClipGlobalNorm(tt.grads, tt.limit)
		// 1e-6: the values above are float32, rounded to 6e-8 relative.
		same := norm == tt.norm || math.IsNaN(norm) && math.IsNaN(tt.norm) // Within refuses both infinity and NaN
		if !same && !near.Within(norm, tt.norm, 1e-6) {
			t.Errorf("%s: ClipGlobalNorm = %v, want %v", tt.name, norm, tt.norm)
		}
		for i := range tt.grads {
			for j, got := range tt.grads[i] {
				want := tt.want[i][j]
				if math.Float32bits(got) != math.Float32bits(want) && !near.Within(got, want, 1e-6) {
					t.Errorf("%s: gradient[%d][%d] = %v, want %v", tt.name, i, j, got, want)
				}
			}
		}
	}
}
