package adapter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"finetune/internal/near"

	"gonum.org/v1/gonum/mat"
)

// svdTol: singular values of a float32 ΔW, relative to the largest; the factors
// are rounded to float32 as well.
const svdTol = 2e-6

// searchTol: what three power steps leave of the energy when the search in random
// directions meets the flat tail of a Dual LoRA.
const searchTol = 2e-3

func dualAdapter(t *testing.T, seed uint64, shapes ...[2]int) *Adapter {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 9))
	a := &Adapter{Architecture: "llama", BaseName: "toy", BaseHash: "sha256:00"}
	for i, s := range shapes {
		f := randomFactors(t, MethodDual, s[0], s[1], 8, 8, rng)
		for _, m := range f.Matrices() {
			for j := range m.Mat.Data {
				m.Mat.Data[j] /= float32(1 + i) // weights of unequal energy
			}
		}
		a.Weights = append(a.Weights, Weight{fmt.Sprintf("blk.%d.ffn_up.weight", i), f})
	}
	return a
}

// deltaOf is ΔW·diag(d) in float64.
func deltaOf(f Factors, d []float32) *mat.Dense {
	nIn, nOut := f.Shape()
	m := NewMat(nIn, nOut)
	Delta(f, m.Data)
	scaleColumns(m, d)
	return dense(m)
}

func singularValues(t *testing.T, m *mat.Dense) []float64 {
	t.Helper()
	var d mat.SVD
	if !d.Factorize(m, mat.SVDNone) {
		t.Fatal("no singular values")
	}
	return d.Values(nil)
}

func frobenius(m *mat.Dense) float64 { return mat.Norm(m, 2) }

func energy(sigma []float64) float64 {
	sum := 0.0
	for _, s := range sigma {
		sum += s * s
	}
	return sum
}

func project(t *testing.T, a *Adapter, o DecomposeOptions, rank int) (*Adapter, []Report) {
	t.Helper()
	d, err := Decompose(context.Background(), a, o)
	if err != nil {
		t.Fatal(err)
	}
	ranks, err := d.Uniform(rank)
	if err != nil {
		t.Fatal(err)
	}
	p, reports, err := d.Project(ranks)
	if err != nil {
		t.Fatal(err)
	}
	return p, reports
}

// The theorem of Eckart and Young: no product of rank k comes nearer than the
// root of the sum of the squared singular values that it leaves out.
func TestProjectionErrorIsThatOfTheDroppedValues(t *testing.T) {
	a := dualAdapter(t, 1, [2]int{40, 30}, [2]int{20, 70})
	for _, rank := range []int{1, 5, 20} {
		p, reports := project(t, a, DecomposeOptions{}, rank)
		for i, w := range a.Weights {
			sigma := singularValues(t, deltaOf(w, nil))
			want := math.Sqrt(energy(sigma[rank:]))
			var diff mat.Dense
			diff.Sub(deltaOf(w, nil), deltaOf(p.Weights[i], nil))
			wantClose(t, fmt.Sprintf("rank %d: ‖ΔW − B·A‖", rank), frobenius(&diff), want, svdTol*sigma[0]*10)
			wantClose(t, "Report.Error", reports[i].Error, want/math.Sqrt(energy(sigma)), 1e-5)
			wantClose(t, "Report.Energy", reports[i].Energy, energy(sigma[:rank])/energy(sigma), 1e-5)
			if reports[i].Name != w.Name || reports[i].Rank != rank {
				t.Errorf("report of %q rank %d, want %q rank %d", reports[i].Name, reports[i].Rank, w.Name, rank)
			}
		}
		if p.Alpha() != float32(rank) || p.Weights[0].Scale() != 1 {
			t.Errorf("rank %d: alpha %v, scale %v, want %d, 1", rank, p.Alpha(), p.Weights[0].Scale(), rank)
		}
	}
}

// A direction is left out of the search only if it carries next to nothing: the
// random search is compared with the whole decomposition.
func TestRandomSearchFindsWhatTheWholeDecompositionFinds(t *testing.T) {
	const k = 12
	for _, shape := range [][2]int{{400, 300}, {300, 420}} {
		w := dualAdapter(t, 2, shape).Weights[0]
		p := NewMat(shape[0], shape[1])
		Delta(w, p.Data)
		s, err := randomSVD(p, k, 1)
		if err != nil {
			t.Fatal(err)
		}
		sigma := singularValues(t, dense(p))
		wantClose(t, fmt.Sprintf("%v: share of the best energy", shape), energy(s.sigma)/energy(sigma[:k]), 1, searchTol)
		var product mat.Dense
		for i := range s.u.NE[1] {
			for j := range k {
				s.u.Row(i)[j] *= float32(s.sigma[j])
			}
		}
		product.Mul(dense(s.u), dense(s.v))
		product.Sub(dense(p), &product)
		wantClose(t, fmt.Sprintf("%v: ‖P − USVᵀ‖²", shape), energyOf(&product)/energy(sigma), 1-energy(s.sigma)/energy(sigma), 1e-5)
	}
}

