package llama_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/llamatest"
)

// A program written for go-llama.cpp compiles against this module and generates text with an adapter.
func TestExampleProgramGeneratesWithAnAdapter(t *testing.T) {
	model := llamatest.Model(t)
	bin := filepath.Join(t.TempDir(), "example")
	if out, err := exec.Command("go", "build", "-o", bin, "./examples").CombinedOutput(); err != nil {
		t.Fatalf("go build ./examples: %v\n%s", err, out)
	}
	run := func(args ...string) string {
		cmd := exec.Command(bin, append([]string{"-m", model, "-temp", "0", "-n", "40", "-t", "1"}, args...)...)
		cmd.Stdin = strings.NewReader(llamatest.ReadReference(t).Prompt + "\n")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
		return string(out)
	}
	base := run()
	if len(base) < 40 || !strings.Contains(base, "(embedding of 256 numbers)") {
		t.Errorf("without an adapter: %q", base)
	}
	if adapted := run("-lora", llamatest.WriteAdapter(t, llamatest.AdapterSpec{Alpha: 8})); len(adapted) < 40 || adapted == base {
		t.Errorf("with an adapter: %q", adapted)
	}
	if out, err := exec.Command(bin, "-m", "no/such/file").CombinedOutput(); err == nil || strings.Count(string(out), "\n") != 1 {
		t.Errorf("with a missing model: %v, %q, want one line", err, out)
	}
}
