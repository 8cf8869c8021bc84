package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// bareDifferences returns where a test takes math.Abs of a difference, as "LINE". Compared with a tolerance it lets NaN
// pass; internal/near does not. What another module writes, `!(math.Abs(a-b) <= tol)`, does not either.
func bareDifferences(fset *token.FileSet, file *ast.File) []string {
	var found []string
	negated := map[ast.Expr]bool{} // left of a <= within !( )
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.UnaryExpr:
			inner, ok := unwrapped(n.X).(*ast.BinaryExpr)
			if n.Op == token.NOT && ok && (inner.Op == token.LEQ || inner.Op == token.LSS) {
				negated[inner.X] = true
			}
		case *ast.CallExpr:
			if isName(n.Fun, "math", "Abs") && isDifference(n.Args[0]) && !negated[n] {
				found = append(found, fmt.Sprint(fset.Position(n.Pos()).Line))
			}
		}
		return true
	})
	return found
}

// isDifference reports whether x is a - b, in parentheses or converted as well.
func isDifference(x ast.Expr) bool {
	x = unwrapped(x)
	if call, ok := x.(*ast.CallExpr); ok && len(call.Args) == 1 {
		if f, ok := call.Fun.(*ast.Ident); ok && (f.Name == "float64" || f.Name == "float32") {
			return isDifference(call.Args[0])
		}
	}
	b, ok := x.(*ast.BinaryExpr)
	return ok && b.Op == token.SUB
}

func unwrapped(x ast.Expr) ast.Expr {
	if p, ok := x.(*ast.ParenExpr); ok {
		return unwrapped(p.X)
	}
	return x
}

// isName reports whether x is pkg.name.
func isName(x ast.Expr, pkg, name string) bool {
	s, ok := x.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	id, ok := s.X.(*ast.Ident)
	return ok && id.Name == pkg
}

func TestComparisonsRefuseNaN(t *testing.T) {
	tests := func(name string) bool { return strings.HasSuffix(name, "_test.go") }
	sources(t, tests, func(name string, fset *token.FileSet, file *ast.File) {
		for _, line := range bareDifferences(fset, file) {
			t.Errorf("%s:%s: math.Abs of a difference: want near.Enough or near.Farthest, or !(… <= tolerance), which NaN fails", name, line)
		}
	})
}

func TestBareDifferences(t *testing.T) {
	for _, tt := range []struct{ name, source, want string }{
		{"above a tolerance", `if math.Abs(got-want) > tol {}`, "1"},
		{"converted", `if tol < math.Abs(float64(got - want)) {}`, "1"},
		{"in a variable", `d := math.Abs((a - b))`, "1"},
		{"negated", `if !(math.Abs(got-want) <= tol) {}`, ""},
		{"negated, but above", `if !(math.Abs(got-want) > tol) {}`, "1"},
		{"the other side", `if !(math.Abs(want) <= math.Abs(got-want)) {}`, "1"},
		{"no difference", `if math.Abs(a) > math.Abs(-b) {}`, ""},
		{"another function", `if math.Sqrt(a-b) > tol {}`, ""},
	} {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "x.go", "package x; func f() { "+tt.source+" }", parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(bareDifferences(fset, file), "; "); got != tt.want {
			t.Errorf("%s: bareDifferences = %q, want %q", tt.name, got, tt.want)
		}
	}
}
