package ollama

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"finetune/adapter"
	"finetune/chat"
	"finetune/gguf"
	"finetune/internal/testmodel"
	"finetune/ollama"

	"github.com/go-skynet/go-llama.cpp/llama"
	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/fs/ggml"
	"github.com/ollama/ollama/parser"
	"github.com/ollama/ollama/template"
	"github.com/ollama/ollama/types/model"
)

// exported makes a base, and an adapter for it, and writes the Modelfile: of a merged model, or of base and adapter beside it.
func exported(t *testing.T, spec testmodel.Spec, beside bool) (base string, r *ollama.Result) {
	t.Helper()
	base = testmodel.Path(t, spec)
	c := ollama.Config{Name: "tom/roses:v1", Base: base, Adapter: filepath.Join(t.TempDir(), "my roses.gguf"), Beside: beside}
	f, err := gguf.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	query, ok := f.Tensor("blk.0.attn_q.weight")
	if !ok {
		t.Fatalf("no query matrix in %q", base)
	}
	a, err := adapter.Build(adapter.MethodLoRA, 4, 0, []gguf.Tensor{query})
	if err != nil {
		t.Fatal(err)
	}
	a.Architecture = f.Architecture()
	if err := a.WriteLoRA(c.Adapter, adapter.LoRAOptions{Type: gguf.TypeF16}); err != nil {
		t.Fatal(err)
	}
	if r, err = ollama.Write(t.Context(), c, nil); err != nil {
		t.Fatal(err)
	}
	return base, r
}

// parsed is a Modelfile as Ollama reads it, and the request that ollama create makes of it.
func parsed(t *testing.T, path string) (*parser.Modelfile, *api.CreateRequest) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := parser.ParseFile(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	request, err := m.CreateRequest(filepath.Dir(path))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return m, request
}

func TestOllamaReadsTheModelfile(t *testing.T) {
	base, r := exported(t, testmodel.Spec{ChatTemplate: testmodel.ChatML}, true)
	m, request := parsed(t, r.Modelfile)
	want := []parser.Command{{Name: "model", Args: base}, {Name: "adapter", Args: r.Adapter}, {Name: "template", Args: r.Template}}
	for _, stop := range r.Stop {
		want = append(want, parser.Command{Name: "stop", Args: stop})
	}
	if !slices.Equal(m.Commands, want) {
		t.Errorf("Ollama reads\n%q\nwant\n%q", m.Commands, want)
	}
	adapterPath := filepath.Join(filepath.Dir(r.Modelfile), "my roses.gguf")
	if len(request.Files) != 1 || request.Files[base] == "" || len(request.Adapters) != 1 || request.Adapters[adapterPath] == "" {
		t.Errorf("ollama create would send the files %v and the adapters %v", request.Files, request.Adapters)
	}
	for _, stop := range []string{"<|im_end|>", "<|im_start|>"} {
		if !slices.Contains(request.Parameters["stop"].([]string), stop) {
			t.Errorf("stop %q, want %q among them", request.Parameters["stop"], stop)
		}
	}
}

