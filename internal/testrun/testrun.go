// Package testrun makes the runs of a few milliseconds a step that tests train: a random model, a text in its tokenizer's
// words, settings.
package testrun

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/chat"
	"finetune/internal/testmodel"
	"finetune/model/native"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Methods are those of which a run ends with an adapter.
var Methods = func() (names []string) {
	for _, m := range adapter.Methods() {
		names = append(names, string(m))
	}
	return names
}()

// Tiny returns a run over a random model. One thread: ggml's threads wait by spinning.
func Tiny(t testing.TB) run.Config {
	c := run.DefaultConfig()
	c.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 64})
	c.Data = Write(t, "train.txt", Story(40))
	c.Out = filepath.Join(t.TempDir(), "run")
	c.Rank, c.Ctx, c.Batch, c.Steps, c.LR, c.Threads = 4, 16, 2, 6, 1e-2, 1
	return c
}

// Packed returns a run on records, several of which share a window of 48.
func Packed(t testing.TB) run.Config {
	c := Tiny(t)
	c.Data, c.ValFraction, c.Ctx = Write(t, "train.jsonl", Records(50)), 0, 48
	return c
}

// By returns the same run with another method.
func By(method string, c run.Config) run.Config {
	d := run.DefaultsOf(method)
	c.Method, c.WeightDecay = method, d.WeightDecay
	if method == run.MethodFull {
		c.Rank, c.Alpha, c.Targets = d.Rank, d.Alpha, d.Targets
	}
	return c
}

// Elsewhere returns the same run with another directory.
func Elsewhere(t testing.TB, c run.Config) run.Config {
	c.Out = filepath.Join(t.TempDir(), "run")
	return c
}

// Story returns n lines in the words of testmodel's tokenizer.
func Story(n int) string {
	words := strings.Fields("the girl had a big happy dog and he went with her to the old tree when she was sad but the cat in the house said no")
	var b strings.Builder
	for line := range n {
		for i := range 5 + line%4 {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(words[(line*line+3*i)%len(words)])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Records returns n lines of prompt and completion, short and long, so that windows differ in how much of them is trained.
func Records(n int) string {
	var b strings.Builder
	words := strings.Fields(Story(n))
	for i := range n {
		prompt := strings.Join(words[i:i+1+i%3], " ")
		completion := strings.Join(words[i+1:i+2+(i*5)%9], " ")
		fmt.Fprintf(&b, `{"prompt": %q, "completion": %q}`+"\n", prompt, " "+completion)
	}
	return b.String()
}

// Write puts text into a new file of the test and returns its path.
func Write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// Read returns the content of a file.
func Read(t testing.TB, path ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Result returns the content of the file that a run has ended with.
func Result(t testing.TB, dir string) []byte {
	t.Helper()
	c, err := run.LoadSaved(dir)
	if err != nil {
		t.Fatal(err)
	}
	return Read(t, dir, c.ResultFile())
}

// Logged returns log.jsonl, event by event.
func Logged(t testing.TB, dir string) (events []map[string]any) {
	t.Helper()
	for line := range strings.Lines(string(Read(t, dir, run.LogFile))) {
		event := map[string]any{}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		events = append(events, event)
	}
	return events
}

// Exists reports whether there is anything at path.
func Exists(path ...string) bool {
	_, err := os.Lstat(filepath.Join(path...))
	return err == nil
}

// NoLeavings moves the folder for temporary files into the test, and fails it if anything of ours is left there.
func NoLeavings(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("temporary files left behind: %v, %v", left, err)
		}
	})
}

// Model returns the base model of a configuration, open until the end of the test.
func Model(t testing.TB, c run.Config) *llama.Model {
	t.Helper()
	m, err := native.Open(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Data returns the windows of a run, as training reads them.
func Data(t testing.TB, m *llama.Model, c run.Config) (train, val *data.Windows) {
	t.Helper()
	train, val, err := data.LoadRun(context.Background(), c, m.Vocab(), chat.SourceOf(m), nil)
	if err != nil {
		t.Fatal(err)
	}
	return train, val
}
