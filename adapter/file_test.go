package adapter

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"
	"finetune/model"
	"finetune/quant/plain"
)

func randomAdapter(t *testing.T, m Method) *Adapter {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 20))
	a := &Adapter{
		Architecture: "qwen3", BaseName: "Qwen3 0.6B", BaseHash: "sha256:77",
		Meta: map[string]gguf.Value{KeyVersion: "0.1", "finetune.retention": float32(0.97), "finetune.values": gguf.ArrayOf[uint32](1, 2)},
	}
	for _, w := range []struct {
		name string
		ne   [2]int
	}{{"blk.2.attn_q.weight", [2]int{64, 32}}, {"blk.10.attn_q.weight", [2]int{32, 96}}, {"blk.10.ffn_down.weight", [2]int{172, 64}}} {
		a.Weights = append(a.Weights, Weight{w.name, unbound(t, m, w.ne[0], w.ne[1], 6, 12, rng)})
	}
	return a
}

func save(t *testing.T, a *Adapter) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	if err := a.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, path string) *Adapter {
	t.Helper()
	a, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// wantSame compares weights to the last bit.
func wantSame(t *testing.T, got, want *Adapter) {
	t.Helper()
	if len(got.Weights) != len(want.Weights) {
		t.Fatalf("%d weights, want %d", len(got.Weights), len(want.Weights))
	}
	for i, m := range want.Tensors() {
		g := got.Tensors()[i]
		if g.Name != m.Name || g.Mat.NE != m.Mat.NE || !slices.Equal(g.Mat.Data, m.Mat.Data) {
			t.Errorf("tensor %d is %q %v, want %q %v with the same data", i, g.Name, g.Mat.NE, m.Name, m.Mat.NE)
		}
	}
}

func TestSaveLoadSave(t *testing.T) {
	for _, m := range []Method{MethodLoRA, MethodDual, MethodDoRA} {
		a := randomAdapter(t, m)
		first := save(t, a)
		b := load(t, first)
		wantSame(t, b, a)
		if b.Architecture != a.Architecture || b.BaseName != a.BaseName || b.BaseHash != a.BaseHash || b.Alpha() != 12 || b.Rank() != 6 || b.Method() != m {
			t.Errorf("%s came back as %q %q %q alpha %v rank %d %s", m, b.Architecture, b.BaseName, b.BaseHash, b.Alpha(), b.Rank(), b.Method())
		}
		for key, want := range a.Meta {
			if got := b.Meta[key]; key != "finetune.values" && got != want {
				t.Errorf("%s: %s = %v, want %v", m, key, got, want)
			}
		}
		if !bytes.Equal(readFile(t, save(t, b)), readFile(t, first)) {
			t.Errorf("%s: saving what was loaded gave other bytes", m)
		}
	}
}

// The keys that llama.cpp's loader asks for, with the kinds that it demands.
func TestLoRAFilesFollowLlamaCppsContract(t *testing.T) {
	f, err := gguf.Open(save(t, randomAdapter(t, MethodLoRA)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range map[string]any{
		"general.type": "adapter", "general.architecture": "qwen3", "adapter.type": "lora", "adapter.lora.alpha": float32(12),
	} {
		if got, _ := f.Get(key); got != want {
			t.Errorf("%s = %v, want %v", key, got, want)
		}
	}
	for name, want := range map[string][]int64{
		"blk.2.attn_q.weight.lora_a": {64, 6}, "blk.2.attn_q.weight.lora_b": {6, 32},
		"blk.10.ffn_down.weight.lora_a": {172, 6}, "blk.10.ffn_down.weight.lora_b": {6, 64},
	} {
		if got, ok := f.Tensor(name); !ok || !slices.Equal(got.Shape, want) || got.Type != gguf.TypeF32 {
			t.Errorf("%s: %v %v %s, want f32 %v", name, ok, got.Shape, got.Type, want)
		}
	}
	if len(f.Tensors()) != 6 {
		t.Errorf("%d tensors, want 6", len(f.Tensors()))
	}
}

func TestDualContainerIsNoLoRA(t *testing.T) {
	f, err := gguf.Open(save(t, randomAdapter(t, MethodDual)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range map[string]any{"general.type": "adapter", "adapter.type": "dual_lora", "adapter.dual_lora.alpha": float32(12), "finetune.method": "dual-lora"} {
		if got, _ := f.Get(key); got != want {
			t.Errorf("%s = %v, want %v", key, got, want)
		}
	}
	if c, ok := f.Tensor("blk.2.attn_q.weight.dual_c"); !ok || !slices.Equal(c.Shape, []int64{64, 3}) {
		t.Errorf("dual_c: %v %v, want [64 3]", ok, c.Shape)
	}
}

func TestWriteLoRATypes(t *testing.T) {
	a := randomAdapter(t, MethodLoRA)
	for _, c := range []struct {
		t    gguf.Type
		a, d gguf.Type // of A with rows of 64 and of 172
		tol  float64   // of a value, for numbers up to about 4
	}{{gguf.TypeF16, gguf.TypeF16, gguf.TypeF16, 2e-3}, {gguf.TypeBF16, gguf.TypeBF16, gguf.TypeBF16, 2e-2}, {gguf.TypeQ8_0, gguf.TypeQ8_0, gguf.TypeF16, 2e-2}} {
		path := filepath.Join(t.TempDir(), "lora.gguf")
		if err := a.WriteLoRA(path, LoRAOptions{Type: c.t}); err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		attn, _ := f.Tensor("blk.2.attn_q.weight.lora_a")
		down, _ := f.Tensor("blk.10.ffn_down.weight.lora_a")
		if attn.Type != c.a || down.Type != c.d {
			t.Errorf("%s: types %s and %s, want %s and %s", c.t, attn.Type, down.Type, c.a, c.d)
		}
		f.Close()
		for i, m := range load(t, path).Tensors() {
			for j, want := range a.Tensors()[i].Mat.Data {
				if !near.Enough(m.Mat.Data[j], want, c.tol) {
					t.Fatalf("%s: %s[%d] = %v, want %v", c.t, m.Name, j, m.Mat.Data[j], want)
				}
			}
		}
	}
}

// llamaScale is llama.cpp's llama_adapter_lora_weight::get_scale for a user scale of 1.
func llamaScale(alpha float32, b Mat) float32 {
	if alpha == 0 {
		return 1
	}
	return alpha / float32(b.NE[0])
}

func TestTheScaleThatLlamaCppAppliesIsOurs(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 20))
	for _, alphas := range [][2]float32{{8, 8}, {0, 0}, {8, 2}, {0, 3}} {
		a := &Adapter{Architecture: "llama", Weights: []Weight{
			{"blk.0.attn_k.weight", randomFactors(t, MethodLoRA, 10, 6, 2, alphas[0], rng)},
			{"blk.0.attn_q.weight", randomFactors(t, MethodLoRA, 10, 6, 5, alphas[1], rng)},
		}}
		b := load(t, save(t, a))
		for i, w := range b.Weights {
			l, want := w.Factors.(*LoRA), referenceOf(a.Weights[i])
			for j, v := range product(l.A, l.B) {
				wantClose(t, "ΔW in llama.cpp", v*float64(llamaScale(b.Alpha(), l.B)), want[j], ruleTol)
			}
		}
	}
}

func TestExactExportIsDeltaItself(t *testing.T) {
	a := randomAdapter(t, MethodDual)
	path := filepath.Join(t.TempDir(), "exact.gguf")
	if err := a.WriteExact(path, LoRAOptions{}); err != nil {
		t.Fatal(err)
	}
	b := load(t, path)
	if b.Method() != MethodLoRA || b.Alpha() != 0 || b.Meta[KeyMethod] != "dual-lora" || b.Meta[KeyExport] != "exact" {
		t.Errorf("exact is %s, alpha %v, %v, %v", b.Method(), b.Alpha(), b.Meta[KeyMethod], b.Meta[KeyExport])
	}
	for i, w := range a.Weights {
		nIn, nOut := w.Shape()
		want := make([]float32, nIn*nOut)
		Delta(w, want)
		if b.Weights[i].Rank() != min(nIn, nOut) {
			t.Errorf("%s: rank %d, want %d", w.Name, b.Weights[i].Rank(), min(nIn, nOut))
		}
		for j, v := range referenceOf(b.Weights[i]) {
			if float32(v) != want[j] {
				t.Fatalf("%s: ΔW[%d] = %v, want %v", w.Name, j, v, want[j])
			}
		}
	}
}

func TestExactExportKeepsTheIdentityExact(t *testing.T) {
	a := randomAdapter(t, MethodDual)
	for _, typ := range []gguf.Type{gguf.TypeF16, gguf.TypeQ8_0} {
		path := filepath.Join(t.TempDir(), "exact.gguf")
		if err := a.WriteExact(path, LoRAOptions{Type: typ}); err != nil {
			t.Fatal(err)
		}
		for _, w := range load(t, path).Weights {
			l := w.Factors.(*LoRA)
			one := l.A
			if l.A.NE[0] != l.A.NE[1] {
				one = l.B
			}
			for i, v := range one.Data {
				if want := i/one.NE[0] == i%one.NE[0]; v != 0 && !want || v != 1 && want {
					t.Fatalf("%s %s: identity[%d] = %v", typ, w.Name, i, v)
				}
			}
		}
	}
}

func TestExactExportOfALoRAIsTheLoRA(t *testing.T) {
	a := randomAdapter(t, MethodLoRA)
	path := filepath.Join(t.TempDir(), "exact.gguf")
	if err := a.WriteExact(path, LoRAOptions{}); err != nil {
		t.Fatal(err)
	}
	wantSame(t, load(t, path), a)
}

func TestNothingUnusableIsWritten(t *testing.T) {
	nan, huge := randomAdapter(t, MethodLoRA), randomAdapter(t, MethodLoRA)
	nan.Weights[1].Factors.(*LoRA).B.Data[7] = float32(math.NaN())
	huge.Weights[0].Factors.(*LoRA).A.Data[0] = 1e6
	mixed := randomAdapter(t, MethodDual)
	mixed.Weights[1].Factors.(*Dual).Alpha = 3
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"NaN", nan.Save(path), `gguf: tensor "blk.10.attn_q.weight.lora_b": element 7 is NaN`},
		{"too large for F16", huge.WriteLoRA(path, LoRAOptions{Type: gguf.TypeF16}), `gguf: tensor "blk.2.attn_q.weight.lora_a": plain: value 1e+06 does not fit f16`},
		{"dual as LoRA", mixed.WriteLoRA(path, LoRAOptions{}), `adapter: tensor "blk.2.attn_q.weight": dual-lora has no low-rank form, project it first`},
		{"two methods", (&Adapter{Architecture: "llama", Weights: []Weight{mixed.Weights[0], nan.Weights[0]}}).Save(path),
			`adapter: tensor "blk.2.attn_q.weight": method lora, the first weight's dual-lora: one file has one method`},
		{"two alphas", mixed.Save(path), `adapter: tensor "blk.10.attn_q.weight": alpha is 3, the first weight's 12: one file has one alpha`},
		{"type", nan.WriteLoRA(path, LoRAOptions{Type: gguf.TypeQ4_K}), `adapter: type q4_K: want f32, f16, bf16 or q8_0`},
		{"empty", (&Adapter{Architecture: "llama"}).Save(path), `adapter: architecture "llama" with 0 weights: want both to write a file`},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, c.err, c.want)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Fatalf("%s: a file was left behind", c.name)
		}
	}
}

