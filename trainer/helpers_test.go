package trainer

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/internal/testmodel"
	"finetune/trainer/data"

	llama "github.com/go-skynet/go-llama.cpp"
)

// shared is a file of ../shared/data, beside the repository; the test is skipped where it is missing.
func shared(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "shared", "data", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no %s here", path)
	}
	return path
}

// write puts text into a new file of the test and returns its path.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// story is n lines in the words of testmodel's tokenizer.
func story(n int) string {
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

// records is n lines of prompt and completion, short and long, so that windows differ in how much of them is trained.
func records(n int) string {
	var b strings.Builder
	words := strings.Fields(story(n))
	for i := range n {
		prompt := strings.Join(words[i:i+1+i%3], " ")
		completion := strings.Join(words[i+1:i+2+(i*5)%9], " ")
		fmt.Fprintf(&b, `{"prompt": %q, "completion": %q}`+"\n", prompt, " "+completion)
	}
	return b.String()
}

// tiny is a run of a few milliseconds a step over a random model. One thread: ggml's threads wait by spinning.
func tiny(t testing.TB) Config {
	c := DefaultConfig()
	c.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 64})
	c.Data = write(t, "train.txt", story(40))
	c.Out = filepath.Join(t.TempDir(), "run")
	c.Rank, c.Ctx, c.Batch, c.Steps, c.LR, c.Threads = 4, 16, 2, 6, 1e-2, 1
	return c
}

// adapterMethods are those of which a run ends with an adapter.
var adapterMethods = slices.DeleteFunc(methods(), func(m string) bool { return m == MethodFull })

// by is the same run with another method.
func by(method string, c Config) Config {
	d := DefaultsOf(method)
	c.Method, c.WeightDecay = method, d.WeightDecay
	if method == MethodFull {
		c.Rank, c.Alpha, c.Targets = d.Rank, d.Alpha, d.Targets
	}
	return c
}

// resultOf is the content of the file that a run has ended with.
func resultOf(t testing.TB, run string) []byte {
	t.Helper()
	c, err := LoadConfig(filepath.Join(run, ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	return readFile(t, run, c.ResultFile())
}

// mustTrain runs to the end and returns the losses of the steps, in order.
func mustTrain(t testing.TB, c Config, resume bool) (*Summary, []float64) {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	var losses []float64
	s, err := Train(context.Background(), c, resume, func(e Event) {
		if e.Kind == "step" {
			losses = append(losses, float64(e.Loss))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, losses
}

// elsewhere is the same run with another directory.
func elsewhere(t testing.TB, c Config) Config {
	c.Out = filepath.Join(t.TempDir(), "run")
	return c
}

func readFile(t testing.TB, path ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// logged is log.jsonl, event by event.
func logged(t testing.TB, run string) (events []map[string]any) {
	t.Helper()
	for line := range strings.Lines(string(readFile(t, run, LogFile))) {
		event := map[string]any{}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		events = append(events, event)
	}
	return events
}

// loggedSteps are the numbers of the steps that log.jsonl tells of.
func loggedSteps(t testing.TB, run string) (steps []int) {
	t.Helper()
	for _, e := range logged(t, run) {
		if e["event"] == "step" {
			steps = append(steps, int(e["step"].(float64)))
		}
	}
	return steps
}

// countTo is 1 to n.
func countTo(n int) (steps []int) {
	for i := range n {
		steps = append(steps, i+1)
	}
	return steps
}

// exists reports whether there is anything at path.
func exists(path ...string) bool {
	_, err := os.Lstat(filepath.Join(path...))
	return err == nil
}

// noLeavings moves the folder for temporary files into the test, and fails it if anything of ours is left there.
func noLeavings(t testing.TB) {
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

// loaded is the base model of a configuration, open until the end of the test.
func loaded(t testing.TB, c Config) *llama.Model {
	t.Helper()
	m, err := LoadBase(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// opened is the setup of a configuration with its memory taken, closed at the end of the test.
func opened(t testing.TB, c Config) *setup {
	t.Helper()
	s, err := newSetup(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	if err := s.engine.Allocate(); err != nil {
		t.Fatal(err)
	}
	return s
}

// evaluator has one thread and is closed at the end of the test.
func evaluator(t testing.TB, m *llama.Model, nCtx int) *Evaluator {
	t.Helper()
	e, err := NewEvaluator(m, nCtx, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// lossOf is the evaluator's loss over windows.
func lossOf(t testing.TB, e *Evaluator, windows []data.Window) float64 {
	t.Helper()
	loss, err := e.Loss(context.Background(), windows, nil)
	if err != nil {
		t.Fatal(err)
	}
	return float64(loss)
}

// far reports whether two numbers differ by more than a share of the larger.
func far(a, b, share float64) bool {
	return !(math.Abs(a-b) <= share*max(math.Abs(a), math.Abs(b)))
}
