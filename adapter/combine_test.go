package adapter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"

	"gonum.org/v1/gonum/mat"
)

// three are LoRAs of different ranks, scales and weights: "blk.0" is in all of them, "blk.1" in two, "blk.2" in one.
func three(t *testing.T) []Ingredient {
	t.Helper()
	all := []Ingredient{
		{loraAdapter(t, 21, 8, [3]int{24, 18, 4}, [3]int{16, 20, 4}, [3]int{12, 12, 3}), 1},
		{loraAdapter(t, 22, 0, [3]int{24, 18, 2}, [3]int{16, 20, 2}), -0.5},
		{loraAdapter(t, 23, 3, [3]int{24, 18, 5}), 0.7},
	}
	return all
}

// withDual is three with a Dual LoRA instead of the first.
func withDual(t *testing.T) []Ingredient {
	t.Helper()
	all := three(t)
	all[0].Adapter = dualAdapter(t, 24, [2]int{24, 18}, [2]int{16, 20}, [2]int{12, 12})
	return all
}

func combine(t *testing.T, all []Ingredient, o CombineOptions) (*Adapter, []Report) {
	t.Helper()
	a, reports, err := Combine(context.Background(), all, o)
	if err != nil {
		t.Fatal(err)
	}
	return a, reports
}

// weightedDeltas are the w·ΔW that the adapters have for one weight, by plain loops in float64.
func weightedDeltas(all []Ingredient, name string) (deltas [][]float64) {
	for _, in := range all {
		if w, ok := in.Adapter.Weight(name); ok {
			delta := referenceOf(w)
			for i := range delta {
				delta[i] *= float64(in.Weight)
			}
			deltas = append(deltas, delta)
		}
	}
	return deltas
}

func plainSum(deltas [][]float64) []float64 {
	sum := make([]float64, len(deltas[0]))
	for _, d := range deltas {
		for i, v := range d {
			sum[i] += v
		}
	}
	return sum
}

func wantDelta(t *testing.T, what string, got Factors, want []float64, tol float64) {
	t.Helper()
	if d := length(minus(referenceOf(got), want)); !(d <= tol*length(want)) {
		t.Errorf("%s: ‖difference‖ %v of %v", what, d, length(want))
	}
}

func TestCatIsTheSumOfTheChanges(t *testing.T) {
	all := three(t)
	a, reports := combine(t, all, CombineOptions{Method: CombineCat})
	for i, want := range []int{11, 6, 3} {
		w := a.Weights[i]
		wantDelta(t, w.Name, w.Factors, plainSum(weightedDeltas(all, w.Name)), ruleTol)
		if w.Rank() != want || reports[i].Rank != want || reports[i].Energy != 1 {
			t.Errorf("%s: rank %d, report %+v, want rank %d with all of the energy", w.Name, w.Rank(), reports[i], want)
		}
		wantClose(t, "Report.Total", math.Sqrt(reports[i].Total), length(plainSum(weightedDeltas(all, w.Name))), gemmTol)
	}
	if again := load(t, save(t, a)); len(again.Weights) != 3 {
		t.Errorf("%d weights in the file", len(again.Weights))
	} else {
		for _, w := range again.Weights {
			wantDelta(t, w.Name+" in the file", w.Factors, plainSum(weightedDeltas(all, w.Name)), ruleTol)
		}
	}
}

// Adapters with the same scale and weight are put side by side without touching a number.
func TestCatOfEqualScalesCopiesTheFactors(t *testing.T) {
	x, y := loraAdapter(t, 25, 8, [3]int{10, 6, 4}), loraAdapter(t, 26, 4, [3]int{10, 6, 2})
	a, _ := combine(t, []Ingredient{{x, 0.3}, {y, 0.3}}, CombineOptions{Method: CombineCat})
	l, lx, ly := a.Weights[0].Factors.(*LoRA), x.Weights[0].Factors.(*LoRA), y.Weights[0].Factors.(*LoRA)
	if !slices.Equal(l.A.Data, slices.Concat(lx.A.Data, ly.A.Data)) {
		t.Error("A has other numbers")
	}
	for o := range 6 {
		if !slices.Equal(l.B.Row(o), slices.Concat(lx.B.Row(o), ly.B.Row(o))) {
			t.Errorf("row %d of B has other numbers", o)
		}
	}
}

