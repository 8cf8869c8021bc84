package archtest

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the top of the repository, seen from this package's folder.
const root = "../.."

// offences returns where a file prints, logs or ends the process, as
// "LINE: what". Packages below cmd return errors and leave talk to their caller.
func offences(fset *token.FileSet, file *ast.File) []string {
	var found []string
	complain := func(at token.Pos, what string) {
		found = append(found, fmt.Sprintf("%d: %s", fset.Position(at).Line, what))
	}
	names := map[string]string{} // of imported packages in this file, to their paths
	for _, spec := range file.Imports {
		imported := strings.Trim(spec.Path.Value, `"`)
		if imported == "log" || imported == "log/slog" {
			complain(spec.Pos(), "import of "+imported)
		}
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imported
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && talks(names[x.Name], n.Sel.Name) {
				complain(n.Pos(), x.Name+"."+n.Sel.Name)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "print" || f.Name == "println") {
				complain(n.Pos(), f.Name)
			}
		}
		return true
	})
	return found
}

// talks reports whether a name of an imported package prints, or ends the process.
func talks(imported, name string) bool {
	switch imported {
	case "fmt":
		return strings.HasPrefix(name, "Print")
	case "os":
		return slices.Contains([]string{"Exit", "Stdout", "Stderr"}, name)
	}
	return false
}

// sources calls visit for each Go file of both modules that keep accepts, by
// its slash-separated path below the repository's root.
func sources(t *testing.T, keep func(name string) bool, visit func(name string, fset *token.FileSet, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		name := filepath.ToSlash(rel)
		if err != nil || d.IsDir() && name != "." && strings.HasPrefix(d.Name(), ".") {
			return cmp.Or(err, fs.SkipDir)
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || !keep(name) {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		visit(name, fset, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNothingBelowCmdPrintsLogsOrExits(t *testing.T) {
	below := func(name string) bool {
		return !strings.HasPrefix(name, "cmd/") && !strings.HasSuffix(name, "_test.go")
	}
	sources(t, below, func(name string, fset *token.FileSet, file *ast.File) {
		if file.Name.Name == "main" {
			return // an example program talks
		}
		for _, what := range offences(fset, file) {
			t.Errorf("%s:%s", name, what)
		}
	})
}

// go list sees the files of one platform; this sees them all, tests included.
func TestOnlyThirdPartyAndKernelsImportC(t *testing.T) {
	outside := func(name string) bool {
		return !strings.HasPrefix(name, "third_party/") && !strings.HasPrefix(name, cgo+"/")
	}
	sources(t, outside, func(name string, fset *token.FileSet, file *ast.File) {
		for _, spec := range file.Imports {
			if spec.Path.Value == `"C"` {
				t.Errorf("%s imports \"C\"", name)
			}
		}
	})
}

func TestOffences(t *testing.T) {
	for _, tt := range []struct{ name, source, want string }{
		{"writing to a writer", `import "fmt"; func f(w W) { fmt.Fprintln(w) }`, ""},
		{"fmt.Println", `import "fmt"; func f() { fmt.Println() }`, "1: fmt.Println"},
		{"renamed fmt", `import p "fmt"; func f() { p.Printf("") }`, "1: p.Printf"},
		{"a method of that name", `type T struct{}; func f(fmt T) { fmt.Print() }`, ""},
		{"log", `import "log"`, "1: import of log"},
		{"os.Exit", `import "os"; func f() { os.Exit(1) }`, "1: os.Exit"},
		{"os.Stderr as a value", `import "os"; var w = os.Stderr`, "1: os.Stderr"},
		{"builtin println", `func f() { println() }`, "1: println"},
		{"os.Open", `import "os"; func f() { os.Open("") }`, ""},
	} {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "x.go", "package x; "+tt.source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(offences(fset, file), "; "); got != tt.want {
			t.Errorf("%s: offences = %q, want %q", tt.name, got, tt.want)
		}
	}
}
