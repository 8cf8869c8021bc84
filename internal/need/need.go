// Package need says what a test needs that not every clone of the repository finds, and skips the test where it is
// missing. Tests skip in no other way, which internal/archtest holds, so that cmd/runtests can name at the end what did
// not run, and why.
//
// Every kind of test runs on what is in the repository: demo/base.gguf, models that the test makes, files in testdata.
// Larger models and real texts in ../shared/data come on top of that, as further subtests:
//
//	need.Each(t, []string{"demo/base.gguf"}, []string{"models/stories260K-f32.gguf"}, func(t *testing.T, path string) { … })
//
// With FINETUNE_NO_SKIP=1 in the environment a test fails where it would skip, unless a GPU, an emulator, an app, the
// shared data, a real base or a right is missing, or something that only other systems than Linux lack.
package need

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Kind of what may be missing.
type Kind string

// The kinds, as they are named at the end of a run.
const (
	GPU       Kind = "GPU"
	Emulator  Kind = "emulator"
	App       Kind = "app"         // another program, or what installs it
	Data      Kind = "shared data" // ../shared/data, beside the repository
	Model     Kind = "model"       // a real base that scripts/real-model brings
	System    Kind = "system"      // what the operating system has not
	Processor Kind = "processor"   // instructions that not every one has
	Rights    Kind = "rights"      // what only root or a machine of one's own allows, such as mounting a small disk
	Time      Kind = "time"        // the test is long, and -short was given
	Unraced   Kind = "no detector" // the race detector, which takes memory of its own, is not to be there
)

// NoSkip is the variable of the environment that, set to 1, turns skips into failures.
const NoSkip = "FINETUNE_NO_SKIP"

// Skip skips the test for want of something, or fails it.
func Skip(t testing.TB, kind Kind, why string) {
	t.Helper()
	if os.Getenv(NoSkip) == "1" && !mayMiss(kind, runtime.GOOS) {
		t.Fatalf("needs %s: %s, and %s=1 is set", kind, why, NoSkip)
	}
	t.Skipf("needs %s: %s", kind, why)
}

// mayMiss reports whether a machine can be expected to lack that.
func mayMiss(kind Kind, system string) bool {
	if kind == System {
		return system != "linux"
	}
	return slices.Contains([]Kind{GPU, Emulator, App, Data, Model, Processor, Rights, Unraced}, kind)
}

// Long skips a test that takes longer than -short allows.
func Long(t testing.TB, why string) {
	t.Helper()
	if testing.Short() {
		Skip(t, Time, why)
	}
}

// OwnMemory skips a test that measures the memory of the process where the race detector multiplies it.
func OwnMemory(t testing.TB) {
	t.Helper()
	if raced {
		Skip(t, Unraced, "memory is measured")
	}
}

// Own returns the path of a file of the repository, given by its path from the repository's root.
func Own(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(root(t), filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Shared returns the path of a file or folder of ../shared/data, and skips the subtest where there is no such folder. It
// is for subtests only: what they belong to has others, which run on the repository's own files.
func Shared(t testing.TB, name string) string {
	t.Helper()
	if !strings.Contains(t.Name(), "/") {
		t.Fatalf("%s needs ../shared/data as a whole: only a subtest may, beside one with a file of the repository", t.Name())
	}
	data := filepath.Join(root(t), "..", "shared", "data")
	if _, err := os.Stat(data); errors.Is(err, fs.ErrNotExist) {
		Skip(t, Data, "no ../shared/data")
	}
	path := filepath.Join(data, filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Each runs test as a subtest for every file: the repository's own, at least one, by their paths from its root, and those
// of ../shared/data.
func Each(t *testing.T, own, shared []string, test func(t *testing.T, path string)) {
	t.Helper()
	if len(own) == 0 {
		t.Fatal("runs on no file of the repository")
	}
	for _, name := range own {
		t.Run(path.Base(name), func(t *testing.T) { test(t, Own(t, name)) })
	}
	for _, name := range shared {
		t.Run(path.Base(name), func(t *testing.T) { test(t, Shared(t, name)) })
	}
}

// root finds the repository: the folder of the module finetune, at or above the working directory.
func root(t testing.TB) string {
	t.Helper()
	start, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if mod, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && strings.HasPrefix(string(mod), "module finetune\n") {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatalf("%q is not inside of the repository", start)
		}
	}
}
