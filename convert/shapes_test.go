package convert

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/convert/safetensors"
	"finetune/internal/hint"
)

// renamed is a copy of a folder's weights with other names for its tensors.
func renamed(t *testing.T, dir string, name func(string) string) string {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(dir, peftWeights))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := safetensors.NewBuilder(nil)
	for _, tensor := range f.Tensors() {
		data, err := f.Data(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		b.Add(name(tensor.Name), tensor.DType, tensor.Shape, func() ([]byte, error) { return data, nil })
	}
	var file bytes.Buffer
	if _, err := b.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(dir, configFile))
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	writeFile(t, filepath.Join(out, peftWeights), file.Bytes())
	writeFile(t, filepath.Join(out, configFile), config)
	return out
}

func converted(t *testing.T, from, model string) ([]byte, *Report) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "a.gguf")
	r, err := Run(Config{From: from, To: GGUF, Model: model, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b, r
}

// TestNamesOfStateDicts: prefixes that are missing or stand there twice, the adapter's name, torch.compile's and a
// distributed model's: the file that comes out is the same to the byte.
func TestNamesOfStateDicts(t *testing.T) {
	model := tinyLlama(t)
	dir := peftFolder(mustModel(t, model), 4, everySite).write(t)
	want, _ := converted(t, dir, model)
	for what, name := range map[string]func(string) string{
		"no prefix":        func(s string) string { return strings.TrimPrefix(s, peftPrefix) },
		"the prefix twice": func(s string) string { return peftPrefix + s },
		"the adapter's name": func(s string) string {
			return strings.NewReplacer("A.weight", "A.default.weight", "B.weight", "B.default.weight", "embedding_A", "embedding_A.default", "embedding_B", "embedding_B.default").Replace(s)
		},
		"another name": func(s string) string {
			return strings.NewReplacer("A.weight", "A.my-style.weight", "B.weight", "B.my-style.weight").Replace(s)
		},
		"torch.compile":   func(s string) string { return "_orig_mod." + s },
		"compiled blocks": func(s string) string { return strings.Replace(s, ".self_attn.", "._orig_mod.self_attn.", 1) },
		"distributed":     func(s string) string { return "module." + s },
		"sharded":         func(s string) string { return strings.Replace(s, ".self_attn.", "._fsdp_wrapped_module.self_attn.", 1) },
		"checkpointed": func(s string) string {
			return strings.Replace(s, ".self_attn.", "._checkpoint_wrapped_module.self_attn.", 1)
		},
		"the inner model": func(s string) string { return strings.TrimPrefix(strings.TrimPrefix(s, peftPrefix), "model.") },
	} {
		if got, _ := converted(t, renamed(t, dir, name), model); !bytes.Equal(got, want) {
			t.Errorf("%s: another file", what)
		}
	}
}

func TestPartsForImagesAreLeftOutAndNamed(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	f := peftFolder(m, 4, func(mod module) bool { return mod.layer >= 0 })
	want, _ := converted(t, f.write(t), model)
	f.shapes[peftPrefix+"visual.blocks.0.attn.qkv.lora_A.weight"], f.shapes[peftPrefix+"visual.blocks.0.attn.qkv.lora_B.weight"] = []int64{4, 10}, []int64{30, 4}
	got, r := converted(t, f.write(t), model)
	if !bytes.Equal(got, want) || !strings.Contains(strings.Join(r.Notes, "\n"), `1 modules of the part for images or sound are left out, "visual.blocks.0.attn.qkv" among them`) {
		t.Errorf("notes %q, same file %v", r.Notes, bytes.Equal(got, want))
	}
}

func TestDownloadsThatAreNoFileOfWeights(t *testing.T) {
	model := tinyLlama(t)
	for content, want := range map[string]string{
		"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n": "is a pointer of Git LFS, not the file itself",
		"PK\x03\x04rest": "is a zip archive", "<!DOCTYPE html><html>": "is a web page", "\n<HTML><body>": "is a web page",
	} {
		dir := peftFolder(mustModel(t, model), 4, everySite).write(t)
		writeFile(t, filepath.Join(dir, configFile), []byte(content))
		if _, err := Run(Config{From: dir, To: GGUF, Model: model, Out: filepath.Join(t.TempDir(), "out.gguf")}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("settings: %v, want …%s", err, want)
		}
		writeFile(t, filepath.Join(dir, peftWeights), []byte(content))
		file := filepath.Join(t.TempDir(), "a.gguf")
		writeFile(t, file, []byte(content))
		for _, from := range []string{dir, file} {
			out := filepath.Join(t.TempDir(), "out.gguf")
			_, err := Run(Config{From: from, To: GGUF, Model: model, Out: out})
			if err == nil || !strings.Contains(err.Error(), want) || len(hint.Of(err)) == 0 {
				t.Errorf("%.20q: %v, want an error that says %q, and a hint", content, err, want)
			}
			if _, err := os.Stat(out); err == nil {
				t.Errorf("%.20q: something was written", content)
			}
		}
	}
}

func TestLocalPathsAreNotWritten(t *testing.T) {
	model := tinyLlama(t)
	for name, kept := range map[string]bool{"some/model": true, "model": true, "/home/somebody/models/base": false, "./base": false, "../base": false, "~/base": false, `C:\models\base`: false, "models/of/mine": false} {
		f := peftFolder(mustModel(t, model), 4, everySite)
		f.config["base_model_name_or_path"] = name
		b, r := converted(t, f.write(t), model)
		if bytes.Contains(b, []byte(name)) != kept || strings.Contains(strings.Join(r.Notes, "\n"), "it is left out") == kept {
			t.Errorf("%q: in the file %v, want %v; notes %q", name, bytes.Contains(b, []byte(name)), kept, r.Notes)
		}
	}
}
