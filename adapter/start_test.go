package adapter

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"
	"finetune/quant/plain"
)

// thinBase is a base of one weight of which every entry is 0.5 or −0.5.
func thinBase(t *testing.T, nIn, nOut int) *gguf.File {
	t.Helper()
	var raw []byte
	for i := range nIn * nOut {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(0.5-float32(i%2)))
	}
	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	b.AddTensor("blk.0.ffn_up.weight", gguf.TypeF32, []int64{int64(nIn), int64(nOut)}, raw)
	path := filepath.Join(t.TempDir(), "base.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// entryTolerance is for a product of three float32 numbers.
const entryTolerance = 1e-6

func TestThinStart(t *testing.T) {
	const nIn, nOut = 48, 40
	f := thinBase(t, nIn, nOut)
	for _, tt := range []struct {
		recipe Recipe
		r1     int
		size   float64 // of every entry of ΔW
	}{
		{Recipe{Method: MethodDual, Rank: 8, Alpha: 4, Start: StartThin, Rho: 0.04}, 1, 0.02},
		{Recipe{Method: MethodDual, Rank: 8, Alpha: 12, Start: StartGradient, MagnitudeRank: 3, Rho: 0.04}, 3, 0.02},
		{Recipe{Method: MethodDual, Rank: 8, Start: StartThin}, 1, 0.5 * maxRho},
	} {
		a, err := tt.recipe.Build(f.Tensors())
		if err != nil {
			t.Fatal(err)
		}
		if err := tt.recipe.Init(a, 1, f, plain.Decode); err != nil {
			t.Fatal(err)
		}
		d := a.Weights[0].Factors.(*Dual)
		if d.A.NE[1] != tt.r1 || d.C.NE[1] != 8-tt.r1 || d.Rank() != 8 {
			t.Errorf("%+v: ranks %d and %d, want %d and %d", tt.recipe, d.A.NE[1], d.C.NE[1], tt.r1, 8-tt.r1)
		}
		if near.Largest(d.D.Data) != 0 || near.Largest(d.C.Data) == 0 {
			t.Errorf("%+v: D up to %v, C up to %v, want 0 and drawn numbers", tt.recipe, near.Largest(d.D.Data), near.Largest(d.C.Data))
		}
		delta := make([]float32, nIn*nOut)
		Delta(d, delta)
		for i, v := range delta {
			if !near.Enough(math.Abs(float64(v)), tt.size, entryTolerance) {
				t.Fatalf("%+v: |ΔW| is %v at %d, want %v", tt.recipe, v, i, tt.size)
			}
		}
	}
}

// The paper's start: s = alpha/√(r1·r2), in the file's alpha too; numbers of a normal distribution; a limited estimator.
func TestPaperStart(t *testing.T) {
	const nIn, nOut, alpha = 400, 300, 12
	f := thinBase(t, nIn, nOut)
	for _, tt := range []struct{ rank, magnitude, r1 int }{{8, 0, 4}, {7, 0, 4}, {9, 2, 2}} {
		r := Recipe{Method: MethodDual, Rank: tt.rank, Alpha: alpha, Start: StartPaper, MagnitudeRank: tt.magnitude}
		a, err := r.Build(f.Tensors())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Init(a, 1, f, plain.Decode); err != nil {
			t.Fatal(err)
		}
		d := a.Weights[0].Factors.(*Dual)
		if want := alpha / math.Sqrt(float64(tt.r1*(tt.rank-tt.r1))); d.A.NE[1] != tt.r1 || !near.Within(float64(d.Scale()), want, entryTolerance) || d.Limit != 1 {
			t.Errorf("%+v: ranks %d + %d, scale %v, limit %v, want %d, %v, 1", tt, d.A.NE[1], d.C.NE[1], d.Scale(), d.Limit, tt.r1, want)
		}
		for _, m := range d.Matrices() {
			var sum, squares float64
			for _, v := range m.Mat.Data {
				sum += float64(v)
				squares += float64(v) * float64(v)
			}
			n := float64(len(m.Mat.Data))
			if deviation := math.Sqrt(squares / n); math.Abs(sum/n) > 4*0.02/math.Sqrt(n) || !near.Within(deviation, 0.02, 4/math.Sqrt(2*n)) {
				t.Errorf("%+v %s: mean %v, deviation %v, want 0 and 0.02", tt, m.Suffix, sum/n, deviation)
			}
		}
		path := filepath.Join(t.TempDir(), "adapter.gguf")
		a.Architecture = "llama"
		if err := a.Save(path); err != nil {
			t.Fatal(err)
		}
		read, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := read.Weights[0].Factors.(*Dual); got.Scale() != d.Scale() || got.A.NE != d.A.NE {
			t.Errorf("%+v: a reader of the file sees scale %v, want %v", tt, got.Scale(), d.Scale())
		}
	}
}

func TestAutoRho(t *testing.T) {
	for matrices, want := range map[int]float64{0: 0.05, 7: 0.05, 42: 0.05, 126: 2.1 / 126, 210: 0.01} {
		if got := AutoRho(matrices); !near.Enough(got, want, entryTolerance) {
			t.Errorf("AutoRho(%d) = %v, want %v", matrices, got, want)
		}
	}
}

func TestSetDirections(t *testing.T) {
	d := newDualOf(6, 5, 1, 3, 0)
	basis := NewMat(6, 4)
	for k := range 4 {
		basis.Row(k)[k+1] = 1
	}
	d.SetDirections(basis)
	for k := range 2 {
		for i, v := range d.C.Row(k) {
			want := 0.0
			if i == k+1 {
				want = math.Sqrt(1. / 3)
			}
			if !near.Enough(v, want, entryTolerance) {
				t.Errorf("C[%d][%d] = %v, want %v", k, i, v, want)
			}
		}
	}
}

// The basis has the directions in which the rows are longest first, and is orthonormal.
func TestRowSpace(t *testing.T) {
	m := NewMat(5, 3)
	copy(m.Row(0), []float32{0, 3, 0, 0, 0})
	copy(m.Row(1), []float32{0, 0, 0, 7, 0})
	copy(m.Row(2), []float32{0, 3, 0, 7, 1})
	basis, err := RowSpace(m)
	if err != nil {
		t.Fatal(err)
	}
	if v := basis.Row(0)[3]; math.Abs(float64(v)) < 0.9 {
		t.Errorf("the first direction is %v, want mostly the fourth axis", basis.Row(0))
	}
	for i := range 3 {
		for k := range 3 {
			var sum, want float64
			for n := range 5 {
				sum += float64(basis.Row(i)[n]) * float64(basis.Row(k)[n])
			}
			if i == k {
				want = 1
			}
			if !near.Enough(sum, want, 10*entryTolerance) {
				t.Errorf("rows %d and %d: product %v, want %v", i, k, sum, want)
			}
		}
	}
}

func TestRecipesThatCannotBe(t *testing.T) {
	tensors := []gguf.Tensor{{Name: "blk.0.ffn_up.weight", Shape: []int64{20, 30}}}
	for _, tt := range []struct {
		recipe Recipe
		want   string
	}{
		{Recipe{Method: MethodDual, Rank: 4, Start: "thick"}, `start "thick": want even, thin, gradient, paper`},
		{Recipe{Method: MethodLoRA, Rank: 4, Start: StartThin}, `start "thin": lora has one way to start`},
		{Recipe{Method: MethodDual, Rank: 4, MagnitudeRank: 4}, "magnitude rank 4: want 1 to 3"},
		{Recipe{Method: MethodDual, Rank: 4, MagnitudeRank: -1}, "magnitude rank -1: want 1 to 3"},
		{Recipe{Method: MethodDoRA, Rank: 4, MagnitudeRank: 1}, "magnitude rank 1: dora has no magnitude group"},
		{Recipe{Method: "none", Rank: 4}, `method "none"`},
	} {
		if _, err := tt.recipe.Build(tensors); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Build(%+v) = %v, want %q", tt.recipe, err, tt.want)
		}
	}
	for _, name := range []string{"blk.1.ffn_up.weight"} {
		r := Recipe{Method: MethodDual, Rank: 4, Start: StartThin}
		a, err := r.Build([]gguf.Tensor{{Name: name, Shape: []int64{48, 40}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Init(a, 1, thinBase(t, 48, 40), plain.Decode); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q: not in the model", name)) {
			t.Errorf("Init over another base = %v", err)
		}
	}
}