// foreign writes a GGUF LoRA as other tools do; edit changes it before.
type foreign struct {
	kv      map[string]any
	tensors []gguf.Tensor
}

func newForeign() *foreign {
	return &foreign{
		kv: map[string]any{"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora", "adapter.lora.alpha": float32(16)},
		tensors: []gguf.Tensor{
			{Name: "blk.0.attn_q.weight.lora_b", Type: gguf.TypeF32, Shape: []int64{4, 10}},
			{Name: "blk.0.attn_q.weight.lora_a", Type: gguf.TypeF16, Shape: []int64{64, 4}},
			{Name: "blk.1.attn_q.weight.lora_a", Type: gguf.TypeQ8_0, Shape: []int64{64, 2}},
			{Name: "blk.1.attn_q.weight.lora_b", Type: gguf.TypeBF16, Shape: []int64{2, 10}},
			{Name: "blk.2.attn_q.weight.lora_a", Type: gguf.TypeF32, Shape: []int64{64}},
			{Name: "blk.2.attn_q.weight.lora_b", Type: gguf.TypeF32, Shape: []int64{1, 10}},
			{Name: "blk.1.attn_norm.weight", Type: gguf.TypeF32, Shape: []int64{64}},
		},
	}
}

func (f *foreign) write(t *testing.T, first float32) string {
	t.Helper()
	b := gguf.NewBuilder()
	for _, key := range []string{"general.type", "general.architecture", "adapter.type", "adapter.lora.alpha"} {
		if v, ok := f.kv[key]; ok {
			b.Set(key, v)
		}
	}
	for _, tensor := range f.tensors {
		values := make([]float32, tensor.Elements())
		for i := range values {
			values[i] = 0.5
		}
		if len(values) > 0 {
			values[0] = first
		}
		typ := tensor.Type
		data, err := plain.Append(nil, typ, values)
		if err != nil {
			data = make([]byte, tensor.Bytes())
		}
		b.AddTensor(tensor.Name, typ, tensor.Shape, data)
	}
	path := filepath.Join(t.TempDir(), "foreign.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadTakesOtherToolsFiles(t *testing.T) {
	a := load(t, newForeign().write(t, 0.5))
	if len(a.Weights) != 3 || a.Alpha() != 16 || a.BaseHash != "" {
		t.Fatalf("%d weights, alpha %v, hash %q", len(a.Weights), a.Alpha(), a.BaseHash)
	}
	for i, want := range []struct {
		rank  int
		scale float32
	}{{4, 4}, {2, 8}, {1, 16}} {
		w := a.Weights[i]
		if w.Rank() != want.rank || w.Scale() != want.scale {
			t.Errorf("%s: rank %d, scale %v, want %d, %v", w.Name, w.Rank(), w.Scale(), want.rank, want.scale)
		}
		for _, m := range w.Matrices() {
			for _, v := range m.Mat.Data {
				// Q8_0's scale 0.5/127 is rounded to a half.
				if !near.Enough(v, 0.5, 5e-4) {
					t.Fatalf("%s.%s holds %v, want 0.5", w.Name, m.Suffix, v)
				}
			}
		}
	}
	again := load(t, save(t, a))
	wantSame(t, again, a)
	for i := range a.Weights {
		if again.Weights[i].Scale() != a.Weights[i].Scale() {
			t.Errorf("%s: scale %v after saving, %v before", a.Weights[i].Name, again.Weights[i].Scale(), a.Weights[i].Scale())
		}
	}
}

func TestLoadTakesAFileWithoutAlpha(t *testing.T) {
	f := newForeign()
	delete(f.kv, "adapter.lora.alpha")
	if a := load(t, f.write(t, 0.5)); a.Weights[0].Scale() != 1 {
		t.Errorf("scale %v, want 1", a.Weights[0].Scale())
	}
}

func TestLoadRefuses(t *testing.T) {
	rename := func(i int, name string) func(*foreign) {
		return func(f *foreign) { f.tensors[i].Name = name }
	}
	shape := func(i int, ne ...int64) func(*foreign) { return func(f *foreign) { f.tensors[i].Shape = ne } }
	set := func(key string, v any) func(*foreign) { return func(f *foreign) { f.kv[key] = v } }
	for _, c := range []struct {
		name        string
		edit        func(*foreign)
		first       float32
		unsupported bool
		want        string
	}{
		{"a model", set("general.type", "model"), 0, false, `general.type is "model", want "adapter"`},
		{"no type", func(f *foreign) { delete(f.kv, "general.type") }, 0, false, `general.type is "", want "adapter"`},
		{"no architecture", func(f *foreign) { delete(f.kv, "general.architecture") }, 0, false, `general.architecture is missing`},
		{"another kind", set("adapter.type", "ia3"), 0, true, `adapter.type is "ia3", want "lora", "dual_lora" or "dora"`},
		{"NaN alpha", set("adapter.lora.alpha", float32(math.NaN())), 0, false, `adapter.lora.alpha is NaN`},
		{"half a pair", func(f *foreign) { f.tensors = f.tensors[1:] }, 0, false, `tensor "blk.0.attn_q.weight": lora_b is missing`},
		{"ranks differ", shape(0, 3, 10), 0, false, `tensor "blk.0.attn_q.weight": lora_b is [3 10], want [4 n_out]`},
		{"unknown name", rename(0, "blk.0.attn_q.weight.lora_c"), 0, false, `tensor "blk.0.attn_q.weight.lora_c": want a name that ends in lora_a, lora_b`},
		{"no dot", rename(0, "x"), 0, false, `tensor "x": want a name that ends in lora_a, lora_b`},
		{"experts", shape(1, 64, 4, 8), 0, true, `tensor "blk.0.attn_q.weight.lora_a": shape [64 4 8], adapted experts are not supported`},
		{"quantized", func(f *foreign) { f.tensors[1].Type = gguf.TypeQ4_0 }, 0, true, `tensor "blk.0.attn_q.weight.lora_a": type q4_0, want f32, f16, bf16 or q8_0`},
		{"empty factor", shape(0, 4, 0), 0, false, `tensor "blk.0.attn_q.weight.lora_b": shape [4 0] is empty`},
		{"infinite", func(*foreign) {}, float32(math.Inf(1)), false, `tensor "blk.0.attn_q.weight.lora_a": element 0 is +Inf`},
		{"nothing", func(f *foreign) { f.tensors = f.tensors[6:] }, 0, false, `has no factors`},
	} {
		f := newForeign()
		c.edit(f)
		path := f.write(t, c.first)
		_, err := Load(path)
		var format *FormatError
		var unsupported *UnsupportedError
		if c.unsupported && !errors.As(err, &unsupported) || !c.unsupported && !errors.As(err, &format) {
			t.Errorf("%s: error %v of type %T", c.name, err, err)
			continue
		}
		if got := strings.Replace(err.Error(), path, "F", 1); got != `adapter: "F": `+c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.gguf")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load of no file = %v", err)
	}
	wrong := newForeign()
	wrong.kv["adapter.lora.alpha"] = "16"
	if _, err := Load(wrong.write(t, 0)); !errors.Is(err, gguf.ErrKind) {
		t.Errorf("Load with a string as alpha = %v, want gguf.ErrKind", err)
	}
}

