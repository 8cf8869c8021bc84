// Package llamatest is what the tests of this module share: where the test data is, a LoRA adapter to load, and a run that
// tells what was never closed.
package llamatest

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Threads keeps the tests quick on a busy machine: ggml's threads wait for each other by spinning.
const Threads = 1

// Data returns the path of a file of ../shared/data, seen from the repository that this module is part of. Without the
// file the test is skipped.
func Data(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(moduleRoot(t), "..", "..", "..", "shared", "data", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs the shared test data: %v", err)
	}
	return path
}

// moduleRoot returns the folder with the go.mod above the package that is tested, whose folder a test runs in.
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
