package adapter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/quant/plain"
)

func randomDoRA(t *testing.T, nIn, nOut, rank int, alpha float32, rng *rand.Rand) (*DoRA, Mat) {
	t.Helper()
	d := randomFactors(t, MethodDoRA, nIn, nOut, rank, alpha, rng).(*DoRA)
	return d, weightOf(d)
}

// lengths are those of the rows of W + s·B·A, entry by entry.
func lengths(d *DoRA, w Mat) []float64 {
	nIn, nOut := d.Shape()
	all := make([]float64, nOut)
	for o := range nOut {
		for i := range nIn {
			v := float64(w.Row(o)[i])
			for k := range d.Rank() {
				v += float64(d.Scale()) * float64(d.B.Row(o)[k]) * float64(d.A.Row(k)[i])
			}
			all[o] += v * v
		}
		all[o] = math.Sqrt(all[o])
	}
	return all
}

// peft is the output of PEFT's layer with the lengths given: W·x + (g − 1)·W·x + g·s·B·(A·x), g = M/‖V‖.
func peft(d *DoRA, w, x Mat, lengths []float64) Mat {
	nIn, nOut := d.Shape()
	y := NewMat(nOut, x.NE[1])
	for t := range x.NE[1] {
		for o := range nOut {
			base, lora := 0.0, 0.0
			for i := range nIn {
				base += float64(w.Row(o)[i]) * float64(x.Row(t)[i])
			}
			for k := range d.Rank() {
				ax := 0.0
				for i := range nIn {
					ax += float64(d.A.Row(k)[i]) * float64(x.Row(t)[i])
				}
				lora += float64(d.B.Row(o)[k]) * ax
			}
			g := float64(d.M.Data[o]) / lengths[o]
			y.Row(t)[o] = float32(base + (g-1)*base + g*float64(d.Scale())*lora)
		}
	}
	return y
}

func TestDoRAForwardIsPEFTs(t *testing.T) {
	rng := rand.New(rand.NewPCG(41, 1))
	for _, alpha := range []float32{0, 6} {
		d, w := randomDoRA(t, 9, 7, 3, alpha, rng)
		x := randomMat(rng, 9, 4)
		want := peft(d, w, x, lengths(d, w))
		for i, got := range Forward(d, w, x).Data {
			wantClose(t, fmt.Sprintf("y[%d]", i), float64(got), float64(want.Data[i]), ruleTol)
		}
	}
}

// The gradients are those of a layer whose ‖V‖ stays what it is while the factors move.
func TestDoRAGradientsAreFiniteDifferencesAtConstantLength(t *testing.T) {
	rng := rand.New(rand.NewPCG(42, 1))
	for _, alpha := range []float32{0, 6} {
		d, w := randomDoRA(t, 7, 5, 3, alpha, rng)
		x, c := randomMat(rng, 7, 4), randomMat(rng, 5, 4)
		fixed := lengths(d, w)
		difference := func(at *float32) float64 {
			old := *at
			*at = old + differenceStep
			up := loss(peft(d, w, x, fixed), c)
			*at = old - differenceStep
			down := loss(peft(d, w, x, fixed), c)
			*at = old
			return (up - down) / (2 * differenceStep)
		}
		dx, grads := Backward(d, w, x, c)
		for i, named := range d.Matrices() {
			for j := range named.Mat.Data {
				wantClose(t, fmt.Sprintf("d%s[%d]", named.Suffix, j), float64(grads[i].Data[j]), difference(&named.Mat.Data[j]), differenceTol)
			}
		}
		for j := range x.Data {
			wantClose(t, fmt.Sprintf("dx[%d]", j), float64(dx.Data[j]), difference(&x.Data[j]), differenceTol)
		}
	}
}

func TestDoRALearnsFromItsStart(t *testing.T) {
	f, _ := New(MethodDoRA, 6, 5, 2, 0)
	rng := rand.New(rand.NewPCG(43, 1))
	w := randomMat(rng, 6, 5)
	bindTo(t, f, w)
	f.Init(1, "blk.0.attn_q.weight")
	_, grads := Backward(f, w, randomMat(rng, 6, 3), randomMat(rng, 5, 3))
	for i, moves := range []bool{false, true, true} { // A waits for B, as in every LoRA
		if got := norm(grads[i].Data) > 0; got != moves {
			t.Errorf("d%s moves: %v, want %v", f.Matrices()[i].Suffix, got, moves)
		}
	}
}

// A row of zeros has no direction: it starts as no change, is no NaN once B has moved, and a magnitude of 0 keeps it zero.
func TestDoRAOfARowOfZeros(t *testing.T) {
	f, _ := New(MethodDoRA, 6, 3, 2, 0)
	rng := rand.New(rand.NewPCG(44, 1))
	w := randomMat(rng, 6, 3)
	clear(w.Row(1))
	bindTo(t, f, w)
	f.Init(1, "w")
	d, delta := f.(*DoRA), make([]float32, 18)
	if Delta(f, delta); norm(delta) != 0 {
		t.Errorf("ΔW = %v at the start, want 0", delta)
	}
	copy(d.B.Data, randomMat(rng, 2, 3).Data)
	for _, m := range []float32{d.M.Data[1], 0} {
		d.M.Data[1] = m
		Delta(f, delta)
		if _, bad := firstNotFinite(delta); bad || !(norm(delta[6:12]) <= 1e-12) {
			t.Errorf("M = %v: ΔW = %v, want next to nothing in the row of zeros", m, delta)
		}
	}
}