// FuzzRead: no bytes make Read panic, what it accepts survives a way through a
// file, and no tool that works on it panics.
func FuzzRead(f *testing.F) {
	for _, m := range []Method{MethodLoRA, MethodDual, MethodDoRA} {
		a := &Adapter{Architecture: "llama"}
		factors, _ := New(m, 4, 3, 2, 1)
		for _, m := range factors.Matrices() {
			for i := range m.Mat.Data {
				m.Mat.Data[i] = float32(i)
			}
		}
		a.Weights = []Weight{{"blk.0.attn_q.weight", factors}}
		path := filepath.Join(f.TempDir(), "seed.gguf")
		if err := a.Save(path); err != nil {
			f.Fatal(err)
		}
		data, _ := os.ReadFile(path)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := gguf.Decode(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		a, err := Read(file)
		checkOneByOne(t, file, a)
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "again.gguf")
		if err := a.Save(path); err != nil {
			return // names that grew too long for ggml
		}
		b := load(t, path)
		wantSame(t, b, a)
		work(a)
	})
}

// work does to an adapter what the tools do. Its numbers may be too large for that, which is an error and nothing worse.
func work(a *Adapter) {
	ctx := context.Background()
	for _, w := range a.Weights {
		if nIn, nOut := w.Shape(); nIn*nOut*w.Rank() > 1<<20 {
			return // takes a fuzzer's time
		}
		Norm(w)
		SpectrumOf(w, 3, 1)
	}
	Rerank(ctx, a, Cut{Rank: 2}, CutOptions{})
	Rerank(ctx, a, Cut{Energy: 0.5}, CutOptions{})
	if half, err := a.Scaled(0.5); err == nil {
		Diff(ctx, a, half)
		for _, m := range CombineMethods() {
			Combine(ctx, []Ingredient{{a, 1}, {half, -1}}, CombineOptions{Method: m})
		}
	}
}