func TestLinearIsTheBestCutOfTheSum(t *testing.T) {
	for name, all := range map[string][]Ingredient{"LoRAs": three(t), "with a Dual LoRA": withDual(t)} {
		for _, rank := range []int{0, 1, 3, 100} {
			a, reports := combine(t, all, CombineOptions{Method: CombineLinear, Cut: Cut{Rank: rank}})
			for i, w := range a.Weights {
				wantCut(t, fmt.Sprintf("%s, rank %d, %s", name, rank, w.Name), w.Factors, plainSum(weightedDeltas(all, w.Name)), reports[i])
			}
			largest := max(all[0].Rank(), all[1].Rank(), all[2].Rank())
			if rank == 0 && a.Rank() != largest {
				t.Errorf("%s: rank %d by default, want the largest, %d", name, a.Rank(), largest)
			}
		}
	}
}

// wantCut checks a LoRA against the theorem of Eckart and Young on a ΔW [n_out rows].
func wantCut(t *testing.T, what string, got Factors, whole []float64, r Report) {
	t.Helper()
	nIn, nOut := got.Shape()
	sigma := singularValues(t, mat.NewDense(nOut, nIn, whole))
	left := math.Sqrt(energy(sigma[min(got.Rank(), len(sigma)):]))
	wantClose(t, what+": ‖ΔW − B·A‖", length(minus(referenceOf(got), whole))/sigma[0], left/sigma[0], 10*factorTol)
	wantClose(t, what+": Report.Energy", r.Energy, 1-left*left/energy(sigma), 10*factorTol)
}

// plainTIES is the algorithm of arXiv 2306.01708 written down: trim, elect, disjoint mean. The first two are given the
// changes times their weights.
func plainTIES(deltas [][]float64, density float64) []float64 {
	trimmed := make([][]float64, len(deltas))
	for t, d := range deltas {
		sizes := make([]float64, len(d))
		for i, v := range d {
			sizes[i] = math.Abs(v)
		}
		slices.Sort(sizes)
		least := sizes[len(sizes)-max(1, int(density*float64(len(sizes))))]
		trimmed[t] = make([]float64, len(d))
		for i, v := range d {
			if math.Abs(v) >= least {
				trimmed[t][i] = v
			}
		}
	}
	return elected(trimmed)
}

func elected(deltas [][]float64) []float64 {
	merged := make([]float64, len(deltas[0]))
	for i := range merged {
		mass := 0.0
		for _, d := range deltas {
			mass += d[i]
		}
		sum, n := 0.0, 0
		for _, d := range deltas {
			if d[i] > 0 && mass > 0 || d[i] < 0 && mass < 0 {
				sum += d[i]
				n++
			}
		}
		if n > 0 {
			merged[i] = sum / float64(n)
		}
	}
	return merged
}

func TestTIESIsThePapersAlgorithm(t *testing.T) {
	for name, all := range map[string][]Ingredient{"LoRAs": three(t), "with a Dual LoRA": withDual(t)} {
		for _, density := range []float64{0, 0.001, 0.5, 1} {
			a, reports := combine(t, all, CombineOptions{Method: CombineTIES, Cut: Cut{Rank: 100}, Density: density})
			if density == 0 {
				density = 0.2
			}
			for i, w := range a.Weights {
				wantDelta(t, fmt.Sprintf("%s, density %v, %s", name, density, w.Name), w.Factors, plainTIES(weightedDeltas(all, w.Name), density), gemmTol)
				wantClose(t, "Report.Energy at full rank", reports[i].Energy, 1, factorTol)
			}
			small, reports := combine(t, all, CombineOptions{Method: CombineTIES, Cut: Cut{Rank: 2}, Density: density})
			wantCut(t, fmt.Sprintf("%s, density %v, cut", name, density), small.Weights[0].Factors, plainTIES(weightedDeltas(all, small.Weights[0].Name), density), reports[0])
		}
	}
}