func TestOllamaReadsWhatIsQuoted(t *testing.T) {
	for _, text := range []string{
		"/a b/c.gguf", `/"a" b.gguf`, `/a"`, `"`, `""`, `"" x`, `a ""`, "#", " x ", "### Instruction:", "<｜end▁of▁sentence｜>", "'", `\`, "FROM x", "{{ .Prompt }}",
	} {
		written := ollama.Modelfile{From: text, Adapter: text, Template: "{{ if .System }}\n" + `"a" ""` + "\n\n{{ end }}", Stop: []string{text, text}}
		m, err := parser.ParseFile(strings.NewReader(written.String()))
		if err != nil {
			t.Errorf("%v in\n%s", err, written)
			continue
		}
		want := []parser.Command{{Name: "model", Args: text}, {Name: "adapter", Args: text}, {Name: "template", Args: written.Template}, {Name: "stop", Args: text}, {Name: "stop", Args: text}}
		if !slices.Equal(m.Commands, want) {
			t.Errorf("Ollama reads\n%q\nwant\n%q", m.Commands, want)
		}
	}
}

// Ollama tells an adapter from a model by its kind, and its architecture has to be the base's.
func TestOllamaDecodesTheAdapter(t *testing.T) {
	_, r := exported(t, testmodel.Spec{ChatTemplate: testmodel.ChatML}, true)
	path := filepath.Join(filepath.Dir(r.Modelfile), "my roses.gguf")
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	g, err := ggml.Decode(file, -1)
	if err != nil {
		t.Fatal(err)
	}
	if kv := g.KV(); kv.Kind() != "adapter" || kv.Architecture() != "llama" || kv["adapter.type"] != "lora" {
		t.Errorf("Ollama reads kind %q, architecture %q, type %v", kv.Kind(), kv.Architecture(), kv["adapter.type"])
	}
	ours, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	got := map[string]string{}
	for _, tensor := range g.Tensors().Items() {
		got[tensor.Name] = fmt.Sprint(tensor.Type(), tensor.Shape)
	}
	if len(got) == 0 || len(got) != len(ours.Tensors()) {
		t.Errorf("Ollama finds %d tensors, want %d", len(got), len(ours.Tensors()))
	}
	for _, w := range ours.Tensors() {
		if want := fmt.Sprint(strings.ToUpper(w.Type.String()), w.Shape); got[w.Name] != want {
			t.Errorf("Ollama reads %s as %s, want %s", w.Name, got[w.Name], want)
		}
	}
}

// It gets one model, whether its engine would take an adapter or not.
func TestOllamaReadsTheMergedModel(t *testing.T) {
	for _, arch := range []string{"llama", "qwen3"} {
		_, r := exported(t, testmodel.Spec{Arch: arch, ChatTemplate: testmodel.ChatML}, false)
		_, request := parsed(t, r.Modelfile)
		path := filepath.Join(filepath.Dir(r.Modelfile), "my roses-merged.gguf")
		if len(request.Files) != 1 || request.Files[path] == "" || len(request.Adapters) != 0 {
			t.Errorf("ollama create would send the files %v and the adapters %v", request.Files, request.Adapters)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		g, err := ggml.Decode(file, -1)
		if err != nil {
			t.Fatal(err)
		}
		if kv := g.KV(); kv.Kind() == "adapter" || kv.Architecture() != arch {
			t.Errorf("Ollama reads kind %q, architecture %q, want %q", kv.Kind(), kv.Architecture(), arch)
		}
	}
}

// Every chat template that Ollama ships its own for is written by us, and Ollama's engine then writes every conversation as
// the base's own template does.
func TestOllamaWritesConversationsAsTheBase(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(source(t), "template", "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index []struct{ Name, Template string }
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	for i, known := range index {
		t.Run(fmt.Sprint(i, " ", known.Name), func(t *testing.T) {
			base, r := exported(t, testmodel.Spec{ChatTemplate: known.Template}, true)
			if r.Template == "" {
				t.Fatal(r.Notes)
			}
			checkConversations(t, base, r.Template)
		})
	}
	if len(index) < 30 {
		t.Errorf("%d templates, want 30 or more", len(index))
	}
}

// checkConversations renders conversations with Ollama's engine and with the base's own template.
func checkConversations(t *testing.T, base, goTemplate string) {
	t.Helper()
	ours, err := template.Parse(goTemplate)
	if err != nil {
		t.Fatalf("%v in %q", err, goTemplate)
	}
	m, err := llama.LoadModel(base, llama.ModelParams{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	jinja, _ := m.ChatTemplate("")
	theirs, err := chat.ParseTemplate(jinja, m.Vocab(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, roles := range [][]string{
		{"user"}, {"system", "user"}, {"user", "assistant", "user"}, {"system", "user", "assistant", "user"},
		{"user", "assistant", "user", "assistant", "user", "assistant", "user"},
	} {
		var messages []chat.Message
		var values template.Values
		for i, role := range roles {
			content := fmt.Sprintf("%d of \"%s\":\n\n{{ .Content }} <b>ß</b>.", i, role)
			messages = append(messages, chat.Message{Role: role, Content: content})
			values.Messages = append(values.Messages, api.Message{Role: role, Content: content})
		}
		want, err := theirs.Render(messages, nil, true)
		if err != nil || !strings.Contains(want, messages[0].Content) {
			continue // the base takes no system message
		}
		compared++
		var got bytes.Buffer
		if err := ours.Execute(&got, values); err != nil {
			t.Fatal(err)
		}
		if want := chat.WithoutBOS(want, m.Vocab()); got.String() != want {
			t.Errorf("%v\ngot  %q\nwant %q\nof %s", roles, got.String(), want, goTemplate)
		}
	}
	if compared < 3 {
		t.Errorf("%d conversations compared, want 3 or more", compared)
	}
}

func TestOllamaContinuesTextsOfABaseWithoutTemplate(t *testing.T) {
	_, r := exported(t, testmodel.Spec{}, true)
	parsed(t, r.Modelfile)
	ours, err := template.Parse(r.Template)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := ours.Execute(&got, template.Values{Messages: []api.Message{{Role: "user", Content: "Once upon"}}}); err != nil {
		t.Fatal(err)
	}
	if got.String() != "Once upon" {
		t.Errorf("got %q, want the text as it is", got.String())
	}
}

func TestNamesAreOllamas(t *testing.T) {
	long := strings.Repeat("a", 80)
	for _, name := range []string{
		"roses", "roses:v1", "tom/roses", "tom/roses:latest", "example.com/tom/roses:7b-q4_0", "localhost:1234/tom/roses",
		long, long + ":" + long, "_a", "a.b", "tom_x/r-s.t",
		"", ":", "a:", "/a", "a/", "a b", "-a", ".a", "a//b", "to.m/a", "a@b", "ä", long + "a", "a:" + long + "a", "a/b/c/d", "a:b:c", "../a", "a\n",
	} {
		if got, want := ollama.CheckName(name) == nil, model.ParseName(name).IsValid(); got != want {
			t.Errorf("name %q: accepted %v, by Ollama %v", name, got, want)
		}
	}
}
