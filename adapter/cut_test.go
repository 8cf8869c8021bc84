package adapter

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"
	"finetune/model"

	"gonum.org/v1/gonum/mat"
)

// factorTol is for factors that come out of float64 and are rounded to float32, relative to the largest singular value.
const factorTol = 1e-6

// loraAdapter has a weight of each shape n_in, n_out, rank.
func loraAdapter(t *testing.T, seed uint64, alpha float32, shapes ...[3]int) *Adapter {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 31))
	a := &Adapter{Architecture: "llama", BaseName: "toy", BaseHash: "sha256:00", Meta: map[string]gguf.Value{KeyMethod: "lora", KeyRetention: float32(0.9)}}
	for i, s := range shapes {
		a.Weights = append(a.Weights, Weight{fmt.Sprintf("blk.%d.ffn_up.weight", i), randomFactors(t, MethodLoRA, s[0], s[1], s[2], alpha, rng)})
	}
	return a
}

// plainDelta is ΔW in float64 by plain loops, with n_out rows.
func plainDelta(f Factors) *mat.Dense {
	nIn, nOut := f.Shape()
	return mat.NewDense(nOut, nIn, referenceOf(f))
}

// deficient makes the last component of a LoRA the sum of the others.
func deficient(l *LoRA) {
	last := l.A.Row(l.Rank() - 1)
	clear(last)
	for k := range l.Rank() - 1 {
		for i, v := range l.A.Row(k) {
			last[i] += v
		}
	}
}

