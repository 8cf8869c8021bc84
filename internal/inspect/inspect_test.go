package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/internal/near"
	"finetune/quant/plain"
	"finetune/run"
)

// writeAdapter writes a small adapter with metadata of every difficult kind.
func writeAdapter(t *testing.T, path string) {
	t.Helper()
	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	b.Set("general.type", "adapter")
	b.Set("adapter.type", "lora")
	b.Set("adapter.lora.alpha", float32(3))
	b.Set("finetune.base.name", "toy")
	b.Set("short", []uint32{1, 2})
	b.Set("empty", []float32{})
	b.Set("long", make([]int32, 17))
	b.Set("nested", gguf.ArrayOf(gguf.ArrayOf("a"), gguf.ArrayOf("b", "c")))
	b.Set("nan", float32(math.NaN()))
	b.Set("tenth", float32(0.1))
	b.AddTensor("blk.0.attn_q.weight.lora_a", gguf.TypeF32, []int64{4, 2}, bytesOf(t, gguf.TypeF32, 1, 0, 0, 0, 0, 1, 0, 0))
	b.AddTensor("blk.0.attn_q.weight.lora_b", gguf.TypeF16, []int64{2, 8}, bytesOf(t, gguf.TypeF16, 4, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
}

func bytesOf(t *testing.T, typ gguf.Type, values ...float32) []byte {
	t.Helper()
	data, err := plain.Append(nil, typ, values)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// describeFile is Path with the usual options.
func describeFile(path string) (*Report, error) {
	return Path(context.Background(), path, Options{})
}

func TestPathOfAdapter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	writeAdapter(t, path)
	r, err := describeFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "path")
	a := got["adapter"].(map[string]any)
	checkWeights(t, a)
	delete(a, "weights")
	delete(a, "norm")
	if err := json.Unmarshal([]byte(`{
		"kind": "adapter", "architecture": "llama", "parameters": 24, "bytes": 64,
		"types": [
			{"type": "f16", "tensors": 1, "elements": 16, "bytes": 32},
			{"type": "f32", "tensors": 1, "elements": 8, "bytes": 32}],
		"tensors": [
			{"name": "blk.0.attn_q.weight.lora_a", "type": "f32", "shape": [4, 2], "bytes": 32},
			{"name": "blk.0.attn_q.weight.lora_b", "type": "f16", "shape": [2, 8], "bytes": 32}],
		"metadata": {
			"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 3,
			"finetune.base.name": "toy",
			"short": [1, 2], "empty": [], "nested": [["a"], ["b", "c"]], "nan": "NaN", "tenth": 0.1,
			"long": {"elements": "int32", "count": 17, "first": [0, 0, 0, 0, 0, 0, 0, 0]}},
		"format": {"version": 3, "byte_order": "LittleEndian", "alignment": 32, "parts": 1},
		"adapter": {
			"method": "lora", "base_name": "toy", "base_hash": "", "rank_min": 2, "rank_max": 2, "alpha": 3,
			"scale_min": 1.5, "scale_max": 1.5}
	}`), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Path = %v, want %v", got, want)
	}
}

// The singular values are those of a diagonal, 4 and 2 times the scale 1.5.
func checkWeights(t *testing.T, a map[string]any) {
	t.Helper()
	w := a["weights"].([]any)[0].(map[string]any)
	values := w["singular_values"].([]any)
	p := 2.0 / 3
	for name, pair := range map[string][2]any{
		"norm of all": {a["norm"], 1.5 * math.Sqrt(20)}, "norm": {w["norm"], 1.5 * math.Sqrt(20)}, "scale": {w["scale"], 1.5}, "rank": {w["rank"], 2.0},
		"σ₁": {values[0], 6.0}, "σ₂": {values[1], 3.0}, "stable rank": {w["stable_rank"], 20.0 / 16},
		"effective rank": {w["effective_rank"], math.Exp(-p*math.Log(p) - (1-p)*math.Log(1-p))},
	} {
		if got, want := pair[0].(float64), pair[1].(float64); !near.Enough(got, want, 1e-6) { // figures of float32 factors
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	if w["name"] != "blk.0.attn_q.weight" || !reflect.DeepEqual(w["shape"], []any{4.0, 8.0}) || len(values) != 2 {
		t.Errorf("weight %v", w)
	}
}

// dual writes a Dual LoRA of a shape.
func dual(t *testing.T, nIn, nOut int) string {
	t.Helper()
	f, err := adapter.New(adapter.MethodDual, nIn, nOut, 4, 2)
	if err != nil {
		t.Fatal(err)
	}
	f.Init(1, "w")
	for i := range f.Matrices()[1].Mat.Data {
		f.Matrices()[1].Mat.Data[i] = float32(i%7) - 3
	}
	a := &adapter.Adapter{Architecture: "llama", Weights: []adapter.Weight{{Name: "blk.0.attn_q.weight", Factors: f}}}
	path := filepath.Join(t.TempDir(), "dual.gguf")
	if err := a.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSpectrumOfDualIsForTheAsking(t *testing.T) {
	for _, whole := range []bool{true, false} {
		nIn := 300
		if whole {
			nIn = 40
		}
		path := dual(t, nIn, 280)
		r, err := describeFile(path)
		if err != nil {
			t.Fatal(err)
		}
		w := r.Adapter.Weights[0]
		if r.Adapter.Method != "dual-lora" || *w.Norm == 0 || w.SingularValues != nil || w.StableRank != nil || w.Rank != 4 || w.Scale != 1 {
			t.Errorf("unasked: %+v", w)
		}
		told := 0
		r, err = Path(context.Background(), path, Options{Spectrum: true, Progress: func(done, total int) { told = done * total }})
		if err != nil {
			t.Fatal(err)
		}
		v := r.Adapter.Weights[0]
		stable := *w.Norm * *w.Norm / (v.SingularValues[0] * v.SingularValues[0])
		if *v.Norm != *w.Norm || len(v.SingularValues) != shownValues || !near.Enough(*v.StableRank, stable, 1e-3*stable) || (v.EffectiveRank != nil) != whole || told != 1 {
			t.Errorf("asked for: %+v, stable rank %v, want %v", v, *v.StableRank, stable)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Path(ctx, dual(t, 40, 30), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Without its base a DoRA is described as far as its factors go.
func TestDoRAHasNoNormWithoutItsBase(t *testing.T) {
	f, err := adapter.New(adapter.MethodDoRA, 40, 30, 4, 8)
	if err != nil {
		t.Fatal(err)
	}
	a := &adapter.Adapter{Architecture: "llama", Weights: []adapter.Weight{{Name: "blk.0.attn_q.weight", Factors: f}}}
	path := filepath.Join(t.TempDir(), "dora.gguf")
	if err := a.Save(path); err != nil {
		t.Fatal(err)
	}
	r, err := Path(context.Background(), path, Options{Spectrum: true})
	if err != nil {
		t.Fatal(err)
	}
	w := r.Adapter.Weights[0]
	if r.Adapter.Method != "dora" || r.Adapter.Norm != nil || w.Norm != nil || w.SingularValues != nil || w.Rank != 4 || w.Scale != 2 {
		t.Errorf("%+v, weight %+v", r.Adapter, w)
	}
	if text, err := json.Marshal(w); err != nil || !strings.Contains(string(text), `"norm":null`) {
		t.Errorf("JSON %s, %v", text, err)
	}
}

// What package adapter cannot use but is valid is described by its header; what is damaged is an error.
func TestPathOfOtherAdapters(t *testing.T) {
	write := func(name string, alpha, value float32, shape ...int64) string {
		if shape == nil {
			shape = []int64{2, 1}
		}
		b := gguf.NewBuilder()
		b.Set("general.architecture", "llama")
		b.Set("general.type", "adapter")
		b.Set("adapter.type", "lora")
		b.Set("adapter.lora.alpha", alpha)
		b.AddTensor(name+".lora_a", gguf.TypeF32, shape, bytesOf(t, gguf.TypeF32, value, 1))
		b.AddTensor(name+".lora_b", gguf.TypeF32, []int64{1, 2}, bytesOf(t, gguf.TypeF32, value, 1))
		path := filepath.Join(t.TempDir(), "adapter.gguf")
		if err := b.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	r, err := describeFile(write("blk.0.ffn_up_exps.weight", 1, 1, 1, 1, 2))
	if err != nil || r.Kind != KindAdapter || r.Adapter != nil || r.Note != `tensor "blk.0.ffn_up_exps.weight.lora_a": shape [1 1 2], adapted experts are not supported` || len(r.Tensors) != 2 {
		t.Errorf("experts: %v, %+v", err, r)
	}
	nan := float32(math.NaN())
	var format *adapter.FormatError
	for what, path := range map[string]string{"NaN factor": write("blk.0.attn_q.weight", 1, nan), "NaN alpha": write("blk.0.attn_q.weight", nan, 1)} {
		if _, err := describeFile(path); !errors.As(err, &format) {
			t.Errorf("%s: %v, want a FormatError", what, err)
		}
	}
	if _, err := describeFile(write("blk.0.attn_q.weight", 1e30, 1e30)); err == nil || err.Error() != `adapter: tensor "blk.0.attn_q.weight": its ΔW is not finite` {
		t.Errorf("overflow: %v", err)
	}
}

func TestPathOfRun(t *testing.T) {
	dir := t.TempDir()
	c := run.DefaultConfig()
	c.Model, c.Data, c.Out = "base.gguf", "train.txt", dir
	if err := c.Save(filepath.Join(dir, run.ConfigFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "checkpoint-00000020.zst"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := describeFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.Kind != KindRun || r.Run.Finished || !reflect.DeepEqual(r.Run.Checkpoints, []int{20}) || r.Metadata["rank"] != c.Rank {
		t.Errorf("Path of a running run = %+v, %+v", r, r.Run)
	}
	if keys := r.Keys(); len(keys) != len(r.Metadata) || keys[0] != "model" {
		t.Errorf("Keys() = %q, want the %d settings, model first", keys, len(r.Metadata))
	}
	writeAdapter(t, filepath.Join(dir, run.AdapterFile))
	if r, err = describeFile(dir); err != nil {
		t.Fatal(err)
	}
	if !r.Run.Finished || r.Architecture != "llama" || r.Parameters != 24 || r.Kind != KindRun {
		t.Errorf("Path of a finished run = %+v, %+v", r, r.Run)
	}
}

func TestPathOfFolderWithoutRun(t *testing.T) {
	_, err := describeFile(t.TempDir())
	if !errors.Is(err, fs.ErrNotExist) || len(hint.Of(err)) != 1 {
		t.Errorf("Path error = %v, hints %q, want fs.ErrNotExist and a hint", err, hint.Of(err))
	}
}
