package adapter

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"
	"finetune/quant/plain"
)

// Central differences of a loss that is linear (LoRA) or piecewise linear
// (Dual, away from its kinks) in each single factor have no truncation error:
// what is left is the float32 rounding of the forward's results, about 1e-7 of
// them, divided by the step.
const (
	differenceStep = 1.0 / 64
	differenceTol  = 2e-4
)

// ruleTol: the same formula in another order, both in float64 and both rounded
// to float32 at the end.
const ruleTol = 1e-6

// gemmTol covers float32 sums over a rank of at most 16 against float64 ones.
const gemmTol = 1e-5

func randomMat(rng *rand.Rand, n, m int) Mat {
	x := NewMat(n, m)
	for i := range x.Data {
		x.Data[i] = float32(rng.NormFloat64())
	}
	return x
}

// randomFactors returns factors with every matrix non-zero, B too, over a random base where they need one.
func randomFactors(t *testing.T, m Method, nIn, nOut, rank int, alpha float32, rng *rand.Rand) Factors {
	t.Helper()
	f := unbound(t, m, nIn, nOut, rank, alpha, rng)
	if _, ok := f.(based); ok {
		bindTo(t, f, randomMat(rng, nIn, nOut))
	}
	return f
}

func unbound(t *testing.T, m Method, nIn, nOut, rank int, alpha float32, rng *rand.Rand) Factors {
	t.Helper()
	f, err := New(m, nIn, nOut, rank, alpha)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range f.Matrices() {
		copy(x.Mat.Data, randomMat(rng, x.Mat.NE[0], x.Mat.NE[1]).Data)
	}
	return f
}

// bindTo gives factors a base of one weight, where they need one.
func bindTo(t *testing.T, f Factors, w Mat) {
	t.Helper()
	a := &Adapter{Weights: []Weight{{"w", f}}}
	if err := a.Bind(baseOf(t, map[string]Mat{"w": w}), plain.Decode); err != nil {
		t.Fatal(err)
	}
}

