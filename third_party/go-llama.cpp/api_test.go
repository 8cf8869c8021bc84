package llama_test

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// apiFile lists what go-skynet/go-llama.cpp v0.0.0-20240314183750-6a8041ef6b46 exports, a name with its type a line, as
// apiOf wrote it for the sources of that version.
const apiFile = "testdata/api.txt"

// Exactly upstream's names, with exactly their types: one more would be in the way of programs that import the package with
// a dot, one less would be missed.
func TestPackageExportsWhatUpstreamDoes(t *testing.T) {
	b, err := os.ReadFile(apiFile)
	if err != nil {
		t.Fatal(err)
	}
	want, got := strings.Split(strings.TrimSpace(string(b)), "\n"), apiOf(sources(t))
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("exported, not upstream's: %s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("upstream's, not exported: %s", line)
		}
	}
	if !t.Failed() && !slices.Equal(got, want) {
		t.Errorf("fields in the order %q, want upstream's %q", got, want)
	}
}

// positions are those of all files that are parsed here.
var positions = token.NewFileSet()

// sources parses the files of the package in the folder that the test runs in.
func sources(t *testing.T) (files []*ast.File) {
	t.Helper()
	p, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(p.GoFiles, p.CgoFiles...) {
		f, err := parser.ParseFile(positions, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// emptyPackages are the imports of what is listed: an exported name with a type of theirs is listed with an invalid one.
type emptyPackages struct{}

func (emptyPackages) Import(name string) (*types.Package, error) {
	p := types.NewPackage(name, path.Base(name))
	p.MarkComplete()
	return p, nil
}

// apiOf lists the exported names of a package by the alphabet, after a type its methods, by the alphabet too, and its
// fields, in their order; all with their types but without the names of parameters.
func apiOf(files []*ast.File) (lines []string) {
	conf := types.Config{Importer: emptyPackages{}, IgnoreFuncBodies: true, FakeImportC: true, Error: func(error) {}}
	p, _ := conf.Check("llama", positions, files, nil) // without its imports it has errors
	short := types.RelativeTo(p)
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, name := range p.Scope().Names() {
		object := p.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		text := types.TypeString(unnamed(object.Type()), short)
		switch o := object.(type) {
		case *types.Func:
			add("func %s%s", name, strings.TrimPrefix(text, "func"))
		case *types.Var:
			add("var %s %s", name, text)
		case *types.Const:
			add("const %s %s = %s", name, text, o.Val())
		case *types.TypeName:
			lines = append(lines, apiOfType(o, short)...)
		}
	}
	return lines
}

func apiOfType(o *types.TypeName, short types.Qualifier) []string {
	text := func(t types.Type) string { return types.TypeString(unnamed(t), short) }
	if o.IsAlias() {
		return []string{"type " + o.Name() + " = " + text(types.Unalias(o.Type()))}
	}
	named := o.Type().(*types.Named)
	s, isStruct := named.Underlying().(*types.Struct)
	lines := []string{"type " + o.Name() + " struct"}
	if !isStruct {
		lines[0] = "type " + o.Name() + " " + text(named.Underlying())
	}
	for m := range named.Methods() {
		if m.Exported() {
			lines = append(lines, fmt.Sprintf("method (%s) %s%s", text(m.Signature().Recv().Type()), m.Name(), strings.TrimPrefix(text(m.Type()), "func")))
		}
	}
	slices.Sort(lines[1:])
	for i := 0; isStruct && i < s.NumFields(); i++ {
		if f := s.Field(i); f.Exported() {
			lines = append(lines, fmt.Sprintf("type %s struct, %s %s", o.Name(), f.Name(), text(f.Type())))
		}
	}
	return lines
}

// unnamed is the type of a function without the names of its parameters and results, any other type as it is.
func unnamed(t types.Type) types.Type {
	s, ok := t.(*types.Signature)
	if !ok {
		return t
	}
	strip := func(from *types.Tuple) *types.Tuple {
		var vars []*types.Var
		for v := range from.Variables() {
			vars = append(vars, types.NewVar(v.Pos(), v.Pkg(), "", unnamed(v.Type())))
		}
		return types.NewTuple(vars...)
	}
	return types.NewSignatureType(nil, nil, nil, strip(s.Params()), strip(s.Results()), s.Variadic())
}

func TestAPIOf(t *testing.T) {
	for _, tt := range []struct{ name, source, want string }{
		{"a function", "func F(a, b int, more ...string) (x *T, err error); type T struct{ hidden int }",
			"func F(int, int, ...string) (*T, error); type T struct"},
		{"fields and methods", "type T struct { C func(x int); A, b int }; func (t T) M(); func (t *T) P(); func (t T) hidden()",
			"type T struct; method (*T) P(); method (T) M(); type T struct, C func(int); type T struct, A int"},
		{"variables and constants", "var V T; type T func(p *int); const C = 7; var w int", "const C untyped int = 7; type T func(*int); var V T"},
		{"an alias", "type T = *u; type u struct{}", "type T = *u"},
		{"a type of another package", `import "x/q"; func F(q.T)`, "func F(invalid type)"},
		{"nothing", "type t struct { A int }; func (t) M()", ""},
	} {
		f, err := parser.ParseFile(positions, "x.go", "package llama; "+tt.source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(apiOf([]*ast.File{f}), "; "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