func TestNthMagnitudeIsThatOfASort(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 27))
	for _, spread := range []float64{1e-38, 1, 1e30} { // subnormal numbers too
		vs := make([]float32, 500)
		for i := range vs {
			vs[i] = float32(spread * rng.NormFloat64())
			if i%7 == 0 {
				vs[i] = vs[i/2] // equal ones
			}
			if i%11 == 0 {
				vs[i] = 0
			}
		}
		sizes := make([]float32, len(vs))
		for i, v := range vs {
			sizes[i] = max(v, -v)
		}
		slices.Sort(sizes)
		slices.Reverse(sizes)
		for _, n := range []int{1, 2, 77, 250, 499, 500} {
			if got := nthMagnitude(vs, n); got != sizes[n-1] {
				t.Errorf("spread %v: number %d is %v, want %v", spread, n, got, sizes[n-1])
			}
		}
	}
}

// dareDelta is the whole change that DARE makes of one ingredient.
func dareDelta(w Factors, density float64, seed uint64, row0, row1 int) []float32 {
	nIn, _ := w.Shape()
	m := &mixture{parts: []thinned{{weighted{w, 1}, dropped(density, streamKey(seed, 0, "w"))}}}
	dst := make([]float32, (row1-row0)*nIn)
	m.DeltaRows(dst, row0, row1)
	return dst
}

func TestDAREKeepsOrDropsAndIsRightOnAverage(t *testing.T) {
	const density, draws = 0.25, 4000
	w := three(t)[0].Weights[0].Factors
	nIn, nOut := w.Shape()
	whole := make([]float32, nIn*nOut)
	Delta(w, whole)
	mean, kept := make([]float64, len(whole)), 0
	for seed := range uint64(draws) {
		for i, v := range dareDelta(w, density, seed, 0, nOut) {
			switch {
			case v == 0:
			case v == float32(float64(whole[i])/density):
				kept++
			default:
				t.Fatalf("element %d of %v became %v", i, whole[i], v)
			}
			mean[i] += float64(v) / draws
		}
	}
	// The mean of n draws of v/p with probability p has the standard deviation |v|·√((1−p)/(p·n)); five of them are seen
	// once in 1.7 million elements.
	deviation := math.Sqrt((1 - density) / (density * draws))
	for i, v := range whole {
		if !near.Enough(mean[i], v, 5*deviation*math.Abs(float64(v))) {
			t.Errorf("element %d is %v on average, want %v", i, mean[i], v)
		}
	}
	share := float64(kept) / float64(draws*len(whole))
	wantClose(t, "share kept", share, density, 5*math.Sqrt(density*(1-density)/float64(draws*len(whole))))
}

// Rows can be formed in any pieces; other seeds, adapters and weights drop others.
func TestDAREDropsBySeedAlone(t *testing.T) {
	w := three(t)[0].Weights[0].Factors
	_, nOut := w.Shape()
	whole := dareDelta(w, 0.5, 7, 0, nOut)
	if pieces := slices.Concat(dareDelta(w, 0.5, 7, 0, 5), dareDelta(w, 0.5, 7, 5, nOut)); !slices.Equal(whole, pieces) {
		t.Error("two pieces differ from the whole")
	}
	keys := []uint64{streamKey(1, 0, "w"), streamKey(2, 0, "w"), streamKey(1, 1, "w"), streamKey(1, 0, "v")}
	for i, k := range keys {
		for _, l := range keys[:i] {
			same := 0
			for n := range 1000 {
				if (uniform(k, n) < 0.5) == (uniform(l, n) < 0.5) {
					same++
				}
			}
			if same < 400 || same > 600 {
				t.Errorf("keys %x and %x agree on %d of 1000", k, l, same)
			}
		}
	}
}

// The first outputs of SplitMix64 as its authors' program prints them, for the seed 1234567.
func TestUniformIsSplitMix64(t *testing.T) {
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821} {
		if got := uniform(1234567, i); got != float64(want>>11)/(1<<53) {
			t.Errorf("uniform(1234567, %d) = %v, want %v", i, got, float64(want>>11)/(1<<53))
		}
	}
}