// baseOf is an open file with these weights in F32.
func baseOf(t *testing.T, weights map[string]Mat) *gguf.File {
	t.Helper()
	b := gguf.NewBuilder()
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		m := weights[name]
		data, err := plain.Append(nil, gguf.TypeF32, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		b.AddTensor(name, gguf.TypeF32, []int64{int64(m.NE[0]), int64(m.NE[1])}, data)
	}
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

// weightOf is the W that factors are bound to, none for those that need none.
func weightOf(f Factors) Mat {
	d, ok := bare(f).(*DoRA)
	if !ok {
		return Mat{}
	}
	w := NewMat(d.Shape())
	d.weight.read(w.Data, 0, w.NE[1])
	return w
}

// referenceOf is ΔW in plain Go.
func referenceOf(f Factors) []float64 { return f.reference(weightOf(f)) }

// loss is Σ c ⊙ y: its derivative by y is c, whatever y.
func loss(y, c Mat) float64 {
	sum := 0.0
	for i, v := range y.Data {
		sum += float64(v) * float64(c.Data[i])
	}
	return sum
}

func difference(f Factors, w, x, c Mat, at *float32) float64 {
	old := *at
	*at = old + differenceStep
	up := loss(Forward(f, w, x), c)
	*at = old - differenceStep
	down := loss(Forward(f, w, x), c)
	*at = old
	return (up - down) / (2 * differenceStep)
}

func wantClose(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !near.Enough(got, want, tol*max(1, math.Abs(want))) {
		t.Errorf("%s = %v, want %v within %v", what, got, want, tol)
	}
}

func TestLoRAGradientsAreFiniteDifferences(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, alpha := range []float32{0, 6} {
		f := randomFactors(t, MethodLoRA, 7, 5, 3, alpha, rng)
		w, x, c := randomMat(rng, 7, 5), randomMat(rng, 7, 4), randomMat(rng, 5, 4)
		dx, grads := Backward(f, w, x, c)
		for i, named := range f.Matrices() {
			for j := range named.Mat.Data {
				want := difference(f, w, x, c, &named.Mat.Data[j])
				wantClose(t, fmt.Sprintf("d%s[%d]", named.Suffix, j), float64(grads[i].Data[j]), want, differenceTol)
			}
		}
		for j := range x.Data {
			wantClose(t, fmt.Sprintf("dx[%d]", j), float64(dx.Data[j]), difference(f, w, x, c, &x.Data[j]), differenceTol)
		}
	}
}

// nearKink tells whether a step of A or B can carry an entry of M through zero:
// there the loss has a corner and differences are no derivative.
func nearKink(d *Dual) bool {
	largest := 0.0
	for _, v := range append(append([]float32{}, d.A.Data...), d.B.Data...) {
		largest = max(largest, math.Abs(float64(v)))
	}
	for _, m := range product(d.A, d.B) {
		if math.Abs(m) < 1.5*differenceStep*largest {
			return true
		}
	}
	return false
}

func TestDualMagnitudeGradientsAreFiniteDifferences(t *testing.T) {
	tried := 0
	for seed := uint64(0); tried < 5; seed++ {
		rng := rand.New(rand.NewPCG(seed, 3))
		f := randomFactors(t, MethodDual, 4, 3, 4, 5, rng).(*Dual)
		if nearKink(f) {
			continue
		}
		tried++
		w, x, c := randomMat(rng, 4, 3), randomMat(rng, 4, 4), randomMat(rng, 3, 4)
		dx, grads := Backward(f, w, x, c)
		for i, named := range f.Matrices()[:2] {
			for j := range named.Mat.Data {
				want := difference(f, w, x, c, &named.Mat.Data[j])
				wantClose(t, fmt.Sprintf("seed %d: d%s[%d]", seed, named.Suffix, j), float64(grads[i].Data[j]), want, differenceTol)
			}
		}
		for j := range x.Data {
			wantClose(t, fmt.Sprintf("seed %d: dx[%d]", seed, j), float64(dx.Data[j]), difference(f, w, x, c, &x.Data[j]), differenceTol)
		}
	}
}

// TestDualDirectionGradientsFollowTheSurrogate computes dC and dD from the rule
// as it is written, entry by entry and token by token, without Backward's parts:
// dL/dN[i,o] = s·ReLU(M[i,o])·Σ_t dy[o,t]·x[i,t].
func TestDualDirectionGradientsFollowTheSurrogate(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	const nIn, nOut, r1, r2, tokens = 6, 5, 3, 2, 4
	f := randomFactors(t, MethodDual, nIn, nOut, r1+r2, 9, rng).(*Dual)
	x, dy := randomMat(rng, nIn, tokens), randomMat(rng, nOut, tokens)
	_, grads := Backward(f, Mat{}, x, dy)
	dc, dd := make([]float64, nIn*r2), make([]float64, r2*nOut)
	for o := range nOut {
		for i := range nIn {
			m, dn := 0.0, 0.0
			for k := range r1 {
				m += float64(f.B.Data[o*r1+k]) * float64(f.A.Data[k*nIn+i])
			}
			for tok := range tokens {
				dn += 9.0 / r1 * math.Max(m, 0) * float64(dy.Data[tok*nOut+o]) * float64(x.Data[tok*nIn+i])
			}
			for k := range r2 {
				dc[k*nIn+i] += float64(f.D.Data[o*r2+k]) * dn
				dd[o*r2+k] += float64(f.C.Data[k*nIn+i]) * dn
			}
		}
	}
	for j, want := range dc {
		wantClose(t, fmt.Sprintf("dC[%d]", j), float64(grads[2].Data[j]), want, ruleTol)
	}
	for j, want := range dd {
		wantClose(t, fmt.Sprintf("dD[%d]", j), float64(grads[3].Data[j]), want, ruleTol)
	}
}

func TestDualLearnsFromItsStart(t *testing.T) {
	f, _ := New(MethodDual, 6, 5, 4, 0)
	f.Init(1, "blk.0.attn_q.weight")
	rng := rand.New(rand.NewPCG(5, 5))
	x, dy := randomMat(rng, 6, 3), randomMat(rng, 5, 3)
	_, grads := Backward(f, Mat{}, x, dy)
	moved := 0.0
	for _, v := range grads[1].Data {
		moved += math.Abs(float64(v))
	}
	if moved == 0 {
		t.Error("dB = 0 at B = 0: ReLU'(0) has to count as 1")
	}
}

func TestDeltaIsTheReference(t *testing.T) {
	for _, m := range Methods() {
		for _, shape := range [][3]int{{5, 3, 2}, {40, 200, 7}, {130, 64, 16}, {33, 65, 3}} {
			rng := rand.New(rand.NewPCG(6, 6))
			f := randomFactors(t, m, shape[0], shape[1], shape[2], 4, rng)
			got := make([]float32, shape[0]*shape[1])
			Delta(f, got)
			for i, want := range referenceOf(f) {
				wantClose(t, fmt.Sprintf("%s %v: ΔW[%d]", m, shape, i), float64(got[i]), want, gemmTol)
			}
		}
	}
}

func TestDeltaRowsEqualDeltaWhereverTheTileStarts(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for _, m := range Methods() {
		f := randomFactors(t, m, 37, 150, 6, 1, rng)
		whole := make([]float32, 37*150)
		Delta(f, whole)
		for _, rows := range [][2]int{{0, 150}, {1, 2}, {60, 131}, {149, 150}} {
			part := make([]float32, (rows[1]-rows[0])*37)
			f.DeltaRows(part, rows[0], rows[1])
			for i, v := range part {
				if v != whole[rows[0]*37+i] {
					t.Fatalf("%s: DeltaRows(%v)[%d] = %v, want %v", m, rows, i, v, whole[rows[0]*37+i])
				}
			}
		}
	}
}

func TestSignOfZeroIsMinusOne(t *testing.T) {
	f, _ := New(MethodDual, 1, 1, 2, 0)
	d := f.(*Dual)
	d.A.Data[0], d.B.Data[0] = 3, 1 // M = 3, N = 0
	got := []float32{0}
	Delta(f, got)
	if got[0] != -3 {
		t.Errorf("ΔW = %v with M = 3 and N = 0, want -3", got[0])
	}
	d.B.Data[0], d.D.Data[0], d.C.Data[0] = -1, 1, 1 // M = -3, N = 1
	if Delta(f, got); got[0] != 0 {
		t.Errorf("ΔW = %v with M = -3, want 0", got[0])
	}
}

func TestInitIsANoOpWithPEFTsBounds(t *testing.T) {
	for _, m := range Methods() {
		f, _ := New(m, 100, 60, 10, 32)
		bindTo(t, f, randomMat(rand.New(rand.NewPCG(8, 8)), 100, 60))
		f.Init(7, "blk.0.attn_q.weight")
		delta := make([]float32, 100*60)
		Delta(f, delta)
		for i, v := range delta {
			if v != 0 {
				t.Fatalf("%s: ΔW[%d] = %v after Init, want 0", m, i, v)
			}
		}
		for _, named := range f.Matrices() {
			checkUniform(t, named)
		}
	}
}

// checkUniform: inside the bound, reaching near it, and centred.
func checkUniform(t *testing.T, named NamedFactor) {
	t.Helper()
	if strings.HasSuffix(named.Suffix, "_b") || named.NoDecay {
		return
	}
	bound := 1 / math.Sqrt(float64(named.Mat.NE[0]))
	largest, sum := 0.0, 0.0
	for _, v := range named.Mat.Data {
		largest = max(largest, math.Abs(float64(v)))
		sum += float64(v)
	}
	n := float64(len(named.Mat.Data))
	if !(largest <= bound && largest >= 0.95*bound) {
		t.Errorf("%s: largest entry %v, want just below %v", named.Suffix, largest, bound)
	}
	// Five standard errors of the mean of a uniform distribution.
	if limit := 5 * bound / math.Sqrt(3*n); !near.Enough(sum/n, 0.0, limit) {
		t.Errorf("%s: mean %v, want within %v of 0", named.Suffix, sum/n, limit)
	}
}

func TestInitDependsOnSeedAndNameAlone(t *testing.T) {
	draw := func(seed uint64, name string) float32 {
		f, _ := New(MethodLoRA, 8, 8, 2, 0)
		f.Init(seed, name)
		return f.(*LoRA).A.Data[3]
	}
	first := draw(1, "blk.0.attn_q.weight")
	if again := draw(1, "blk.0.attn_q.weight"); again != first {
		t.Errorf("the same seed and name gave %v, then %v", first, again)
	}
	if other := draw(2, "blk.0.attn_q.weight"); other == first {
		t.Error("another seed gave the same numbers")
	}
	if other := draw(1, "blk.1.attn_q.weight"); other == first {
		t.Error("another weight gave the same numbers")
	}
	// A stored run has to start alike in every later version.
	if want := float32(0.0026773943); first != want {
		t.Errorf("first stream gave %v, want %v", first, want)
	}
}

func TestNewSplitsTheRank(t *testing.T) {
	for _, c := range []struct {
		rank, r1, r2 int
		scale        float32
	}{{2, 1, 1, 12}, {3, 2, 1, 6}, {7, 4, 3, 3}, {16, 8, 8, 1.5}} {
		f, err := New(MethodDual, 10, 20, c.rank, 12)
		if err != nil {
			t.Fatal(err)
		}
		d := f.(*Dual)
		if d.A.NE[1] != c.r1 || d.C.NE[1] != c.r2 || f.Rank() != c.rank || f.Scale() != c.scale {
			t.Errorf("New(dual-lora, rank %d) has r1 %d, r2 %d, rank %d, scale %v, want %d, %d, %d, %v",
				c.rank, d.A.NE[1], d.C.NE[1], f.Rank(), f.Scale(), c.r1, c.r2, c.rank, c.scale)
		}
		lora, _ := New(MethodLoRA, 10, 20, c.rank, 12)
		if got, want := Parameters(f), Parameters(lora); got != want || got != c.rank*30 {
			t.Errorf("rank %d: dual has %d parameters, lora %d, want %d", c.rank, got, want, c.rank*30)
		}
	}
}

// The scale is alpha/√rank whatever the rank, and 1 without an alpha; llama.cpp makes the same of the file's alpha.
func TestRSLoRAScale(t *testing.T) {
	for _, c := range []struct {
		rank        int
		alpha, want float32
	}{{1, 8, 8}, {4, 8, 4}, {16, 8, 2}, {9, -3, -1}, {7, 0, 1}, {2, 1, float32(math.Sqrt(0.5))}} {
		f, err := New(MethodRSLoRA, 10, 20, c.rank, c.alpha)
		if err != nil {
			t.Fatal(err)
		}
		wantClose(t, fmt.Sprintf("scale of rank %d, alpha %v", c.rank, c.alpha), float64(f.Scale()), float64(c.want), ruleTol)
		if got := llamaScale(f.alpha(), f.(*LoRA).B); got != f.Scale() {
			t.Errorf("rank %d, alpha %v: llama.cpp scales by %v, want %v", c.rank, c.alpha, got, f.Scale())
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		m    Method
		rank int
		want string
	}{
		{MethodLoRA, 0, "adapter: rank 0: lora needs at least 1"},
		{MethodDual, 1, "adapter: rank 1: dual-lora needs at least 2"},
		{MethodDual, -4, "adapter: rank -4: dual-lora needs at least 2"},
		{"ia3", 4, `adapter: method "ia3": want "dual-lora", "lora", "rslora" or "dora"`},
	} {
		_, err := New(c.m, 8, 8, c.rank, 0)
		if err == nil || err.Error() != c.want {
			t.Errorf("New(%q, rank %d) = %v, want %s", c.m, c.rank, err, c.want)
		}
	}
}

// Of several tiles, for what is formed a tile at a time.
func TestNormIsThatOfTheReference(t *testing.T) {
	for _, m := range Methods() {
		f := randomFactors(t, m, 20, 3*tileRows+1, 5, 4, rand.New(rand.NewPCG(9, 9)))
		got, err := Norm(Weight{"w", f})
		if err != nil {
			t.Fatal(err)
		}
		wantClose(t, fmt.Sprintf("‖ΔW‖ of %s", m), got, length(referenceOf(f)), gemmTol)
	}
}
