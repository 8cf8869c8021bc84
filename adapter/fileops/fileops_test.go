package fileops

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/hint"
)

// sameTol is for ΔW of factors that went through float32 once more.
const sameTol = 1e-6

// random is an adapter with three weights, all factors drawn.
func random(t *testing.T, m adapter.Method, seed uint64, rank int, alpha float32) *adapter.Adapter {
	t.Helper()
	a := &adapter.Adapter{Architecture: "llama", BaseName: "toy", BaseHash: "sha256:00", Meta: map[string]gguf.Value{adapter.KeyVersion: "1.2"}}
	rng := rand.New(rand.NewPCG(seed, 1))
	for i, ne := range [][2]int{{64, 32}, {32, 64}, {172, 64}} {
		f, err := adapter.New(m, ne[0], ne[1], rank, alpha)
		if err != nil {
			t.Fatal(err)
		}
		for _, mat := range f.Matrices() {
			for j := range mat.Mat.Data {
				mat.Mat.Data[j] = float32(rng.NormFloat64())
			}
		}
		a.Weights = append(a.Weights, adapter.Weight{Name: fmt.Sprintf("blk.%d.ffn_up.weight", i), Factors: f})
	}
	return a
}

// file writes an adapter in a type.
func file(t *testing.T, a *adapter.Adapter, typ gguf.Type) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in.gguf")
	err := a.Save(path)
	if a.Method() == adapter.MethodLoRA {
		err = a.WriteLoRA(path, adapter.LoRAOptions{Type: typ})
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, path string) *adapter.Adapter {
	t.Helper()
	a, err := adapter.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// out is a file that is not there.
func out(t *testing.T) Output { return Output{Out: filepath.Join(t.TempDir(), "out.gguf")} }

// wantTimes checks that ΔW in got is factor times that in a.
func wantTimes(t *testing.T, what string, got, a *adapter.Adapter, factor float64) {
	t.Helper()
	for i, w := range a.Weights {
		nIn, nOut := w.Shape()
		before, after := make([]float32, nIn*nOut), make([]float32, nIn*nOut)
		adapter.Delta(w, before)
		adapter.Delta(got.Weights[i], after)
		apart, whole := 0.0, 0.0
		for j := range before {
			v := factor * float64(before[j])
			apart, whole = apart+(float64(after[j])-v)*(float64(after[j])-v), whole+v*v
		}
		if !(apart <= sameTol*sameTol*whole) {
			t.Errorf("%s: %s is %v off, of %v", what, w.Name, math.Sqrt(apart), math.Sqrt(whole))
		}
	}
}

func TestScaleKeepsFactorsAndTypes(t *testing.T) {
	for _, typ := range []gguf.Type{gguf.TypeF32, gguf.TypeF16, gguf.TypeBF16, gguf.TypeQ8_0} {
		in := file(t, random(t, adapter.MethodLoRA, 1, 4, 8), typ)
		o := out(t)
		r, err := Scale(in, 0.3, o)
		if err != nil {
			t.Fatal(err)
		}
		before, after := load(t, in), load(t, o.Out)
		for i, m := range before.Tensors() {
			if !slices.Equal(m.Mat.Data, after.Tensors()[i].Mat.Data) {
				t.Errorf("%s: %s has other numbers", typ, m.Name)
			}
		}
		wantTimes(t, typ.String(), after, before, float64(float32(0.3)))
		if r.Type != typ.String() || after.Type != typ || r.Energy != 1 || r.RankMax != 4 || r.Parameters != before.Parameters() {
			t.Errorf("%s: report %+v, type of the file %s", typ, r, after.Type)
		}
	}
}

// Without an alpha and with ranks that differ, the factor has to go into B: no type but F32 holds that.
func TestScaleOfMixedRanks(t *testing.T) {
	a := random(t, adapter.MethodLoRA, 2, 4, 0)
	f, _ := adapter.New(adapter.MethodLoRA, 64, 32, 7, 0)
	f.Init(1, "w")
	copy(f.Matrices()[1].Mat.Data, a.Weights[0].Matrices()[1].Mat.Data)
	a.Weights[0].Factors = f
	in := file(t, a, gguf.TypeF16)
	for factor, want := range map[float32]string{0.5: "f16", 0.3: "f32"} {
		o := out(t)
		r, err := Scale(in, factor, o)
		if err != nil {
			t.Fatal(err)
		}
		wantTimes(t, fmt.Sprint(factor), load(t, o.Out), load(t, in), float64(factor))
		if r.Type != want {
			t.Errorf("by %v: %s, want %s", factor, r.Type, want)
		}
	}
}

func TestScaleOfDual(t *testing.T) {
	in := file(t, random(t, adapter.MethodDual, 3, 4, 0), gguf.TypeF32)
	o := out(t)
	r, err := Scale(in, -2, o)
	if err != nil {
		t.Fatal(err)
	}
	after := load(t, o.Out)
	wantTimes(t, "dual", after, load(t, in), -2)
	if r.Method != "dual-lora" || r.Type != "f32" || after.BaseHash != "sha256:00" || after.Meta[adapter.KeyVersion] != "1.2" {
		t.Errorf("report %+v, keys %v", r, after.Meta)
	}
	half := gguf.TypeF16
	o = Output{Out: filepath.Join(t.TempDir(), "half.gguf"), Type: &half}
	if _, err := Scale(in, 2, o); err == nil || err.Error() != "adapter: type f16: dual-lora is kept in f32" {
		t.Errorf("in f16: %v", err)
	}
}

// What was done is told in the file, one line after the other, and in JSON.
func TestHistoryAndReport(t *testing.T) {
	x, y := file(t, random(t, adapter.MethodLoRA, 4, 4, 8), gguf.TypeF16), file(t, random(t, adapter.MethodLoRA, 5, 4, 8), gguf.TypeF16)
	o := out(t)
	r, err := Combine(context.Background(), []Source{{x, 1}, {y, 0.5}}, adapter.CombineOptions{Method: adapter.CombineCat}, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Type != "f16" || r.RankMin != 8 || r.OtherBase != "" || len(r.Tensors) != 3 {
		t.Errorf("report %+v", r)
	}
	second, third := out(t), out(t)
	if _, err = Rerank(context.Background(), o.Out, adapter.Cut{Energy: 0.9}, adapter.CutOptions{}, second); err != nil {
		t.Fatal(err)
	}
	if r, err = Scale(second.Out, 2, third); err != nil {
		t.Fatal(err)
	}
	lines := load(t, third.Out).Meta[adapter.KeyHistory].(gguf.Array).Values().([]string)
	for i, want := range []string{`combine by cat of "in.gguf" × 1, "in.gguf" × 0.5: 100.00 % of the energy`, `rerank to energy 0.9: 9`, `scale by 2`} {
		if len(lines) != 3 || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("history %q, line %d wants %q", lines, i, want)
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"operation":"scale","how":"by 2","file":`, `"from":[{"file":`, `"rank_min":`, `"scale_min":1`, `"type":"f16"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("JSON %s, want %s in it", text, want)
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var v gguf.Value
	for i := range 3 * maxHistory {
		v = history(v, fmt.Sprint(i))
	}
	lines := v.(gguf.Array).Values().([]string)
	if len(lines) != maxHistory || lines[maxHistory-1] != fmt.Sprint(3*maxHistory-1) {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	if got := history("no list", "x").Len(); got != 1 {
		t.Errorf("%d lines after a key of another kind", got)
	}
}

// Types of results that are not the inputs' numbers.
func TestTypesOfResults(t *testing.T) {
	of := func(seed uint64, m adapter.Method, typ gguf.Type) string {
		return file(t, random(t, m, seed, 4, 8), typ)
	}
	lora, dual := adapter.MethodLoRA, adapter.MethodDual
	for _, c := range []struct {
		name   string
		x, y   string
		weight float64
		method adapter.CombineMethod
		want   string
	}{
		{"equal scales, cat", of(1, lora, gguf.TypeF16), of(2, lora, gguf.TypeF16), 1, adapter.CombineCat, "f16"},
		{"scales that round, cat", of(1, lora, gguf.TypeF16), of(2, lora, gguf.TypeF16), 0.3, adapter.CombineCat, "f32"},
		{"quantized, cat", of(1, lora, gguf.TypeQ8_0), of(2, lora, gguf.TypeQ8_0), 1, adapter.CombineCat, "q8_0"}, // the rows of B are no whole blocks but halves
		{"of two types", of(1, lora, gguf.TypeF16), of(2, lora, gguf.TypeBF16), 1, adapter.CombineLinear, "f32"},
		{"halves", of(1, lora, gguf.TypeBF16), of(2, lora, gguf.TypeBF16), 0.3, adapter.CombineTIES, "bf16"},
		{"quantized", of(1, lora, gguf.TypeQ8_0), of(2, lora, gguf.TypeQ8_0), 1, adapter.CombineLinear, "f32"},
		{"with a Dual LoRA", of(1, lora, gguf.TypeF16), of(2, dual, gguf.TypeF32), 1, adapter.CombineDARE, "f32"},
	} {
		r, err := Combine(context.Background(), []Source{{c.x, 1}, {c.y, c.weight}}, adapter.CombineOptions{Method: c.method}, out(t))
		if err != nil {
			t.Fatal(err)
		}
		if r.Type != c.want {
			t.Errorf("%s: %s, want %s", c.name, r.Type, c.want)
		}
	}
}

func TestOtherBaseIsReported(t *testing.T) {
	a, b := random(t, adapter.MethodLoRA, 6, 2, 8), random(t, adapter.MethodDual, 7, 2, 8)
	b.BaseHash, b.BaseName = "sha256:11", "other"
	x, y := file(t, a, gguf.TypeF32), file(t, b, gguf.TypeF32)
	const want = `adapter: trained on another base: "other" (sha256:11), the other on "toy" (sha256:00)`
	r, err := Combine(context.Background(), []Source{{x, 1}, {y, 1}}, adapter.CombineOptions{Method: adapter.CombineLinear}, out(t))
	if err != nil || r.OtherBase != want {
		t.Errorf("Combine: %v, %+v", err, r)
	}
	d, err := Diff(context.Background(), x, y)
	if err != nil || d.OtherBase != want || len(d.Tensors) != 3 || d.OnlyA != 0 || d.Total.RankA != 2 || d.Total.Cosine == nil {
		t.Errorf("Diff: %v, %+v", err, d)
	}
}

func TestDiffOfWeightsThatOneHas(t *testing.T) {
	a, b := random(t, adapter.MethodLoRA, 8, 2, 8), random(t, adapter.MethodLoRA, 9, 2, 8)
	b.Weights = b.Weights[1:2]
	d, err := Diff(context.Background(), file(t, a, gguf.TypeF32), file(t, b, gguf.TypeF32))
	if err != nil {
		t.Fatal(err)
	}
	if d.OnlyA != 2 || d.OnlyB != 0 || d.Tensors[0].RankB != 0 || d.Tensors[0].Cosine != nil || d.Tensors[0].Distance != d.Tensors[0].NormA {
		t.Errorf("%+v", d)
	}
	if text, err := json.Marshal(d.Tensors[0]); err != nil || !strings.Contains(string(text), `"rank_b":0`) || !strings.Contains(string(text), `"cosine":null`) {
		t.Errorf("JSON %s, %v", text, err)
	}
}

// What a DoRA changes depends on the model, which is not here.
func TestDoRAIsRefused(t *testing.T) {
	ctx, lora := context.Background(), file(t, random(t, adapter.MethodLoRA, 11, 2, 8), gguf.TypeF32)
	in := file(t, random(t, adapter.MethodDoRA, 12, 2, 8), gguf.TypeF32)
	o := out(t)
	_, diff := Diff(ctx, lora, in)
	for what, err := range map[string]error{
		"scale":   second(Scale(in, 2, o)),
		"rerank":  second(Rerank(ctx, in, adapter.Cut{Rank: 1}, adapter.CutOptions{}, o)),
		"combine": second(Combine(ctx, []Source{{lora, 1}, {in, 1}}, adapter.CombineOptions{Method: adapter.CombineCat}, o)),
		"diff":    diff,
	} {
		want := fmt.Sprintf("adapter: %q: dora: its change depends on the weights of the base, which is not given", in)
		if err == nil || err.Error() != want || len(hint.Of(err)) != 1 {
			t.Errorf("%s: %v, hints %q, want %s", what, err, hint.Of(err), want)
		}
	}
	if _, err := os.Stat(o.Out); err == nil {
		t.Error("a file was written")
	}
}

func TestNothingIsReplacedUnasked(t *testing.T) {
	in, other := file(t, random(t, adapter.MethodLoRA, 10, 2, 8), gguf.TypeF32), file(t, random(t, adapter.MethodLoRA, 11, 2, 8), gguf.TypeF32)
	before, _ := os.ReadFile(in)
	_, err := Scale(in, 2, Output{Out: other})
	if err == nil || err.Error() != fmt.Sprintf("adapter: %q: exists already", other) || !slices.Equal(hint.Of(err), []string{"--force replaces it"}) {
		t.Errorf("over another: %v, hints %q", err, hint.Of(err))
	}
	_, err = Scale(in, 2, Output{Out: in, Force: true})
	if err == nil || err.Error() != fmt.Sprintf("adapter: %q: would be replaced by what is made of it", in) {
		t.Errorf("over itself with force: %v", err)
	}
	if after, _ := os.ReadFile(in); !slices.Equal(before, after) {
		t.Error("the file was changed")
	}
	dir := t.TempDir()
	if _, err := Scale(in, 2, Output{Out: dir, Force: true}); err == nil || err.Error() != fmt.Sprintf("adapter: %q: exists and is not a file", dir) {
		t.Errorf("over a folder: %v", err)
	}
	if _, err := Scale(in, 2, Output{Out: other, Force: true}); err != nil {
		t.Errorf("over another with force: %v", err)
	}
	if got := load(t, other).Weights[0].Scale(); got != 8 {
		t.Errorf("scale %v, want 8", got)
	}
}

func TestAFailureLeavesNothing(t *testing.T) {
	a := random(t, adapter.MethodLoRA, 11, 2, 8)
	for _, m := range a.Tensors() {
		for i := range m.Mat.Data {
			m.Mat.Data[i] *= 1e4
		}
	}
	in, half := file(t, a, gguf.TypeF32), gguf.TypeF16
	o := Output{Out: filepath.Join(t.TempDir(), "out.gguf"), Type: &half}
	if _, err := Rerank(context.Background(), in, adapter.Cut{Rank: 2}, adapter.CutOptions{}, o); err == nil || !strings.Contains(err.Error(), "does not fit f16") {
		t.Errorf("too large for f16: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(o.Out)); len(left) > 0 {
		t.Errorf("%v was left behind", left)
	}
	damaged := filepath.Join(t.TempDir(), "damaged.gguf")
	data, _ := os.ReadFile(in)
	if err := os.WriteFile(damaged, data[:len(data)/2], 0o666); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"scale":   second(Scale(damaged, 2, out(t))),
		"rerank":  second(Rerank(context.Background(), damaged, adapter.Cut{Rank: 1}, adapter.CutOptions{}, out(t))),
		"combine": second(Combine(context.Background(), []Source{{in, 1}, {damaged, 1}}, adapter.CombineOptions{Method: adapter.CombineCat}, out(t))),
	} {
		if err == nil || !strings.Contains(err.Error(), "damaged.gguf") {
			t.Errorf("%s of a damaged file: %v", what, err)
		}
	}
}

func second(_ *Report, err error) error { return err }