func TestDAREAndItsElection(t *testing.T) {
	for _, all := range [][]Ingredient{three(t), withDual(t)} {
		const density, seed = 0.6, 3
		for _, method := range []CombineMethod{CombineDARE, CombineDARETIES} {
			o := CombineOptions{Method: method, Cut: Cut{Rank: 100}, Density: density}
			o.Seed = seed
			a, _ := combine(t, all, o)
			for _, w := range a.Weights {
				var deltas [][]float64
				for i, in := range all {
					v, ok := in.Adapter.Weight(w.Name)
					if !ok {
						continue
					}
					delta := referenceOf(v)
					for j := range delta {
						if delta[j] *= float64(in.Weight) / density; uniform(streamKey(seed, i, w.Name), j) >= density {
							delta[j] = 0
						}
					}
					deltas = append(deltas, delta)
				}
				want := plainSum(deltas)
				if method == CombineDARETIES {
					want = elected(deltas)
				}
				wantDelta(t, fmt.Sprintf("%s %s", method, w.Name), w.Factors, want, gemmTol)
			}
			again, _ := combine(t, all, o)
			wantSame(t, again, a)
		}
	}
}

// With nothing to thin out, DARE is the sum, and TIES of one adapter the adapter.
func TestMethodsAgreeWhereTheyMust(t *testing.T) {
	all := three(t)
	linear, _ := combine(t, all, CombineOptions{Method: CombineLinear, Cut: Cut{Rank: 100}})
	dare, _ := combine(t, all, CombineOptions{Method: CombineDARE, Cut: Cut{Rank: 100}, Density: 1})
	one, _ := combine(t, all[:1], CombineOptions{Method: CombineTIES, Cut: Cut{Rank: 100}, Density: 1})
	for i, w := range linear.Weights {
		wantDelta(t, "dare "+w.Name, dare.Weights[i].Factors, referenceOf(w), gemmTol)
		wantDelta(t, "ties "+w.Name, one.Weights[i].Factors, referenceOf(all[0].Weights[i]), gemmTol)
	}
}

func TestCombineOfZeros(t *testing.T) {
	zero := loraAdapter(t, 28, 8, [3]int{24, 18, 4})
	zero.Init(1)
	for _, m := range CombineMethods() {
		a, reports := combine(t, []Ingredient{{zero, 1}, {zero, 2}}, CombineOptions{Method: m})
		if n := length(referenceOf(a.Weights[0])); n != 0 || reports[0].Energy != 1 {
			t.Errorf("%s: ‖ΔW‖ %v, report %+v", m, n, reports[0])
		}
	}
}

// An adapter and its opposite leave nothing, and no noise that is taken for something.
func TestCombineOfOpposites(t *testing.T) {
	for _, in := range []*Adapter{loraAdapter(t, 38, 8, [3]int{24, 18, 4}), dualAdapter(t, 39, [2]int{24, 18})} {
		for _, weight := range []float32{1, 0.3} {
			a, reports := combine(t, []Ingredient{{in, weight}, {in, -weight}}, CombineOptions{Method: CombineLinear})
			if n := length(referenceOf(a.Weights[0])); n != 0 || a.Rank() != 1 || reports[0].Energy != 1 || reports[0].Error != 0 {
				t.Errorf("%s: ‖ΔW‖ %v, rank %d, report %+v", in.Method(), n, a.Rank(), reports[0])
			}
		}
	}
}

func TestCombineKeepsWhatAllHaveInCommon(t *testing.T) {
	x, y := loraAdapter(t, 29, 8, [3]int{10, 6, 4}), loraAdapter(t, 30, 8, [3]int{10, 6, 2})
	x.Meta["a"], y.Meta["a"] = gguf.ArrayOf("p", "q"), gguf.ArrayOf("p", "q")
	x.Meta["b"], y.Meta["b"] = "1", "2"
	y.Meta["c"] = "3"
	a, _ := combine(t, []Ingredient{{x, 1}, {y, 1}}, CombineOptions{Method: CombineLinear})
	if len(a.Meta) != 2 || a.Meta[KeyMethod] != "lora" || a.Meta["a"] == nil {
		t.Errorf("keys %v", a.Meta)
	}
	if a.BaseName != "toy" || a.BaseHash != "sha256:00" {
		t.Errorf("base %q %q", a.BaseName, a.BaseHash)
	}
	x.BaseHash = ""
	if a, _ = combine(t, []Ingredient{{x, 1}, {y, 1}}, CombineOptions{Method: CombineCat}); a.BaseHash != "sha256:00" {
		t.Errorf("base %q, want the one that is known", a.BaseHash)
	}
	x.BaseHash = "sha256:11"
	if err := CheckAlike(x, y); !errors.Is(err, ErrOtherBase) {
		t.Errorf("CheckAlike of two bases = %v", err)
	}
	if a, _ = combine(t, []Ingredient{{x, 1}, {y, 1}}, CombineOptions{Method: CombineCat}); a.BaseHash != "" {
		t.Errorf("base %q of two", a.BaseHash)
	}
}