func rerank(t *testing.T, a *Adapter, c Cut) (*Adapter, []Report) {
	t.Helper()
	p, reports, err := Rerank(context.Background(), a, c, CutOptions{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	return p, reports
}

// wantBest checks a product against the theorem of Eckart and Young, on the singular values of the plain ΔW.
func wantBest(t *testing.T, what string, got, source Factors, r Report) {
	t.Helper()
	whole := plainDelta(source)
	sigma := singularValues(t, whole)
	var diff mat.Dense
	diff.Sub(whole, plainDelta(got))
	left := math.Sqrt(energy(sigma[min(got.Rank(), len(sigma)):]))
	wantClose(t, what+": ‖ΔW − B·A‖", frobenius(&diff)/sigma[0], left/sigma[0], 10*factorTol)
	wantClose(t, what+": Report.Energy", r.Energy, 1-left*left/energy(sigma), factorTol)
	wantClose(t, what+": Report.Total", r.Total/energy(sigma), 1, factorTol)
	wantClose(t, what+": Report.Error", r.Error, left/math.Sqrt(energy(sigma)), 10*factorTol)
}

func TestRerankKeepsTheBestOfEveryRank(t *testing.T) {
	a := loraAdapter(t, 1, 12, [3]int{40, 30, 6}, [3]int{20, 70, 5}, [3]int{7, 9, 12}, [3]int{50, 50, 1}, [3]int{30, 20, coreLimit + 1})
	deficient(a.Weights[1].Factors.(*LoRA))
	for _, source := range []*Adapter{a, dualAdapter(t, 1, [2]int{40, 30}, [2]int{20, 70})} {
		for _, rank := range []int{1, 3, 5, 100} {
			p, reports := rerank(t, source, Cut{Rank: rank})
			for i, w := range p.Weights {
				wantBest(t, fmt.Sprintf("%s %s to rank %d", source.Method(), w.Name, rank), w.Factors, source.Weights[i].Factors, reports[i])
			}
		}
	}
	p, _ := rerank(t, a, Cut{Rank: 100})
	for i, want := range []int{6, 4, 7, 1, 20} {
		if got := p.Weights[i].Rank(); got != want {
			t.Errorf("%s: rank %d at most, want %d", p.Weights[i].Name, got, want)
		}
	}
}

func TestRerankByEnergyTakesTheLeastRank(t *testing.T) {
	// 300 by 280 is more than is decomposed whole: there components are looked for until they are enough, and those found
	// carry a little less than the best.
	for _, a := range []*Adapter{
		loraAdapter(t, 2, 8, [3]int{40, 30, 8}, [3]int{20, 70, 5}), dualAdapter(t, 2, [2]int{40, 30}), dualAdapter(t, 3, [2]int{300, 280}),
	} {
		for _, share := range []float64{0.5, 0.9, 0.999, 1} {
			p, reports := rerank(t, a, Cut{Energy: share})
			for i, w := range p.Weights {
				sigma := singularValues(t, plainDelta(a.Weights[i].Factors))
				least := enough(sigma, share*energy(sigma)*(1-factorTol))
				most := least
				if nIn, nOut := w.Shape(); min(nIn, nOut) > directLimit {
					most += 2
				}
				if w.Rank() < least || w.Rank() > most || !(reports[i].Energy >= share-factorTol) {
					t.Errorf("%s, energy %v of %s: rank %d with %v, want rank %d to %d", a.Method(), share, w.Name, w.Rank(), reports[i].Energy, least, most)
				}
			}
		}
	}
}

func TestRerankStaysInABudget(t *testing.T) {
	a := loraAdapter(t, 3, 8, [3]int{40, 30, 8}, [3]int{20, 70, 5})
	p, _ := rerank(t, a, Cut{Budget: 600})
	if n := p.Parameters(); n > 600 || n < 500 {
		t.Errorf("%d parameters in a budget of 600", n)
	}
}

func TestRerankKeepsTheIdentityAndDropsWhatIsNoLongerTrue(t *testing.T) {
	a := loraAdapter(t, 4, 8, [3]int{20, 30, 3})
	p, _ := rerank(t, a, Cut{Rank: 2})
	if p.BaseName != "toy" || p.BaseHash != "sha256:00" || p.Architecture != "llama" || p.Meta[KeyMethod] != "lora" || p.Meta[KeyExport] != "project" {
		t.Errorf("%q %q %q, keys %v", p.Architecture, p.BaseName, p.BaseHash, p.Meta)
	}
	if _, ok := p.Meta[KeyRetention]; ok {
		t.Errorf("keys %v: the retention is that of other factors", p.Meta)
	}
	if _, ok := a.Meta[KeyRetention]; !ok {
		t.Error("the source has lost a key")
	}
}

func TestRerankOfNothingIsNothing(t *testing.T) {
	a := loraAdapter(t, 5, 8, [3]int{20, 30, 3})
	a.Init(1)
	for _, c := range []Cut{{Rank: 2}, {Energy: 0.9}, {Budget: 200}} {
		p, reports := rerank(t, a, c)
		if w := p.Weights[0]; w.Rank() != 1 || norm(w.Matrices()[0].Mat.Data)+norm(w.Matrices()[1].Mat.Data) != 0 || reports[0].Energy != 1 {
			t.Errorf("%+v: rank %d, energy %v, want rank 1 of zeros", c, w.Rank(), reports[0].Energy)
		}
	}
}

// A LoRA on a big matrix must not cost a matrix of its size.
func TestRerankOfALoRAFormsNoDelta(t *testing.T) {
	const n = 4000
	a := loraAdapter(t, 6, 8, [3]int{n, n, 4})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p, _ := rerank(t, a, Cut{Rank: 2})
	if _, err := Diff(context.Background(), a, p); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > n*n {
		t.Errorf("%d bytes for a ΔW of %d", used, 4*n*n)
	}
}

func TestRerankRefuses(t *testing.T) {
	good := loraAdapter(t, 7, 8, [3]int{20, 30, 3})
	nan, huge := loraAdapter(t, 7, 8, [3]int{20, 30, 3}), loraAdapter(t, 7, 8, [3]int{20, 30, 3})
	nan.Weights[0].Factors.(*LoRA).A.Data[5] = float32(math.NaN())
	for _, m := range huge.Weights[0].Matrices() {
		m.Mat.Data[0] = 1e30
	}
	for _, c := range []struct {
		name string
		a    *Adapter
		cut  Cut
		want string
	}{
		{"NaN", nan, Cut{Rank: 1}, `adapter: tensor "blk.0.ffn_up.weight": its ΔW is not finite`},
		{"overflow", huge, Cut{Rank: 1}, `adapter: tensor "blk.0.ffn_up.weight": its ΔW is not finite`},
		{"no cut", good, Cut{}, "adapter: 0 of rank, energy and budget are given, want one"},
		{"two cuts", good, Cut{Rank: 1, Energy: 0.5}, "adapter: 2 of rank, energy and budget are given, want one"},
		{"rank", good, Cut{Rank: -1}, "adapter: rank -1: want 1 to 2147483647"},
		{"energy", good, Cut{Energy: 1.5}, "adapter: energy 1.5: want a share above 0, at most 1"},
		{"NaN energy", good, Cut{Energy: math.NaN()}, "adapter: energy NaN: want a share above 0, at most 1"},
		{"budget", good, Cut{Budget: 49}, "adapter: budget 49: rank 1 for each of the 1 weights takes 50 parameters"},
	} {
		if _, _, err := Rerank(context.Background(), c.a, c.cut, CutOptions{}); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func TestSpectrum(t *testing.T) {
	// A has orthonormal rows and B orthogonal columns of lengths 6, 3 and 2: with s = 2 those are half the singular values.
	l := &LoRA{A: NewMat(10, 3), B: NewMat(3, 8), Alpha: 6}
	for k, v := range []float32{3, 6, 2} {
		l.A.Row(k)[2*k] = 1
		l.B.Row(k + 1)[k] = v
	}
	s, err := SpectrumOf(Weight{"w", l}, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Sigma) != 2 {
		t.Fatalf("%d values, want 2", len(s.Sigma))
	}
	wantClose(t, "σ₁", s.Sigma[0], 12, factorTol)
	wantClose(t, "σ₂", s.Sigma[1], 6, factorTol)
	wantClose(t, "stable rank", s.StableRank, (36+9+4)/36.0, factorTol)
	p := []float64{6.0 / 11, 3.0 / 11, 2.0 / 11}
	wantClose(t, "effective rank", s.EffectiveRank, math.Exp(-p[0]*math.Log(p[0])-p[1]*math.Log(p[1])-p[2]*math.Log(p[2])), factorTol)
	n, err := Norm(Weight{"w", l})
	wantClose(t, "‖ΔW‖", n, 14, factorTol)
	if err != nil {
		t.Error(err)
	}
}

func TestSpectrumOfDual(t *testing.T) {
	for _, shape := range [][2]int{{40, 30}, {300, 280}} {
		w := dualAdapter(t, 8, shape).Weights[0]
		s, err := SpectrumOf(w, 4, 1)
		if err != nil {
			t.Fatal(err)
		}
		sigma := singularValues(t, plainDelta(w.Factors))
		wantClose(t, "stable rank", s.StableRank, energy(sigma)/(sigma[0]*sigma[0]), searchTol)
		if whole := min(shape[0], shape[1]) <= directLimit; whole {
			wantClose(t, "effective rank", s.EffectiveRank, effectiveRank(sigma), 10*factorTol)
		} else if !math.IsNaN(s.EffectiveRank) {
			t.Errorf("effective rank %v from %d of %d values", s.EffectiveRank, len(s.Sigma), len(sigma))
		}
	}
	zero := dualAdapter(t, 8, [2]int{20, 20})
	zero.Init(1)
	if s, err := SpectrumOf(zero.Weights[0], 3, 1); err != nil || s.StableRank != 0 || s.EffectiveRank != 0 || len(s.Sigma) != 0 {
		t.Errorf("of zero: %+v, %v", s, err)
	}
}

func TestDiff(t *testing.T) {
	a := loraAdapter(t, 9, 8, [3]int{20, 30, 3}, [3]int{10, 40, 2}, [3]int{12, 12, 2})
	b := loraAdapter(t, 10, 3, [3]int{20, 30, 7}, [3]int{10, 40, 1})
	b.Weights[1].Name = "blk.1.attn_q.weight"
	d := dualAdapter(t, 11, [2]int{20, 30}, [2]int{10, 40})
	for _, pair := range [][2]*Adapter{{a, b}, {b, a}, {a, d}, {d, d}} {
		all, err := Diff(context.Background(), pair[0], pair[1])
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		squares := 0.0
		for _, got := range all {
			names = append(names, got.Name)
			v, w := plainOf(pair[0], got.Name), plainOf(pair[1], got.Name)
			wantClose(t, got.Name+": ‖ΔW₁‖", got.NormA, length(v), gemmTol)
			wantClose(t, got.Name+": ‖ΔW₂‖", got.NormB, length(w), gemmTol)
			wantClose(t, got.Name+": ⟨ΔW₁, ΔW₂⟩", got.Inner, dot(v, w), gemmTol)
			apart := length(minus(v, w))
			squares += apart * apart
			wantClose(t, got.Name+": ‖ΔW₁ − ΔW₂‖", got.Distance, apart, gemmTol)
			if length(v) > 0 && length(w) > 0 {
				wantClose(t, got.Name+": cosine", got.Cosine(), dot(v, w)/length(v)/length(w), gemmTol)
			} else if !math.IsNaN(got.Cosine()) {
				t.Errorf("%s: cosine %v with nothing", got.Name, got.Cosine())
			}
		}
		wantClose(t, "distance of all", Sum(all).Distance, math.Sqrt(squares), gemmTol)
		if sum := Sum(all); sum.RankA != pair[0].Rank() || sum.RankB != pair[1].Rank() {
			t.Errorf("ranks of all %d and %d, want %d and %d", sum.RankA, sum.RankB, pair[0].Rank(), pair[1].Rank())
		}
		if !slices.IsSortedFunc(names, model.CompareNames) || len(names) != len(slices.Compact(names)) {
			t.Errorf("names %q", names)
		}
	}
}

// The factors can be others though ΔW is the same: what is left is rounding.
func TestDiffOfTheSameChange(t *testing.T) {
	a := loraAdapter(t, 12, 8, [3]int{20, 30, 3})
	same, _ := Diff(context.Background(), a, a)
	turned, _ := rerank(t, a, Cut{Rank: 3})
	other, err := Diff(context.Background(), a, turned)
	if err != nil {
		t.Fatal(err)
	}
	if same[0].Distance != 0 || same[0].Cosine() != 1 || !near.Enough(other[0].Distance, 0.0, factorTol*other[0].NormA) {
		t.Errorf("distances %v and %v of %v", same[0].Distance, other[0].Distance, other[0].NormA)
	}
}

func TestDiffRefuses(t *testing.T) {
	a, b := loraAdapter(t, 13, 8, [3]int{20, 30, 3}), loraAdapter(t, 13, 8, [3]int{20, 31, 3})
	if _, err := Diff(context.Background(), a, b); err == nil || err.Error() != `adapter: tensor "blk.0.ffn_up.weight": of shape [20 30] in one adapter, [20 31] in another` {
		t.Errorf("shapes: %v", err)
	}
	b = loraAdapter(t, 13, 8, [3]int{20, 30, 3})
	b.Weights[0].Factors.(*LoRA).B.Data[0] = float32(math.Inf(1))
	if _, err := Diff(context.Background(), a, b); err == nil || err.Error() != `adapter: tensor "blk.0.ffn_up.weight": its ΔW is not finite` {
		t.Errorf("infinity: %v", err)
	}
}

// plainOf is ΔW by plain loops, and as many zeros where there is none as the test's shapes need at most.
func plainOf(a *Adapter, name string) []float64 {
	if w, ok := a.Weight(name); ok {
		return referenceOf(w)
	}
	return make([]float64, 600)
}

func length(v []float64) float64 { return math.Sqrt(dot(v, v)) }

func dot(v, w []float64) float64 {
	sum := 0.0
	for i := range min(len(v), len(w)) {
		sum += v[i] * w[i]
	}
	return sum
}

// minus is v − w; the shorter one goes on with zeros.
func minus(v, w []float64) []float64 {
	d := make([]float64, max(len(v), len(w)))
	copy(d, v)
	for i, x := range w {
		d[i] -= x
	}
	return d
}

// Numbers at the ends of float32 give figures that are numbers, or an error.
func TestExtremeFactors(t *testing.T) {
	rng := rand.New(rand.NewPCG(14, 31))
	extremes := []float32{0, 1, -1, math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, 1e-20, 1e19, -1e-38}
	refused := 0
	for range 300 {
		a := loraAdapter(t, 1, extremes[rng.IntN(len(extremes))], [3]int{6, 5, 1 + rng.IntN(7)})
		if rng.IntN(2) == 0 {
			a = dualAdapter(t, 1, [2]int{6, 5})
		}
		few := extremes[:2+rng.IntN(len(extremes)-2)]
		for _, m := range a.Tensors() {
			for i := range m.Mat.Data {
				m.Mat.Data[i] = few[rng.IntN(len(few))]
			}
		}
		figures := map[string]float64{}
		note := func(what string, err error, values ...float64) {
			if err != nil {
				refused++
				return
			}
			for i, v := range values {
				figures[fmt.Sprint(what, i)] = v
			}
		}
		n, err := Norm(a.Weights[0])
		note("norm", err, n)
		s, err := SpectrumOf(a.Weights[0], 3, 1)
		note("spectrum", err, append(s.Sigma, s.StableRank, s.EffectiveRank)...)
		_, r, err := Rerank(context.Background(), a, Cut{Energy: 0.9}, CutOptions{})
		if err == nil {
			note("rerank", nil, r[0].Energy, r[0].Error, r[0].Total)
		}
		d, err := Diff(context.Background(), a, loraAdapter(t, 2, 8, [3]int{6, 5, 2}))
		if err == nil {
			note("diff", nil, d[0].NormA, d[0].NormB, d[0].Distance, d[0].Inner)
		}
		for _, m := range []CombineMethod{CombineLinear, CombineTIES} {
			_, r, err := Combine(context.Background(), []Ingredient{{a, 1}, {a, -3}}, CombineOptions{Method: m})
			if err == nil {
				note(string(m), nil, r[0].Energy, r[0].Error, r[0].Total)
			}
		}
		for what, v := range figures {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%s = %v of %s with factors %v", what, v, a.Method(), a.Tensors()[0].Mat.Data)
			}
		}
	}
	if refused < 20 || refused > 580 {
		t.Errorf("%d of 600 refused: too few or too many to tell", refused)
	}
}
