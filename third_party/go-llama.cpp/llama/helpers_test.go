package llama_test

import (
	"math"
	"os"
	"testing"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/internal/llamatest"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// testThreads is how many the contexts of these tests have.
const testThreads = llamatest.Threads

func TestMain(m *testing.M) {
	code, leaks := llamatest.Run(m)
	for _, l := range leaks {
		os.Stderr.WriteString(l + "\n")
	}
	os.Exit(code)
}

func loadModel(t testing.TB, path string) *llama.Model {
	t.Helper()
	m, err := llama.LoadModel(path, llama.ModelParams{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrFail(t, m) })
	return m
}

func small(t testing.TB) *llama.Model { return loadModel(t, llamatest.Model(t)) }

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
