package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"finetune/internal/need"
)

// TestCrashIsAnErrorLine lets a build with the tag "faults" end in every way that nobody foresees. Each is a line that says why,
// hints, a report, and the exit code of a crash.
func TestCrashIsAnErrorLine(t *testing.T) {
	need.Long(t, "builds the program")
	if runtime.GOOS == "windows" {
		need.Skip(t, need.System, "Windows has no workers")
	}
	program := filepath.Join(t.TempDir(), "finetune")
	if out, err := exec.Command("go", "build", "-tags", "faults", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, tt := range []struct{ fault, want string }{
		{"assert", `fault\.cpp:\d+: GGML_ASSERT\(zero == 1\) failed`},
		{"thread-assert", `fault\.cpp:\d+: GGML_ASSERT\(zero == 1\) failed`},
		{"abort", `SIGABRT: abort in native code`},
		{"thread-abort", `aborted in native code`},
		{"segv", `SIGSEGV: segmentation violation in native code`},
		{"thread-segv", `segmentation fault in native code`},
		{"fpe", `SIGFPE: floating-point exception in native code`},
		{"thread-fpe", `floating point exception in native code`},
		{"illegal", `SIGILL: illegal instruction in native code`},
		{"bad_alloc", `.*bad_alloc.*`},
		{"thread-bad_alloc", `.*bad_alloc.*`},
		{"exception", `.*nobody catches this.*`},
		{"thread-exception", `.*nobody catches this.*`},
		{"stack", `SIG(SEGV|BUS).*`},
		{"thread-stack", `(segmentation fault|bus error) in native code`},
		{"heap", `.*(free\(\): double free|pointer being freed).*`},
		{"panic", `panic: nobody foresaw`},
		{"deep", `runtime: goroutine stack exceeds \d+-byte limit`},
		{"twice", `fatal error: concurrent map writes`},
		{"large", `fatal error: runtime: (cannot allocate|out of) memory.*`},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			cache := t.TempDir()
			var stdout, stderr bytes.Buffer
			cmd := exec.Command(program, "inspect", "none.gguf")
			cmd.Env = append(os.Environ(), "FINETUNE_TEST_FAULT="+tt.fault, "XDG_CACHE_HOME="+cache, "HOME="+cache)
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != exitCrashed {
				t.Errorf("ends with %v, want exit status %d", err, exitCrashed)
			}
			want := regexp.MustCompile(`^finetune: inspect: crashed: (` + tt.want + `)\nfinetune: hint: .*\nfinetune: hint: a report for the developers is in "(.*)"\n$`)
			found := want.FindStringSubmatch(stderr.String())
			if found == nil {
				t.Fatalf("stderr = %q, want %v", stderr.String(), want)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout = %q, want nothing", stdout.String())
			}
			why, file := found[1], found[len(found)-1]
			report, err := os.ReadFile(file)
			if err != nil || !strings.HasPrefix(string(report), "inspect: crashed: "+why+"\nfinetune ") {
				t.Errorf("report %q = %.100q, %v", file, report, err)
			}
		})
	}
}
