package quant_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/quant"
)

// A module outside, with the go.mod that the README shows, builds from what the main build has fetched, and computes what is
// computed here.
func TestFromAnotherModule(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := outside(t, root)
	base := filepath.Join(root, "demo", "base.gguf")
	cmd := exec.Command("go", "run", ".", base)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("go run: %s", exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	if got, want := string(out), relativeErrors(t, base); got != want {
		t.Errorf("the program outside prints\n%swant\n%s", got, want)
	}
}

// outside copies the example to a folder outside of the repository and leads its replacements back to root.
func outside(t *testing.T, root string) (dir string) {
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "examples", "outside"))); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	asShown(t, root, string(mod))
	text := strings.ReplaceAll(string(mod), "=> ../..", "=> "+filepath.ToSlash(root))
	if strings.Count(text, root) != 2 {
		t.Fatalf("go.mod: want two replacements below ../.., got %s", mod)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"go.mod": text, "go.sum": string(sums)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// asShown checks that the README shows each line of a go.mod from require on, as seen from a folder beside the
// repository.
func asShown(t *testing.T, root, mod string) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(mod, "\n")[4:] {
		shown := strings.TrimRight("    "+strings.ReplaceAll(line, "=> ../..", "=> ../finetune"), " ")
		if !strings.HasPrefix(line, "//") && !strings.Contains(string(readme), shown+"\n") {
			t.Errorf("README.md does not show %q of examples/outside/go.mod", shown)
		}
	}
}

// relativeErrors is what the example has to print of a model.
func relativeErrors(t *testing.T, path string) string {
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	targets, err := adapter.ParseTargets("attention")
	if err != nil {
		t.Fatal(err)
	}
	tensors, err := targets.Select(f.Tensors())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, tensor := range tensors {
		data, err := f.Data(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		weights := make([]float32, tensor.Elements())
		if err := quant.Decode(tensor.Type, data, weights); err != nil {
			t.Fatal(err)
		}
		a, err := quant.RoundTrip(gguf.TypeQ4_0, weights, int(tensor.Shape[0]), nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s %s %.4f\n", tensor.Name, tensor.Type, a.Relative)
	}
	return text.String()
}
