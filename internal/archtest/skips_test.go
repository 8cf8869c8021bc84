package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// silentSkips returns where a file skips a test without internal/need, as "LINE: what". A module that cannot import that
// package begins its message with "needs KIND: ", as it does.
func silentSkips(fset *token.FileSet, file *ast.File) (found []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, f.Sel.Name) {
			return true
		}
		if x, ok := f.X.(*ast.Ident); ok && x.Name == "need" {
			return true
		}
		if len(call.Args) > 0 {
			if text, ok := call.Args[0].(*ast.BasicLit); ok && strings.HasPrefix(text.Value, `"needs `) {
				return true
			}
		}
		found = append(found, fmt.Sprintf("%d: %s", fset.Position(call.Pos()).Line, f.Sel.Name))
		return true
	})
	return found
}

// dsl has a function of that name, as Ginkgo has, and skips nothing.
const dsl = "third_party/go-llama.cpp/internal/dsl/"

func TestTestsSayWhatTheyNeed(t *testing.T) {
	sources(t, func(name string) bool { return !strings.HasPrefix(name, dsl) }, func(name string, fset *token.FileSet, file *ast.File) {
		for _, what := range silentSkips(fset, file) {
			t.Errorf("%s:%s without internal/need", name, what)
		}
	})
}

func TestSilentSkips(t *testing.T) {
	for _, tt := range []struct{ name, source, want string }{
		{"by need", `func f() { need.Skip(t, need.App, "no node") }`, ""},
		{"in need's words", `func f() { t.Skip("needs app: no node") }`, ""},
		{"in other words", `func f() { t.Skip("no node") }`, "1: Skip"},
		{"with a format", `func f() { t.Skipf("no %s", "node") }`, "1: Skipf"},
		{"without words", `func f() { t.SkipNow() }`, "1: SkipNow"},
		{"with a variable", `func f() { b.Skip(err) }`, "1: Skip"},
		{"a function of that name", `func f() { Skip("no node") }`, ""},
	} {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "x.go", "package x; "+tt.source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(silentSkips(fset, file), "; "); got != tt.want {
			t.Errorf("%s: silentSkips = %q, want %q", tt.name, got, tt.want)
		}
	}
}
