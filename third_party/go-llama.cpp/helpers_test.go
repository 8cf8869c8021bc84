package llama_test

import (
	"os"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/llamatest"
	native "github.com/go-skynet/go-llama.cpp/llama"
)

const testThreads = llamatest.Threads

func TestMain(m *testing.M) {
	code, leaks := llamatest.Run(m)
	for _, l := range leaks {
		os.Stderr.WriteString(l + "\n")
	}
	os.Exit(code)
}

// data is the path of a file of ../shared/data.
func data(t testing.TB, name string) string { t.Helper(); return llamatest.Data(t, name) }

// vocabulary is that of the model that newLLama loads.
func vocabulary(t testing.TB) *native.Vocab {
	t.Helper()
	m, err := native.LoadModel(data(t, "models/stories260K-f32.gguf"), native.ModelParams{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m.Vocab()
}
