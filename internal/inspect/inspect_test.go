package inspect

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/trainer"
)

// writeAdapter writes a small adapter with metadata of every difficult kind.
func writeAdapter(t *testing.T, path string) {
	t.Helper()
	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	b.Set("general.type", "adapter")
	b.Set("short", []uint32{1, 2})
	b.Set("empty", []float32{})
	b.Set("long", make([]int32, 17))
	b.Set("nested", gguf.ArrayOf(gguf.ArrayOf("a"), gguf.ArrayOf("b", "c")))
	b.Set("nan", float32(math.NaN()))
	b.Set("tenth", float32(0.1))
	b.AddTensor("blk.0.attn_q.weight.lora_a", gguf.TypeF32, []int64{4, 2}, make([]byte, 32))
	b.AddTensor("blk.0.attn_q.weight.lora_b", gguf.TypeF16, []int64{2, 8}, make([]byte, 32))
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
}

func TestPathOfAdapter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	writeAdapter(t, path)
	r, err := Path(path)
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
	if err := json.Unmarshal([]byte(`{
		"kind": "adapter", "architecture": "llama", "parameters": 24, "bytes": 64,
		"types": [
			{"type": "f16", "tensors": 1, "elements": 16, "bytes": 32},
			{"type": "f32", "tensors": 1, "elements": 8, "bytes": 32}],
		"tensors": [
			{"name": "blk.0.attn_q.weight.lora_a", "type": "f32", "shape": [4, 2], "bytes": 32},
			{"name": "blk.0.attn_q.weight.lora_b", "type": "f16", "shape": [2, 8], "bytes": 32}],
		"metadata": {
			"general.architecture": "llama", "general.type": "adapter",
			"short": [1, 2], "empty": [], "nested": [["a"], ["b", "c"]], "nan": "NaN", "tenth": 0.1,
			"long": {"elements": "int32", "count": 17, "first": [0, 0, 0, 0, 0, 0, 0, 0]}},
		"format": {"version": 3, "byte_order": "LittleEndian", "alignment": 32, "parts": 1}
	}`), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Path = %v, want %v", got, want)
	}
}

func TestPathOfRun(t *testing.T) {
	dir := t.TempDir()
	c := trainer.DefaultConfig()
	c.Model, c.Data, c.Out = "base.gguf", "train.txt", dir
	if err := c.Save(filepath.Join(dir, trainer.ConfigFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "checkpoint-00000020.zst"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := Path(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.Kind != KindRun || r.Run.Finished || !reflect.DeepEqual(r.Run.Checkpoints, []int{20}) || r.Metadata["rank"] != c.Rank {
		t.Errorf("Path of a running run = %+v, %+v", r, r.Run)
	}
	if keys := r.Keys(); len(keys) != len(r.Metadata) || keys[0] != "model" {
		t.Errorf("Keys() = %q, want the %d settings, model first", keys, len(r.Metadata))
	}
	writeAdapter(t, filepath.Join(dir, trainer.AdapterFile))
	if r, err = Path(dir); err != nil {
		t.Fatal(err)
	}
	if !r.Run.Finished || r.Architecture != "llama" || r.Parameters != 24 || r.Kind != KindRun {
		t.Errorf("Path of a finished run = %+v, %+v", r, r.Run)
	}
}

func TestPathOfFolderWithoutRun(t *testing.T) {
	_, err := Path(t.TempDir())
	if !errors.Is(err, fs.ErrNotExist) || len(hint.Of(err)) != 1 {
		t.Errorf("Path error = %v, hints %q, want fs.ErrNotExist and a hint", err, hint.Of(err))
	}
}