func energyOf(m *mat.Dense) float64 { return frobenius(m) * frobenius(m) }

func TestRandomSearchIsExactOnALowRankMatrix(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	w := randomFactors(t, MethodLoRA, 300, 500, 7, 7, rng)
	p := NewMat(300, 500)
	Delta(w, p.Data)
	s, err := randomSVD(p, 12, 5)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range singularValues(t, dense(p))[:7] {
		wantClose(t, fmt.Sprintf("σ%d", i), s.sigma[i]/s.sigma[0], want/s.sigma[0], svdTol)
	}
	if !near.Enough(s.sigma[7], 0.0, svdTol*s.sigma[0]) {
		t.Errorf("σ7 = %v of a matrix of rank 7 with σ0 = %v", s.sigma[7], s.sigma[0])
	}
	again, _ := randomSVD(p, 12, 5)
	if !slices.Equal(again.sigma, s.sigma) || !slices.Equal(again.u.Data, s.u.Data) {
		t.Error("the same seed gave another decomposition")
	}
}

func TestDecomposingALoRAFindsItsRank(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	a := &Adapter{Architecture: "llama", Weights: []Weight{{"blk.0.attn_q.weight", randomFactors(t, MethodLoRA, 50, 40, 5, 10, rng)}}}
	p, reports := project(t, a, DecomposeOptions{}, 20)
	if p.Rank() != 5 {
		t.Errorf("rank %d for a LoRA of rank 5", p.Rank())
	}
	if !near.Enough(reports[0].Error, 0.0, 1e-5) {
		t.Errorf("error %v at the full rank", reports[0].Error)
	}
}

func TestWeightedProjectionWinsInTheWeightedNorm(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	a := dualAdapter(t, 6, [2]int{40, 30})
	d := make([]float32, 40)
	for i := range d {
		d[i] = float32(math.Exp(rng.NormFloat64()))
	}
	d[7] = 0 // a channel that is never active
	inputs := map[string][]float32{a.Weights[0].Name: d}
	plain, plainReports := project(t, a, DecomposeOptions{}, 6)
	weighted, reports := project(t, a, DecomposeOptions{Inputs: inputs}, 6)
	sigma := singularValues(t, deltaOf(a.Weights[0], d))
	distance := func(p *Adapter) float64 {
		var diff mat.Dense
		diff.Sub(deltaOf(a.Weights[0], d), deltaOf(p.Weights[0], d))
		return frobenius(&diff)
	}
	// The floor under d[7] is the only departure from the optimum.
	wantClose(t, "weighted ‖(ΔW − B·A)·d‖", distance(weighted), math.Sqrt(energy(sigma[6:])), 1e-4)
	if !(distance(plain) >= 1.05*distance(weighted)) {
		t.Errorf("weighted norm %v without and %v with weights", distance(plain), distance(weighted))
	}
	if !(reports[0].Error >= plainReports[0].Error) {
		t.Errorf("plain norm %v with weights, %v without: the better has to be the one without", reports[0].Error, plainReports[0].Error)
	}
	wantClose(t, "Report.Energy", reports[0].Energy, energy(sigma[:6])/energy(sigma), 1e-4)
}

// With weights on both sides the optimum is the truncated SVD of diag(g)·ΔW·diag(d).
func TestProjectionWeightedOnBothSidesIsItsOptimum(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 5))
	a := dualAdapter(t, 6, [2]int{40, 30})
	draw := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(math.Exp(rng.NormFloat64()))
		}
		return v
	}
	d, g := draw(40), draw(30)
	name := a.Weights[0].Name
	p, reports := project(t, a, DecomposeOptions{Inputs: map[string][]float32{name: d}, Outputs: map[string][]float32{name: g}}, 6)
	rows := mat.NewDiagDense(30, nil)
	for i, v := range g {
		rows.SetDiag(i, float64(v))
	}
	both := func(w Weight) *mat.Dense {
		var m mat.Dense
		m.Mul(rows, deltaOf(w, d))
		return &m
	}
	sigma := singularValues(t, both(a.Weights[0]))
	var diff mat.Dense
	diff.Sub(both(a.Weights[0]), both(p.Weights[0]))
	wantClose(t, "weighted ‖g·(ΔW − B·A)·d‖", frobenius(&diff), math.Sqrt(energy(sigma[6:])), 1e-4)
	wantClose(t, "Report.Total", reports[0].Total, energy(sigma), 1e-4)
}