// Bases are quantized: their rows are read through the decoder, whole blocks of a type.
func TestDoRAOverAQuantizedBase(t *testing.T) {
	rng := rand.New(rand.NewPCG(45, 1))
	w := randomMat(rng, 64, 130)
	data, err := plain.Append(nil, gguf.TypeQ8_0, w.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Decode(gguf.TypeQ8_0, data, w.Data); err != nil {
		t.Fatal(err)
	}
	b := gguf.NewBuilder()
	b.AddTensor("w", gguf.TypeQ8_0, []int64{64, 130}, data)
	path := filepath.Join(t.TempDir(), "base.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	file, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f := unbound(t, MethodDoRA, 64, 130, 4, 8, rng)
	if err := (Weight{"w", f}).Bind(file, plain.Decode); err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 64*130)
	Delta(f, got)
	for i, want := range f.reference(w) {
		wantClose(t, fmt.Sprintf("ΔW[%d]", i), float64(got[i]), want, gemmTol)
	}
}

func TestBindRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(46, 1))
	f := unbound(t, MethodDoRA, 8, 6, 2, 0, rng)
	base := baseOf(t, map[string]Mat{"w": randomMat(rng, 8, 6), "v": randomMat(rng, 8, 7)})
	broken := func(gguf.Type, []byte, []float32) error { return errors.New("no such type") }
	for _, c := range []struct {
		name   string
		decode Decoder
		want   string
	}{
		{"v", plain.Decode, `adapter: tensor "v": made for shape [8 6], the model has [8 7]`},
		{"x", plain.Decode, `adapter: tensor "x": not in the model`},
		{"w", broken, `adapter: tensor "w": no such type`},
	} {
		if err := (Weight{c.name, f}).Bind(base, c.decode); err == nil || err.Error() != c.want {
			t.Errorf("Bind of %q: %v, want %s", c.name, err, c.want)
		}
	}
	lora := unbound(t, MethodLoRA, 8, 6, 2, 0, rng)
	if err := (Weight{"x", lora}).Bind(base, plain.Decode); err != nil {
		t.Errorf("Bind of a LoRA: %v, want nothing to do", err)
	}
}

// Without its base a DoRA is factors and no change: whoever wants one is told.
func TestDoRAWithoutItsBase(t *testing.T) {
	ctx, a := context.Background(), randomAdapter(t, MethodDoRA)
	lora := randomAdapter(t, MethodLoRA)
	_, _, rerank := Rerank(ctx, a, Cut{Rank: 2}, CutOptions{})
	_, _, combine := Combine(ctx, []Ingredient{{lora, 1}, {a, 1}}, CombineOptions{Method: CombineTIES})
	_, decompose := Decompose(ctx, a, DecomposeOptions{})
	_, diff := Diff(ctx, lora, a)
	_, norm := Norm(a.Weights[0])
	_, spectrum := SpectrumOf(a.Weights[0], 3, 1)
	path := filepath.Join(t.TempDir(), "out.gguf")
	for what, err := range map[string]error{"Rerank": rerank, "Combine": combine, "Decompose": decompose, "Diff": diff, "Norm": norm,
		"SpectrumOf": spectrum, "WriteExact": a.WriteExact(path, LoRAOptions{})} {
		if !errors.Is(err, ErrNeedsBase) || !strings.HasPrefix(err.Error(), `adapter: tensor "blk.2.attn_q.weight": `) {
			t.Errorf("%s: %v, want ErrNeedsBase of the first tensor", what, err)
		}
	}
	if _, err := a.Scaled(0.5); err == nil || !strings.Contains(err.Error(), "no multiple") {
		t.Errorf("Scaled: %v", err)
	}
	if err := a.WriteLoRA(path, LoRAOptions{}); err == nil || err.Error() != `adapter: tensor "blk.2.attn_q.weight": dora has no low-rank form, project it first` {
		t.Errorf("WriteLoRA: %v", err)
	}
}

func TestDoRAContainerIsNoLoRA(t *testing.T) {
	f, err := gguf.Open(save(t, randomAdapter(t, MethodDoRA)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range map[string]any{"general.type": "adapter", "adapter.type": "dora", "adapter.dora.alpha": float32(12), KeyMethod: "dora", "finetune.rank": uint32(6)} {
		if got, _ := f.Get(key); got != want {
			t.Errorf("%s = %v, want %v", key, got, want)
		}
	}
	for suffix, want := range map[string][]int64{"dora_a": {64, 6}, "dora_b": {6, 32}, "dora_m": {32, 1}} {
		if got, ok := f.Tensor("blk.2.attn_q.weight." + suffix); !ok || !slices.Equal(got.Shape, want) || got.Type != gguf.TypeF32 {
			t.Errorf("%s: %v %v %s, want f32 %v", suffix, ok, got.Shape, got.Type, want)
		}
	}
}

// What is known of other changes holds for a bound DoRA's: the exact form is ΔW itself, and a projection the best there is.
func TestBoundDoRAIsAChangeLikeOthers(t *testing.T) {
	rng := rand.New(rand.NewPCG(47, 1))
	a := &Adapter{Architecture: "llama", Weights: []Weight{{"blk.0.ffn_up.weight", randomFactors(t, MethodDoRA, 40, 30, 3, 6, rng)}}}
	p, reports := rerank(t, a, Cut{Rank: 5})
	wantBest(t, "dora", p.Weights[0].Factors, a.Weights[0].Factors, reports[0])
	path := filepath.Join(t.TempDir(), "exact.gguf")
	if err := a.WriteExact(path, LoRAOptions{}); err != nil {
		t.Fatal(err)
	}
	exact := load(t, path)
	if exact.Meta[KeyMethod] != "dora" || exact.Meta[KeyExport] != "exact" {
		t.Errorf("keys %v", exact.Meta)
	}
	wantDelta(t, "exact", exact.Weights[0].Factors, referenceOf(a.Weights[0]), gemmTol)
}
