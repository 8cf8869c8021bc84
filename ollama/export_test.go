package ollama

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/testmodel"
)

func TestWrite(t *testing.T) {
	const chatML = `FROM "BASE"
ADAPTER "./a.b.gguf"
TEMPLATE """{{ $from := "" }}`
	const stop = "PARAMETER stop \"<|im_end|>\"\nPARAMETER stop \"<|im_start|>\"\n"
	for _, c := range []struct {
		name, template, begin, end, note string
	}{
		{"chat", testmodel.ChatML, chatML, stop, ""},
		{"no template", "", "FROM \"BASE\"\nADAPTER \"./a.b.gguf\"\nTEMPLATE \"\"\"{{ .Prompt }}\"\"\"\n", "", "no chat template"},
		{"not to be translated", numbered, "FROM \"BASE\"\nADAPTER \"./a.b.gguf\"\nPARAMETER stop ", "", "no TEMPLATE"},
		{"no Jinja", "{% include 'x' %}", "FROM \"BASE\"\nADAPTER \"./a.b.gguf\"\nPARAMETER stop ", "", "no TEMPLATE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := testmodel.Path(t, testmodel.Spec{ChatTemplate: c.template})
			dir := t.TempDir()
			r, err := Write(t.Context(), Config{Name: "x", Base: base, Adapter: filepath.Join(dir, "a.b.gguf"), Beside: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(dir, "a.b.Modelfile"); r.Modelfile != want {
				t.Errorf("written to %q, want %q", r.Modelfile, want)
			}
			text, err := os.ReadFile(r.Modelfile)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.ReplaceAll(string(text), base, "BASE")
			if !strings.HasPrefix(got, c.begin) || !strings.HasSuffix(got, c.end) {
				t.Errorf("got\n%s\nwant it to begin with\n%s\nand to end with\n%s", got, c.begin, c.end)
			}
			if len(r.Notes) < 1 || !strings.Contains(r.Notes[len(r.Notes)-1], "0.34.1 and later refuse ADAPTER") {
				t.Fatalf("notes %q, want one on versions at their end", r.Notes)
			}
			if notes := strings.Join(r.Notes[:len(r.Notes)-1], "; "); (notes == "") != (c.note == "") || !strings.Contains(notes, c.note) {
				t.Errorf("notes %q, want %q", notes, c.note)
			}
		})
	}
}

// lora writes a LoRA on the queries of the first block, all its numbers the same.
func lora(t *testing.T, base, path string, value float32) {
	t.Helper()
	f, err := gguf.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	query, _ := f.Tensor("blk.0.attn_q.weight")
	a, err := adapter.Build(adapter.MethodLoRA, 4, 0, []gguf.Tensor{query})
	if err != nil {
		t.Fatal(err)
	}
	a.Architecture = f.Architecture()
	for _, m := range a.Weights[0].Matrices() {
		for i := range m.Mat.Data {
			m.Mat.Data[i] = value
		}
	}
	if err := a.WriteLoRA(path, adapter.LoRAOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasTrainedIsMerged(t *testing.T) {
	base := testmodel.Path(t, testmodel.Spec{ChatTemplate: testmodel.ChatML})
	dir := t.TempDir()
	c := Config{Name: "x", Base: base, Adapter: filepath.Join(dir, "a.gguf")}
	lora(t, base, c.Adapter, 0.1)
	r, err := Write(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(r.Modelfile)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(text); !strings.HasPrefix(got, "FROM \"./a-merged.gguf\"\nTEMPLATE ") {
		t.Errorf("got\n%s", got)
	}
	if len(r.Notes) > 0 {
		t.Errorf("notes %q", r.Notes)
	}
	query := func(path string) []byte {
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		data, err := f.Data("blk.0.attn_q.weight")
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(data)
	}
	if bytes.Equal(query(base), query(filepath.Join(dir, "a-merged.gguf"))) {
		t.Error("the merged model has the base's weights")
	}
}

func TestMergingThatLosesWhatWasLearnedIsNoted(t *testing.T) {
	base := testmodel.Path(t, testmodel.Spec{Arch: "qwen3", Type: gguf.TypeQ4_0})
	c := Config{Name: "x", Base: base, Adapter: filepath.Join(t.TempDir(), "a.gguf")}
	lora(t, base, c.Adapter, 1e-3)
	r, err := Write(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(r.Notes, "; "); !strings.Contains(notes, "in 1 of 1 merged tensors rounding takes more than half") {
		t.Errorf("notes %q", notes)
	}
}

func TestWriteRefuses(t *testing.T) {
	base := testmodel.Path(t, testmodel.Spec{})
	own := testmodel.Path(t, testmodel.Spec{Arch: "qwen3"})
	dir := t.TempDir()
	for _, c := range []struct{ name, base, adapter, want string }{
		{"a b", base, "a.gguf", `ollama: name "a b": want `},
		{"x", filepath.Join(dir, "none.gguf"), "a.gguf", "no such file"},
		{"x", base, "a\n.gguf", "a Modelfile cannot hold it"},
		{"x", own, "a.gguf", "Ollama runs qwen3 in its own engine, which takes no adapters"},
	} {
		_, err := Write(t.Context(), Config{Name: c.name, Base: c.base, Adapter: filepath.Join(dir, c.adapter), Beside: true}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("name %q, adapter %q: %v, want …%s", c.name, c.adapter, err, c.want)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("%v is left behind", files)
	}
}