func TestAllocationStaysInItsBudgetAndBeatsOneRankForAll(t *testing.T) {
	a := dualAdapter(t, 7, [2]int{40, 30}, [2]int{30, 50}, [2]int{64, 64}, [2]int{20, 20})
	d, err := Decompose(context.Background(), a, DecomposeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, rank := range []int{1, 2, 5, 8} {
		budget := rank * d.MinBudget()
		ranks, err := d.Allocate(budget)
		if err != nil {
			t.Fatal(err)
		}
		greedy, reports, err := d.Project(ranks)
		if err != nil {
			t.Fatal(err)
		}
		even, evenReports := project(t, a, DecomposeOptions{}, rank)
		if n := greedy.Parameters(); n > budget || n < budget-128 {
			t.Errorf("rank %d: %d parameters, want at most %d and no whole component less", rank, n, budget)
		}
		if even.Parameters() != budget {
			t.Errorf("rank %d: %d parameters, want %d", rank, even.Parameters(), budget)
		}
		got, want := Captured(reports), Captured(evenReports)
		if !(got >= want) || rank > 1 && !(got >= want+0.001) {
			t.Errorf("rank %d: captured %v of the energy, one rank for all %v", rank, got, want)
		}
	}
}

// The oracle is every allocation there is. Greedy is optimal up to the room that
// is left for no further component.
func TestAllocateIsBestForTheRoomItUses(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for range 200 {
		spectra := make([]spectrum, 3)
		for i := range spectra {
			spectra[i].cost = 2 + rng.IntN(5)
			for range 1 + rng.IntN(5) {
				spectra[i].energy = append(spectra[i].energy, rng.Float64())
			}
			slices.SortFunc(spectra[i].energy, func(a, b float64) int { return cmp.Compare(b, a) })
		}
		budget := 18 + rng.IntN(30)
		ranks, err := allocate(spectra, budget)
		if err != nil {
			t.Fatal(err)
		}
		cost, got := value(spectra, ranks)
		if cost > budget {
			t.Fatalf("%v costs %d, budget %d", ranks, cost, budget)
		}
		densest := 0.0 // of what was not taken
		for i, s := range spectra {
			if ranks[i] < len(s.energy) {
				densest = max(densest, s.energy[ranks[i]]/float64(s.cost))
			}
		}
		if best := bestValue(spectra, budget); !(got+densest*float64(budget-cost) >= best-1e-12) {
			t.Fatalf("%v has energy %v, the best %v, with room for %d", ranks, got, best, budget-cost)
		}
	}
}

func value(spectra []spectrum, ranks []int) (cost int, sum float64) {
	for i, s := range spectra {
		cost += ranks[i] * s.cost
		for _, e := range s.energy[:ranks[i]] {
			sum += e
		}
	}
	return cost, sum
}

func bestValue(spectra []spectrum, budget int) float64 {
	best := 0.0
	for a := 1; a <= len(spectra[0].energy); a++ {
		for b := 1; b <= len(spectra[1].energy); b++ {
			for c := 1; c <= len(spectra[2].energy); c++ {
				if cost, sum := value(spectra, []int{a, b, c}); cost <= budget {
					best = max(best, sum)
				}
			}
		}
	}
	return best
}

// Trimming while weights arrive must not change what is chosen in the end. The
// spectra are made up, with cheap components beside dear ones: many of the first
// can fill the room of one of the others that did not fit.
func TestTrimmingChangesNoAllocation(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	dropped := 0
	for range 500 {
		whole := &Decomposition{source: &Adapter{}}
		for range 4 {
			nIn, nOut, k := 1+rng.IntN(6)*rng.IntN(6), 1, 1+rng.IntN(30)
			f, _ := New(MethodLoRA, nIn, nOut, 1, 0)
			whole.weights = append(whole.weights, named{change: f})
			p := part{spectrum: spectrum{cost: nIn + nOut}, a: NewMat(nIn, k), b: NewMat(k, nOut)}
			strength, decay := 100*rng.Float64(), rng.Float64()
			for i := range k {
				p.energy = append(p.energy, strength*math.Exp(-decay*float64(i)))
			}
			whole.parts = append(whole.parts, p)
		}
		budget := whole.MinBudget() + rng.IntN(100)
		trimmed := &Decomposition{source: whole.source, weights: whole.weights, budget: budget}
		for _, p := range whole.parts {
			trimmed.parts = append(trimmed.parts, p)
			trimmed.trim()
		}
		whole.budget = budget
		got, _ := trimmed.Allocate(budget)
		want, _ := whole.Allocate(budget)
		if !slices.Equal(got, want) {
			t.Fatalf("budget %d: ranks %v when trimmed, %v when not", budget, got, want)
		}
		for i, p := range trimmed.parts {
			dropped += len(whole.parts[i].energy) - len(p.energy)
		}
	}
	if dropped == 0 {
		t.Error("nothing was trimmed")
	}
}

func TestAnUntrainedAdapterProjectsToNothing(t *testing.T) {
	a := dualAdapter(t, 10, [2]int{300, 280}, [2]int{20, 20})
	a.Init(1)
	p, reports := project(t, a, DecomposeOptions{}, 3)
	for i, w := range p.Weights {
		if w.Rank() != 1 || norm(w.Matrices()[0].Mat.Data)+norm(w.Matrices()[1].Mat.Data) != 0 {
			t.Errorf("%s: rank %d and not all zero", w.Name, w.Rank())
		}
		if reports[i].Energy != 1 || reports[i].Error != 0 {
			t.Errorf("%s: energy %v, error %v, want 1, 0", w.Name, reports[i].Energy, reports[i].Error)
		}
	}
}

func TestProjectKeepsTheIdentityOfTheBase(t *testing.T) {
	a := dualAdapter(t, 11, [2]int{20, 30})
	a.Meta = map[string]any{KeyVersion: "1.2"}
	p, _ := project(t, a, DecomposeOptions{}, 2)
	if p.Architecture != "llama" || p.BaseName != "toy" || p.BaseHash != "sha256:00" {
		t.Errorf("identity %q %q %q", p.Architecture, p.BaseName, p.BaseHash)
	}
	for key, want := range map[string]any{KeyVersion: "1.2", KeyMethod: "dual-lora", KeyExport: "project"} {
		if p.Meta[key] != want {
			t.Errorf("%s = %v, want %v", key, p.Meta[key], want)
		}
	}
	if len(a.Meta) != 1 {
		t.Errorf("the source's keys became %v", a.Meta)
	}
}

func TestDecomposeRefuses(t *testing.T) {
	a := dualAdapter(t, 12, [2]int{20, 30})
	name := a.Weights[0].Name
	bad := dualAdapter(t, 12, [2]int{20, 30})
	bad.Weights[0].Factors.(*Dual).B.Data[0] = float32(math.NaN())
	channels := func(at int, v float32) map[string][]float32 {
		d := make([]float32, 20)
		d[at] = v
		return map[string][]float32{name: d}
	}
	for _, c := range []struct {
		name string
		a    *Adapter
		o    DecomposeOptions
		want string
	}{
		{"budget", a, DecomposeOptions{Budget: 49}, "adapter: budget 49: rank 1 for each of the 1 weights takes 50 parameters"},
		{"NaN factor", bad, DecomposeOptions{}, `adapter: tensor "blk.0.ffn_up.weight": its ΔW is not finite`},
		{"missing inputs", a, DecomposeOptions{Inputs: map[string][]float32{}}, `adapter: tensor "blk.0.ffn_up.weight": inputs of 0 channels, want 20`},
		{"missing outputs", a, DecomposeOptions{Outputs: map[string][]float32{}}, `adapter: tensor "blk.0.ffn_up.weight": outputs of 0 channels, want 30`},
		{"negative input", a, DecomposeOptions{Inputs: channels(3, -1)}, `adapter: tensor "blk.0.ffn_up.weight": input channel 3 has root mean square -1`},
		{"infinite input", a, DecomposeOptions{Inputs: channels(0, float32(math.Inf(1)))}, `adapter: tensor "blk.0.ffn_up.weight": input channel 0 has root mean square +Inf`},
	} {
		if _, err := Decompose(context.Background(), c.a, c.o); err == nil || err.Error() != c.want {
			t.Errorf("%s: Decompose = %v, want %s", c.name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Decompose(ctx, a, DecomposeOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Decompose with a cancelled context = %v", err)
	}
}
