package llama_test

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	llama "github.com/go-skynet/go-llama.cpp"
	"github.com/go-skynet/go-llama.cpp/ggml"
)

// testThreads keeps the tests quick on a busy machine: ggml's threads wait for each other by spinning.
const testThreads = 1

// leaks gathers what was never closed. TestMain fails the run when there is any.
var (
	leakMu sync.Mutex
	leaks  []string
)

func TestMain(m *testing.M) {
	llama.OnLeak(func(what string) {
		leakMu.Lock()
		defer leakMu.Unlock()
		leaks = append(leaks, what)
	})
	code := m.Run()
	collect()
	for _, l := range takeLeaks() {
		os.Stderr.WriteString(l + "\n")
		code = 1
	}
	os.Exit(code)
}

func takeLeaks() []string {
	leakMu.Lock()
	defer leakMu.Unlock()
	l := leaks
	leaks = nil
	return l
}

// collect runs the collector until objects that depend on each other are gone, and gives the finalizers time to run.
func collect() {
	for range 4 {
		runtime.GC()
		time.Sleep(20 * time.Millisecond)
	}
}

// data is the path of a file of ../shared/data, seen from the repository that this module is part of.
func data(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs the shared test data: %v", err)
	}
	return path
}

func loadModel(t testing.TB, name string) *llama.Model {
	t.Helper()
	m, err := llama.LoadModel(data(t, name), llama.ModelParams{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrFail(t, m) })
	return m
}

func stories(t testing.TB) *llama.Model { return loadModel(t, "models/stories260K-f32.gguf") }

func closeOrFail(t testing.TB, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func newContext(t testing.TB, m *llama.Model, p llama.ContextParams) *llama.Context {
	t.Helper()
	if p.Threads == 0 {
		p.Threads = testThreads
	}
	c, err := llama.NewContext(m, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrFail(t, c) })
	return c
}

func tokenize(t testing.TB, m *llama.Model, text string) []int32 {
	t.Helper()
	tokens, err := m.Vocab().Tokenize(text, true, false)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func decode(t testing.TB, c *llama.Context, b llama.Batch) {
	t.Helper()
	if err := c.Decode(b); err != nil {
		t.Fatal(err)
	}
}

// lastLogits decodes tokens into an empty memory and copies the logits of the last one.
func lastLogits(t testing.TB, c *llama.Context, tokens []int32) []float32 {
	t.Helper()
	c.ClearMemory()
	decode(t, c, llama.Batch{Tokens: tokens})
	return append([]float32(nil), c.Logits(len(tokens)-1)...)
}

func argmax(x []float32) int32 {
	best := 0
	for i := range x {
		if x[i] > x[best] {
			best = i
		}
	}
	return int32(best)
}

// maxDiff is the largest difference, NaN where one is, +Inf for lists that are not of one length.
func maxDiff(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	largest := 0.0
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		largest = max(largest, d, -d)
	}
	return largest
}

func typ(t ggml.Type) *ggml.Type { return &t }
