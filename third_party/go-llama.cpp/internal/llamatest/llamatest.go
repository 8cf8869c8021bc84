// Package llamatest is what the tests of this module share: where the test data is, a LoRA adapter to load, and a run that
// tells what was never closed.
package llamatest

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Threads keeps the tests quick on a busy machine: ggml's threads wait for each other by spinning.
const Threads = 1

// Model is the path of the model that the tests run on: the demo's base of the repository that this module is part of, a
// Llama of 4.3 million parameters in Q8_0 with 5 layers of 256, a byte-level BPE of 1536 tokens and a ChatML template.
func Model(t testing.TB) string {
	t.Helper()
	path := filepath.Join(moduleRoot(t), "..", "..", "demo", "base.gguf")
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Shared is the path of a file of ../shared/data, seen from that repository. Without the folder the test is skipped, in the
// words that the repository's internal/need has for it; it has to be a subtest, beside one that runs on Model.
func Shared(t testing.TB, name string) string {
	t.Helper()
	if !strings.Contains(t.Name(), "/") {
		t.Fatalf("%s needs ../shared/data as a whole, want a subtest", t.Name())
	}
	data := filepath.Join(moduleRoot(t), "..", "..", "..", "shared", "data")
	if _, err := os.Stat(data); err != nil {
		t.Skip("needs shared data: no ../shared/data")
	}
	path := filepath.Join(data, filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Vocabulary writes the tokenizer of Model and nothing else, and returns the file's path.
func Vocabulary(t testing.TB) string {
	t.Helper()
	whole, err := os.ReadFile(Model(t))
	if err != nil {
		t.Fatal(err)
	}
	const counts, first = 8, "output_norm.weight" // behind magic and version; the name of the first tensor
	end := bytes.Index(whole, append(binary.LittleEndian.AppendUint64(nil, uint64(len(first))), first...))
	if end < 0 {
		t.Fatalf("no tensor %q in %q", first, Model(t))
	}
	vocabulary := bytes.Clone(whole[:end])
	binary.LittleEndian.PutUint64(vocabulary[counts:], 0)
	path := filepath.Join(t.TempDir(), "vocabulary.gguf")
	if err := os.WriteFile(path, vocabulary, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// moduleRoot is the folder with the go.mod above the package that is tested, whose folder a test runs in.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	t.Fatalf("no go.mod above the test: %v", err)
	return ""
}

// unclosed gathers what was never closed.
var unclosed struct {
	sync.Mutex
	what []string
}

// Run runs the tests of a package and returns its exit code and what was never closed, which is a failure.
func Run(m *testing.M) (code int, leaks []string) {
	llama.OnLeak(func(what string) {
		unclosed.Lock()
		defer unclosed.Unlock()
		unclosed.what = append(unclosed.what, what)
	})
	code = m.Run()
	if leaks = Leaks(); len(leaks) > 0 {
		code = 1
	}
	return code, leaks
}

// Leaks returns what was never closed since it was last called. It collects several times, since an object goes after those
// that refer to it.
func Leaks() []string {
	for range 4 {
		collect()
	}
	unclosed.Lock()
	defer unclosed.Unlock()
	leaks := unclosed.what
	unclosed.what = nil
	return leaks
}

// collect runs the collector and waits for the finalizers that it found to run: they run one after the other, so all of an
// earlier call have when it returns.
func collect() {
	done := make(chan struct{})
	abandon(done)
	runtime.GC()
	<-done
}

// abandon leaves an object behind whose finalizer closes done.
//
//go:noinline
func abandon(done chan struct{}) {
	type object struct{ done chan struct{} }
	runtime.SetFinalizer(&object{done}, func(o *object) { close(o.done) })
}
