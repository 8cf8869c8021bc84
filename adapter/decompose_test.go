package adapter

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"finetune/internal/near"

	"gonum.org/v1/gonum/mat"
)

func decomposed(t *testing.T, a *Adapter, o DecomposeOptions) *Decomposition {
	t.Helper()
	d, err := Decompose(context.Background(), a, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Memory is kept for what a projection within the bounds can use, and for no more.
func TestDecomposeKeepsWhatItsBoundsAllow(t *testing.T) {
	small, large := dualAdapter(t, 1, [2]int{40, 30}, [2]int{40, 30}), dualAdapter(t, 2, [2]int{300, 280})
	lora := loraAdapter(t, 3, 8, [3]int{40, 30, 9})
	for _, c := range []struct {
		name string
		a    *Adapter
		o    DecomposeOptions
		want []int
	}{
		{"all of small weights", small, DecomposeOptions{Budget: 1 << 20}, []int{30, 30}},
		{"a rank", small, DecomposeOptions{Budget: 1 << 20, MaxRank: 7}, []int{7, 7}},
		{"a rank of a LoRA", lora, DecomposeOptions{Budget: 1 << 20, MaxRank: 7}, []int{7}},
		{"a rank above 64 of a large weight", large, DecomposeOptions{Budget: 1 << 20, MaxRank: 80}, []int{80}},
		{"what the budget buys, and two for what is left of it", large, DecomposeOptions{Budget: 11 * 580}, []int{11 + 2}},
		{"by default what four times the adapter's parameters buy", large, DecomposeOptions{}, []int{4*8 + 2}},
		{"no rank above the smaller side", small, DecomposeOptions{Budget: 1 << 20, MaxRank: 99}, []int{30, 30}},
	} {
		d := decomposed(t, c.a, c.o)
		if got := d.Whole(); !slices.Equal(got, c.want) {
			t.Errorf("%s: components %v, want %v", c.name, got, c.want)
		}
	}
	d := &Decomposition{weights: large.changes(), budget: 11*580 + 100}
	for _, c := range []struct{ small, most int }{{directLimit, directLimit}, {directLimit + 1, 22}, {20, 20}} {
		if got := d.maxRank(DecomposeOptions{}, c.small); got != c.most {
			t.Errorf("of a weight %d wide up to %d components are looked for, want %d", c.small, got, c.most)
		}
	}
}

func TestDecomposeTellsOfEachWeight(t *testing.T) {
	var told [][2]int
	decomposed(t, loraAdapter(t, 1, 8, [3]int{9, 8, 2}, [3]int{9, 8, 2}, [3]int{9, 8, 2}), DecomposeOptions{
		Progress: func(done, total int) { told = append(told, [2]int{done, total}) }})
	if want := [][2]int{{1, 3}, {2, 3}, {3, 3}}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// The factors of a LoRA are weighted as its ΔW would be.
func TestLoRAWeightedOnBothSidesIsItsOptimum(t *testing.T) {
	a := loraAdapter(t, 4, 8, [3]int{40, 30, 9})
	w := a.Weights[0]
	positive := func(n int, phase float64) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(math.Exp(2 * math.Sin(float64(i)+phase)))
		}
		return v
	}
	for _, sides := range [][2][]float32{{positive(40, 0), nil}, {nil, positive(30, 1)}, {positive(40, 2), positive(30, 3)}} {
		o := DecomposeOptions{}
		in, out := slices.Repeat([]float32{1}, 40), slices.Repeat([]float32{1}, 30)
		if sides[0] != nil {
			in, o.Inputs = sides[0], map[string][]float32{w.Name: sides[0]}
		}
		if sides[1] != nil {
			out, o.Outputs = sides[1], map[string][]float32{w.Name: sides[1]}
		}
		weighted := func(f Factors) *mat.Dense {
			m := plainDelta(f)
			m.Apply(func(o, i int, v float64) float64 { return v * float64(out[o]) * float64(in[i]) }, m)
			return m
		}
		p, reports := project(t, a, o, 4)
		sigma := singularValues(t, weighted(w))
		var diff mat.Dense
		diff.Sub(weighted(w), weighted(p.Weights[0]))
		what := fmt.Sprintf("inputs %v, outputs %v", sides[0] != nil, sides[1] != nil)
		wantClose(t, what+": weighted ‖ΔW − B·A‖", frobenius(&diff)/sigma[0], math.Sqrt(energy(sigma[4:]))/sigma[0], 10*factorTol)
		wantClose(t, what+": Report.Total", reports[0].Total/energy(sigma), 1, factorTol)
		wantClose(t, what+": Report.Energy", reports[0].Energy, energy(sigma[:4])/energy(sigma), factorTol)
	}
}

// Whether the components of a LoRA cancel one another out is a question of their size beside that of the factors, not of
// any size.
func TestSizesOfFactorsDoNotCancelThem(t *testing.T) {
	for _, c := range []struct{ alpha, a, b float64 }{{1e-12, 1, 1}, {1e12, 1, 1}, {-1e-12, 1, 1}, {1, 1e-14, 1}, {1, 1, 1e-14}, {1, 1e14, 1e-14}, {1, 1e-10, 1e-10}} {
		source := loraAdapter(t, 5, 1, [3]int{20, 30, 2})
		l := source.Weights[0].Factors.(*LoRA)
		l.Alpha = float32(c.alpha)
		for i := range l.A.Data {
			l.A.Data[i] *= float32(c.a)
		}
		for i := range l.B.Data {
			l.B.Data[i] *= float32(c.b)
		}
		opposite := &LoRA{A: NewMat(20, 2), B: NewMat(2, 30), Alpha: l.Alpha}
		for k := range 2 { // both components lie along the first row of A, with opposite columns of B
			copy(opposite.A.Row(k), l.A.Row(0))
		}
		for o := range 30 {
			opposite.B.Row(o)[0], opposite.B.Row(o)[1] = l.B.Row(o)[0], -l.B.Row(o)[0]
		}
		source.Weights = append(source.Weights, Weight{"blk.1.ffn_up.weight", opposite})
		_, reports := project(t, source, DecomposeOptions{}, 2)
		want := energy(singularValues(t, plainDelta(l)))
		wantClose(t, fmt.Sprintf("%+v: Report.Total", c), reports[0].Total/want, 1, factorTol)
		if reports[0].Rank != 2 || reports[1].Rank != 1 || reports[1].Total != 0 {
			t.Errorf("%+v: rank %d, want 2, and rank %d with energy %v of components that cancel, want 1 and 0", c, reports[0].Rank, reports[1].Rank, reports[1].Total)
		}
	}
}

// No channel is taken for less than a thousandth of their root mean square.
func TestChannelsHaveAFloor(t *testing.T) {
	for _, c := range []struct{ rms, want []float32 }{
		{[]float32{0, 3, 4, 0.0024}, []float32{0.0025, 3, 4, 0.0025}},
		{[]float32{1000, 1000}, []float32{1000, 1000}},
		{[]float32{0, 0}, nil}, // nothing was ever active: all alike
	} {
		got, err := channels("input", map[string][]float32{"w": c.rms}, "w", len(c.rms))
		if err != nil || len(got) != len(c.want) || len(got) > 0 && near.Share(got, c.want) > 1e-6 { // of float32 squares
			t.Errorf("channels of %v = %v, %v, want %v", c.rms, got, err, c.want)
		}
	}
}

func TestEnough(t *testing.T) {
	for _, c := range []struct {
		wanted float64
		want   int
	}{{0, 1}, {4, 1}, {4.5, 2}, {5, 2}, {5.25, 3}, {9, 3}} {
		if got := enough([]float64{2, 1, 0.5}, c.wanted); got != c.want {
			t.Errorf("enough for %v = %d, want %d", c.wanted, got, c.want)
		}
	}
}