func TestCombineRefuses(t *testing.T) {
	x, y := loraAdapter(t, 31, 8, [3]int{10, 6, 4}), loraAdapter(t, 32, 8, [3]int{10, 6, 4})
	dual, nan := dualAdapter(t, 33, [2]int{10, 6}), loraAdapter(t, 34, 8, [3]int{10, 6, 4})
	nan.Weights[0].Factors.(*LoRA).A.Data[3] = float32(math.NaN())
	other, shape, alora := loraAdapter(t, 35, 8, [3]int{10, 6, 4}), loraAdapter(t, 36, 8, [3]int{10, 7, 4}), loraAdapter(t, 37, 8, [3]int{10, 6, 4})
	other.Architecture = "gemma"
	alora.Meta[KeyInvocation] = gguf.ArrayOf[uint32](1, 2)
	const notFinite = `adapter: tensor "blk.0.ffn_up.weight": its ΔW is not finite`
	for _, c := range []struct {
		name string
		y    Ingredient
		o    CombineOptions
		want string
	}{
		{"architecture", Ingredient{other, 1}, CombineOptions{Method: CombineCat}, `adapter: one is made for architecture "llama", another for "gemma"`},
		{"shape", Ingredient{shape, 1}, CombineOptions{Method: CombineTIES}, `adapter: tensor "blk.0.ffn_up.weight": of shape [10 6] in one adapter, [10 7] in another`},
		{"invocation", Ingredient{alora, 1}, CombineOptions{Method: CombineCat}, `adapter: adapter.alora.invocation_tokens differ: the adapters are switched on by different tokens`},
		{"cat of a Dual LoRA", Ingredient{dual, 1}, CombineOptions{Method: CombineCat}, `adapter: tensor "blk.0.ffn_up.weight": dual-lora has no low-rank form to put beside others`},
		{"NaN, cat", Ingredient{nan, 1}, CombineOptions{Method: CombineCat}, notFinite},
		{"NaN, linear", Ingredient{nan, 1}, CombineOptions{Method: CombineLinear}, notFinite},
		{"NaN, ties", Ingredient{nan, 1}, CombineOptions{Method: CombineTIES}, notFinite},
		{"NaN, dare-ties", Ingredient{nan, 1}, CombineOptions{Method: CombineDARETIES, Density: 1}, notFinite},
		{"weight", Ingredient{y, 0}, CombineOptions{Method: CombineCat}, `adapter: weight 0: want a number other than 0`},
		{"method", Ingredient{y, 1}, CombineOptions{Method: "sum"}, `adapter: method "sum": want one of ["cat" "linear" "ties" "dare" "dare-ties"]`},
		{"density", Ingredient{y, 1}, CombineOptions{Method: CombineTIES, Density: 1.5}, `adapter: density 1.5: want a share above 0, at most 1`},
		{"needless density", Ingredient{y, 1}, CombineOptions{Method: CombineLinear, Density: 0.5}, `adapter: density 0.5: linear keeps every element`},
		{"cut of cat", Ingredient{y, 1}, CombineOptions{Method: CombineCat, Cut: Cut{Rank: 3}}, `adapter: cat keeps every component: want no rank, energy or budget`},
		{"cut", Ingredient{y, 1}, CombineOptions{Method: CombineDARE, Cut: Cut{Rank: 3, Budget: 9}}, `adapter: 2 of rank, energy and budget are given, want one`},
	} {
		if _, _, err := Combine(context.Background(), []Ingredient{{x, 1}, c.y}, c.o); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	if _, _, err := Combine(context.Background(), nil, CombineOptions{Method: CombineCat}); err == nil {
		t.Error("of nothing: no error")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Combine(ctx, []Ingredient{{x, 1}, {y, 1}}, CombineOptions{Method: CombineTIES}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