// checkOneByOne reads a file a weight at a time; a is what [Read] made of it, nil for nothing.
func checkOneByOne(t *testing.T, file *gguf.File, a *Adapter) {
	t.Helper()
	f := &File{loader: newLoader(file)}
	if err := f.read(); err != nil {
		if a != nil {
			t.Errorf("opened: %v, read whole: no error", err)
		}
		return
	}
	for i, name := range f.Names() {
		w, err := f.Weight(name)
		switch {
		case a == nil: // one of the weights has a value that Read refuses
		case err != nil:
			t.Errorf("Weight(%q) = %v, read whole: no error", name, err)
		case !reflect.DeepEqual(w, a.Weights[i]):
			t.Errorf("Weight(%q) = %v, read whole: %v", name, w, a.Weights[i])
		}
	}
}

func TestOpenReadsOneWeightAtATime(t *testing.T) {
	for _, m := range []Method{MethodLoRA, MethodDual, MethodDoRA} {
		a := randomAdapter(t, m)
		f, err := Open(save(t, a))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got := f.Names(); len(got) != len(a.Weights) {
			t.Fatalf("%s: names %q, want %d", m, got, len(a.Weights))
		}
		for i, name := range f.Names() {
			w, err := f.Weight(name)
			if err != nil || !reflect.DeepEqual(w, a.Weights[i]) {
				t.Errorf("%s: Weight(%q) = %v, %v, want %v", m, name, w, err, a.Weights[i])
			}
		}
		if err := f.CheckBase(model.Identity{Architecture: "other"}); err == nil {
			t.Errorf("%s: CheckBase of another architecture = nil", m)
		}
		if _, err := f.Weight("none"); err == nil {
			t.Errorf("%s: Weight(none) = nil", m)
		}
	}
}
