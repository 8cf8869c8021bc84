package kernels

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"finetune/internal/need"
)

// The checks in testdata need neither Go nor ggml: one program of them and of every kernel, built in several ways.

// compiler returns a C compiler with its flags, by a variable of the environment or its default.
func compiler(variable, otherwise string) []string {
	if words := strings.Fields(os.Getenv(variable)); len(words) > 0 {
		return words
	}
	return strings.Fields(otherwise)
}

// build makes a program of C sources and returns its path.
func build(t *testing.T, cc []string, args ...string) (string, error) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "check")
	out, err := exec.CommandContext(t.Context(), cc[0], slices.Concat(cc[1:], args, []string{"-lm", "-lpthread", "-o", program})...).CombinedOutput()
	if len(out) > 0 {
		t.Logf("%s", out)
	}
	return program, err
}

// starts reports whether cc makes programs that run with a launcher, which may be empty.
func starts(t *testing.T, cc, launcher []string) bool {
	t.Helper()
	source := filepath.Join(t.TempDir(), "probe.c")
	if err := os.WriteFile(source, []byte("int main(void) { return 0; }\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	program, err := build(t, cc, source)
	if err != nil {
		return false
	}
	args := append(slices.Clone(launcher), program)
	return exec.CommandContext(t.Context(), args[0], args[1:]...).Run() == nil
}

// check builds the checks with all kernels and runs them.
func check(t *testing.T, cc, launcher []string, args ...string) {
	t.Helper()
	sources := []string{"-std=gnu11", "-I."}
	for _, pattern := range []string{"testdata/check_*.c", "*.c"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%d files %s, %v", len(files), pattern, err)
		}
		for _, file := range files {
			if _, err := os.Stat(file); err != nil { // go test runs what is in its cache again when a file has changed that it saw
				t.Fatal(err)
			}
		}
		sources = append(sources, files...)
	}
	sources = slices.DeleteFunc(sources, func(name string) bool { return name == "gemm.c" }) // a part of check_scratch.c
	program, err := build(t, cc, sources...)
	if err != nil {
		t.Fatal(err)
	}
	command := slices.Concat(launcher, []string{program}, args)
	out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput()
	if t.Logf("%s", out); err != nil {
		t.Errorf("%q: %v", command, err)
	}
}

// The memory of every kernel is its own, and so are the places that its threads write to.
func TestKernelsUnderSanitizers(t *testing.T) {
	need.Long(t, "compiles every kernel twice")
	var steady []string // sanitizers want fixed places in memory, where the system may put something else at random
	if arch, err := exec.Command("uname", "-m").Output(); err == nil {
		if steady = []string{"setarch", strings.TrimSpace(string(arch)), "-R"}; exec.Command(steady[0], append(steady[1:], "true")...).Run() != nil {
			steady = nil
		}
	}
	for _, tt := range []struct {
		name, flags string
		args        []string
	}{
		{"address and undefined behaviour", "-g -O1 -fsanitize=address -fsanitize=undefined -fno-sanitize-recover=all", nil},
		{"threads", "-g -O2 -fsanitize=thread", []string{"best"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cc := append(compiler("CC", "cc"), strings.Fields(tt.flags)...)
			if !starts(t, cc, steady) {
				need.Skip(t, need.System, "no program starts under "+tt.flags)
			}
			check(t, cc, steady, tt.args...)
		})
	}
}

// NEON's kernels compute what the portable ones do: with the compiler of an arm64 machine, elsewhere with a cross compiler,
// in an emulator.
func TestKernelsForARM64(t *testing.T) {
	need.Long(t, "compiles every kernel")
	cc, launcher := compiler("NEON_CC", "aarch64-linux-gnu-gcc -static"), compiler("NEON_RUN", "qemu-aarch64")
	if runtime.GOARCH == "arm64" {
		cc, launcher = compiler("NEON_CC", "cc"), compiler("NEON_RUN", "")
	} else if _, err := exec.LookPath(launcher[0]); err != nil {
		launcher[0] += "-static"
	}
	if !starts(t, cc, launcher) {
		need.Skip(t, need.Emulator, "kernels for arm64 want "+strings.Join(append(cc, launcher...), " ")+
			": Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user")
	}
	check(t, append(cc, "-O2"), launcher, "best")
}
