package convert

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/hint"
)

func TestFormatOf(t *testing.T) {
	dir := t.TempDir()
	put := func(names ...string) string {
		sub, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(sub, name)), 0o777); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(sub, name), nil)
		}
		return sub
	}
	for _, tt := range []struct {
		name, path string
		want       Format
		hint       string
	}{
		{"file", filepath.Join(put("a.gguf"), "a.gguf"), GGUF, ""},
		{"PEFT", put(configFile, peftWeights, readmeFile), PEFT, ""},
		{"MLX", put(configFile, mlxWeights), MLX, ""},
		{"pickle", put(configFile, peftPickle), "", "safe_serialization"},
		{"run directory", put("config.yaml", "adapter.gguf"), "", "finetune export --run"},
		{"subfolder", put("[x]/" + peftWeights), "", "there is an adapter in"},
		{"checkpoints", put("checkpoint-9/"+peftWeights, "checkpoint-100/"+peftWeights, "checkpoint-20/"+peftWeights), "", "checkpoint-100"},
		{"the weights alone", filepath.Join(put(peftWeights), peftWeights), "", "give the folder"},
	} {
		got, err := formatOf(tt.path)
		if got != tt.want || err != nil != (tt.want == "") || tt.hint != "" && !strings.Contains(strings.Join(hint.Of(err), ""), tt.hint) {
			t.Errorf("%s: formatOf = %q, %v, hints %q, want %q and a hint with %q", tt.name, got, err, hint.Of(err), tt.want, tt.hint)
		}
	}
	if _, err := formatOf(put()); err == nil {
		t.Error("empty folder: no error")
	}
	if _, err := formatOf(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v, want %v", err, fs.ErrNotExist)
	}
}

func TestOutIsNotWrittenOver(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	peft := peftFolder(m, 4, everySite).write(t)
	dir := t.TempDir()
	file, folder, full := filepath.Join(dir, "file"), filepath.Join(dir, "folder"), filepath.Join(dir, "full")
	writeFile(t, file, []byte("old"))
	for _, d := range []string{folder, full} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(d, configFile), []byte("old"))
	}
	writeFile(t, filepath.Join(full, "thesis.txt"), []byte("old"))
	lora, _ := mustRun(t, peft, GGUF, model)
	for _, tt := range []struct {
		name  string
		c     Config
		want  string
		force bool // would do
	}{
		{"file", Config{From: peft, To: GGUF, Out: file}, "exists already", true},
		{"folder", Config{From: lora, To: PEFT, Out: folder}, "exists already", true},
		{"file for a folder", Config{From: lora, To: MLX, Out: file, Force: true}, "is not a folder", false},
		{"folder for a file", Config{From: peft, To: GGUF, Out: folder, Force: true}, "is not a file", false},
		{"folder with more in it", Config{From: lora, To: PEFT, Out: full, Force: true}, "thesis.txt", false},
		{"source", Config{From: peft, To: MLX, Out: peft, Force: true}, "would be replaced by what is made of it", false},
		{"base", Config{From: peft, To: GGUF, Out: model, Force: true}, "would be replaced", false},
		{"the same format", Config{From: peft, To: PEFT, Out: filepath.Join(dir, "new")}, "is peft already", false},
		{"unknown format", Config{From: peft, To: "onnx", Out: filepath.Join(dir, "new")}, "want gguf, peft or mlx", false},
	} {
		tt.c.Model = model
		if _, err := Run(tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Run = %v, want an error with %q", tt.name, err, tt.want)
		}
		if tt.c.Force = true; tt.force {
			if _, err := Run(tt.c); err != nil {
				t.Errorf("%s: Run with Force = %v, want no error", tt.name, err)
			}
		}
	}
	sameFile(t, file, lora)
	sameFile(t, filepath.Join(folder, peftWeights), filepath.Join(peft, peftWeights))
	for _, path := range []string{filepath.Join(full, configFile), filepath.Join(full, "thesis.txt")} {
		if got := readFile(t, path); string(got) != "old" {
			t.Errorf("%q holds %q, want it untouched", path, got)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("folder holds %v, want the three that were there", entries)
	}
}

func TestModelsThatAreRefused(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	peft := peftFolder(m, 4, everySite).write(t)
	lora, _ := mustRun(t, peft, GGUF, model)
	for path, want := range map[string]string{
		lora:                               "holds an adapter, want a base model",
		filepath.Join(t.TempDir(), "none"): "no such file",
		filepath.Join(peft, configFile):    "gguf",
	} {
		if _, err := Run(Config{From: peft, To: GGUF, Model: path, Out: filepath.Join(t.TempDir(), "x")}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run with model %q = %v, want an error with %q", path, err, want)
		}
	}
	for name, keys := range map[string]map[string]any{
		`architecture "mamba"`:           {"general.architecture": "mamba"},
		"0 heads":                        {"llama.attention.head_count": uint32(0)},
		"a divisor of the 4 query heads": {"llama.attention.head_count_kv": uint32(3)},
		"llama.attention.head_count":     {"llama.attention.head_count": nil},
		"none for layer":                 {"llama.attention.head_count": []uint32{4}},
	} {
		path := ggufAdapter(t, model, keys, nil)
		if _, err := Run(Config{From: peft, To: GGUF, Model: path, Out: filepath.Join(t.TempDir(), "x")}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Run = %v, want an error with %q", err, name)
		}
	}
	// One number for each layer is fine, and no key heads are as many as heads.
	path := ggufAdapter(t, model, map[string]any{"llama.attention.head_count": []uint32{4, 4, 4}, "llama.attention.head_count_kv": []int32{2, 2, 2}}, nil)
	got, _ := mustRun(t, peft, GGUF, path)
	sameTensors(t, got, lora)
}

// An adapter that was trained on another base of the same shapes is converted, with a
// word about it.
func TestOtherBase(t *testing.T) {
	model := tinyLlama(t)
	lora, _ := mustRun(t, peftFolder(mustModel(t, model), 4, everySite).write(t), GGUF, model)
	other := ggufAdapter(t, lora, map[string]any{adapter.KeyBaseHash: "sha256:0", adapter.KeyBaseName: "elsewhere"}, nil)
	_, r := mustRun(t, other, PEFT, model)
	if len(r.Notes) != 1 && len(r.Notes) != 2 || !strings.Contains(r.Notes[0], `trained on another base, "elsewhere"`) {
		t.Errorf("notes %q, want one on the base", r.Notes)
	}
}
