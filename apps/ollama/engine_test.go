package ollama

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"finetune/newmodel"
	"finetune/ollama"

	"github.com/ollama/ollama/fs/ggml"
)

// source is where the module of Ollama lies.
func source(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/ollama/ollama").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// theirs are the architectures in the source of OllamaEngineRequired.
func theirs(t *testing.T) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(source(t), "fs", "ggml", "ggml.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != "OllamaEngineRequired" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING {
				name, _ := strconv.Unquote(s.Value)
				names = append(names, name)
			}
			return true
		})
	}
	return names
}

func TestArchitecturesWithoutAdaptersAreOllamas(t *testing.T) {
	if got, want := slices.Sorted(slices.Values(ollama.OwnEngine())), slices.Sorted(slices.Values(theirs(t))); !slices.Equal(got, want) || len(want) < 20 {
		t.Errorf("ours %q\nwant %q", got, want)
	}
	for _, name := range append(theirs(t), newmodel.Architectures()...) {
		own := ggml.KV{"general.architecture": name}.OllamaEngineRequired()
		if ollama.TakesAdapters(name) == own {
			t.Errorf("%s: takes adapters %v, Ollama's own engine required %v", name, !own, own)
		}
	}
}
