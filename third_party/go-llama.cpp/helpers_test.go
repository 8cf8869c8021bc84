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

// vocabulary is that of the model that newLLama loads.
func vocabulary(t testing.TB) *native.Vocab {
	t.Helper()
	m, err := native.LoadModel(llamatest.Model(t), native.ModelParams{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m.Vocab()
}
