//go:build unix && cgo

package hostile

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/need"
	"finetune/internal/testmodel"
)

// corpus is a folder of sound files of every kind, which runs link to and damage.
type corpus struct {
	t       *testing.T
	program string
	dir     string
	models  []string // of all architectures, below dir
}

const (
	story  = "once upon a time there was a little girl. She saw 3 Dogs!\n"
	chatML = `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content | trim }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`
)

// texts of the corpus by their names.
func corpusTexts() map[string]string {
	var jsonl, alpaca, csv, choices strings.Builder
	csv.WriteString("prompt,completion\n")
	for i := range 12 {
		fmt.Fprintf(&jsonl, `{"messages":[{"role":"user","content":"what is %d?"},{"role":"assistant","content":"it is %d, a number"}]}`+"\n", i, i*i)
		fmt.Fprintf(&alpaca, `{"instruction":"add %d","input":"to 1","output":"the sum is %d"}`+"\n", i, i+1)
		fmt.Fprintf(&csv, "ask %d,\"an answer, %d\"\n", i, i)
		fmt.Fprintf(&choices, `{"question":"is it %d?","choices":["no","yes it is","perhaps"],"answer":%d}`+"\n", i, i%3)
	}
	return map[string]string{
		"train.txt": strings.Repeat(story+"the dogs saw her too, and one of them was red.\n\n", 40), "other.txt": strings.Repeat("a dog is red, and once she was a girl.\n", 20), "train.jsonl": jsonl.String(), "alpaca.jsonl.gz": string(zipped([]byte(alpaca.String()))),
		"records.csv": csv.String(), "choices.jsonl": choices.String(), "template.jinja": chatML,
		"chat.txt": "hello\nwho are you?\n", "alpaca.json": "[" + strings.ReplaceAll(strings.TrimSpace(alpaca.String()), "\n", ",\n") + "]\n",
	}
}

// newCorpus makes the files, most of them by the program itself.
func newCorpus(t *testing.T, program string) *corpus {
	c := &corpus{t: t, program: program, dir: t.TempDir()}
	for name, content := range corpusTexts() {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	c.makeModels()
	base := func(args ...string) []string { return append(args, "--threads", "1") }
	for _, method := range []string{"lora", "dual-lora", "dora"} {
		c.run(base("train", "--model", "base.gguf", "--data", "train.txt", "--ctx", "32", "--steps", "4", "--rank", "4", "--checkpoint-every", "2", "--method", method, "--out", "run-"+method)...)
	}
	c.run(base("export", "--run", "run-lora", "--out", "lora.gguf")...)
	c.run("convert", "--from", "lora.gguf", "--to", "peft", "--model", "base.gguf", "--out", "peft")
	c.run("convert", "--from", "lora.gguf", "--to", "mlx", "--model", "base.gguf", "--out", "mlx")
	c.run(base("merge", "--model", "base.gguf", "--adapter", "lora.gguf", "--out", "split.gguf", "--split-max-size", "100KiB")...)
	c.unfinish("run-dual-lora", "run-half")
	return c
}

// makeModels writes a model of each architecture, in turns of type, and base.gguf.
func (c *corpus) makeModels() {
	os.Mkdir(filepath.Join(c.dir, "models"), 0o777)
	types := []gguf.Type{gguf.TypeF16, gguf.TypeQ8_0, gguf.TypeF32, gguf.TypeQ4_0}
	write := func(name string, write func(path string) error) {
		name = filepath.Join("models", strings.ReplaceAll(name, " ", "-")+".gguf")
		if slices.Contains(c.models, name) { // an architecture of both kinds
			name = strings.Replace(name, ".gguf", "-2.gguf", 1)
		}
		if err := write(filepath.Join(c.dir, name)); err != nil {
			c.t.Fatal(err)
		}
		c.models = append(c.models, name)
	}
	for i, arch := range testmodel.Architectures() {
		s := testmodel.Spec{Arch: arch, Type: types[i%len(types)], Seed: 1, ChatTemplate: chatML}
		write(arch, func(path string) error { return testmodel.Write(path, s) })
	}
	for i, v := range testmodel.Variants() {
		v.Of.Type, v.Of.ChatTemplate = types[i%len(types)], chatML
		write(v.Name, v.Write)
	}
	if len(c.models) < 12 {
		c.t.Fatalf("%d architectures, want 12 or more", len(c.models))
	}
	s := testmodel.Spec{Type: gguf.TypeF16, Seed: 1, ChatTemplate: chatML}
	if err := testmodel.Write(filepath.Join(c.dir, "base.gguf"), s); err != nil {
		c.t.Fatal(err)
	}
}

// run runs the program in the corpus's folder, in which it has to succeed.
func (c *corpus) run(args ...string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.program, args...)
	cmd.Dir = c.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

// unfinish makes of a run that is done one that was interrupted at its first checkpoint.
func (c *corpus) unfinish(done, half string) {
	c.t.Helper()
	if err := os.CopyFS(filepath.Join(c.dir, half), os.DirFS(filepath.Join(c.dir, done))); err != nil {
		c.t.Fatal(err)
	}
	config := filepath.Join(c.dir, half, "config.yaml")
	for _, name := range []string{"adapter.gguf", "imatrix.gguf", "checkpoint-00000004.zst"} {
		if err := os.Remove(filepath.Join(c.dir, half, name)); err != nil {
			c.t.Fatal(err)
		}
	}
	b, err := os.ReadFile(config)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(config, bytes.ReplaceAll(b, []byte(done), []byte(half)), 0o666); err != nil {
		c.t.Fatal(err)
	}
}

// TestParseAndEncodeAreInverse holds that a model that is taken apart and put together is the same one.
func TestParseAndEncodeAreInverse(t *testing.T) {
	for _, name := range []string{"demo/base.gguf", "trainer/testdata/architectures/gemma4.gguf"} {
		b, err := os.ReadFile(need.Own(t, name))
		if err != nil {
			t.Fatal(err)
		}
		if again := parse(b).encode(); !bytes.Equal(again, b) {
			t.Errorf("%s: %d bytes became %d others", name, len(b), len(again))
		}
	}
}
