package need

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// recorder is a test that notes how it would have ended first, and goes on. Whatever else is called of it panics.
type recorder struct {
	testing.TB
	name string
	end  string
}

func (r *recorder) Helper()                           {}
func (r *recorder) Name() string                      { return r.name }
func (r *recorder) Skipf(format string, args ...any)  { r.note("skipped: "+format, args) }
func (r *recorder) Fatalf(format string, args ...any) { r.note("failed: "+format, args) }

func (r *recorder) note(format string, args []any) {
	if r.end == "" {
		r.end = fmt.Sprintf(format, args...)
	}
}

func TestSkip(t *testing.T) {
	for _, tt := range []struct {
		strict string
		kind   Kind
		want   string
	}{
		{"", App, "skipped: needs app: no node"},
		{"", Time, "skipped: needs time: no node"},
		{"0", Time, "skipped: needs time: no node"},
		{"1", App, "skipped: needs app: no node"},
		{"1", GPU, "skipped: needs GPU: no node"},
		{"1", Emulator, "skipped: needs emulator: no node"},
		{"1", Data, "skipped: needs shared data: no node"},
		{"1", Model, "skipped: needs model: no node"},
		{"1", Time, "failed: needs time: no node, and FINETUNE_NO_SKIP=1 is set"},
		{"1", "anything else", "failed: needs anything else: no node, and FINETUNE_NO_SKIP=1 is set"},
	} {
		t.Setenv(NoSkip, tt.strict)
		r := &recorder{}
		if Skip(r, tt.kind, "no node"); r.end != tt.want {
			t.Errorf("%s=%q: Skip(%s) = %q, want %q", NoSkip, tt.strict, tt.kind, r.end, tt.want)
		}
	}
}

func TestLinuxLacksNothing(t *testing.T) {
	if mayMiss(System, "linux") || !mayMiss(System, "windows") {
		t.Errorf("mayMiss(System) = %v on Linux, %v on Windows, want false and true", mayMiss(System, "linux"), mayMiss(System, "windows"))
	}
}

func TestSharedIsForSubtests(t *testing.T) {
	r := &recorder{name: "TestX"}
	func() {
		defer func() { recover() }() // a real Fatalf does not return
		Shared(r, "models/none.gguf")
	}()
	if !strings.HasPrefix(r.end, "failed: TestX needs ../shared/data as a whole") {
		t.Errorf("Shared in a test of its own: %q, want a failure", r.end)
	}
}

func TestOwn(t *testing.T) {
	if got := Own(t, "internal/need/need.go"); filepath.Base(filepath.Dir(got)) != "need" {
		t.Errorf("Own = %q, want this folder's file", got)
	}
}

func TestEachRunsOnTheRepositorysOwn(t *testing.T) {
	var ran []string
	Each(t, []string{"demo/base.gguf", "go.mod"}, nil, func(t *testing.T, path string) { ran = append(ran, filepath.Base(path)) })
	if strings.Join(ran, " ") != "base.gguf go.mod" {
		t.Errorf("ran on %q, want both files", ran)
	}
}
