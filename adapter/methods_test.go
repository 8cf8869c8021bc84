package adapter

import (
	"slices"
	"testing"
)

// Every row of the table has what the rest of the package asks of a method, and is found by its name.
func TestEveryMethodIsWhole(t *testing.T) {
	if len(Methods()) != len(methods) {
		t.Fatalf("Methods() = %q, want %d", Methods(), len(methods))
	}
	for _, row := range methods {
		m := row.name
		if got, err := ParseMethod(string(m)); err != nil || got != m {
			t.Errorf("ParseMethod(%q) = %q, %v", m, got, err)
		}
		f, err := New(m, 6, 5, m.MinRank(), 3)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(m, 6, 5, m.MinRank()-1, 3); err == nil {
			t.Errorf("%s: rank %d is taken, below the smallest", m, m.MinRank()-1)
		}
		if nIn, nOut := f.Shape(); nIn != 6 || nOut != 5 || f.Rank() != m.MinRank() {
			t.Errorf("%s: shape [%d %d] and rank %d, want [6 5] and %d", m, nIn, nOut, f.Rank(), m.MinRank())
		}
		checkKind(t, row.kind, f)
	}
}

// checkKind: the factors of a method are those that its kind of file has, and are read as such.
func checkKind(t *testing.T, k *fileKind, f Factors) {
	t.Helper()
	if !slices.Contains(fileKinds, k) {
		t.Errorf("%s: files of type %q are not read", f.Method(), k.name)
	}
	if k.method != f.Method() {
		t.Errorf("%s is stored as %q, which is read as %s", f.Method(), k.name, k.method)
	}
	var mats []Mat
	for i, m := range f.Matrices() {
		if want := k.factors[i].suffix; m.Suffix != want {
			t.Errorf("%s: factor %d is %q, in the file %q", f.Method(), i, m.Suffix, want)
		}
		mats = append(mats, m.Mat)
	}
	if len(mats) != len(k.factors) {
		t.Fatalf("%s: %d factors, in the file %d", f.Method(), len(mats), len(k.factors))
	}
	if wrong := k.check(mats); wrong != "" {
		t.Errorf("%s: %s", f.Method(), wrong)
	}
	a := &Adapter{Weights: []Weight{{"w", f}}}
	if _, ok := f.(based); ok != k.needsBase || a.NeedsBase() != ok {
		t.Errorf("%s needs its base: %v, by the table %v", f.Method(), ok, k.needsBase)
	}
	if again := k.join(mats, f.alpha()); again.Method() != f.Method() || again.Scale() != f.Scale() || again.Rank() != f.Rank() {
		t.Errorf("%s came back as %s of scale %v and rank %d, want %v and %d", f.Method(), again.Method(), again.Scale(), again.Rank(), f.Scale(), f.Rank())
	}
	if m, ok := MethodOfFile(f.Method().FileType()); !ok || m != f.Method() {
		t.Errorf("MethodOfFile(%q) = %q, %v, want %s", f.Method().FileType(), m, ok, f.Method())
	}
}

func TestUnknownMethods(t *testing.T) {
	const want = `adapter: method "x": want "dual-lora", "lora", "rslora" or "dora"`
	if _, err := ParseMethod("x"); err == nil || err.Error() != want {
		t.Errorf("ParseMethod: %v, want %s", err, want)
	}
	if m := Method("x"); m.MinRank() != 0 || m.FileType() != "" {
		t.Errorf("least rank %d and type %q of a method that there is not", m.MinRank(), m.FileType())
	}
	if m, ok := MethodOfFile("ia3"); ok {
		t.Errorf("a file of type ia3 is read as %q", m)
	}
}

func TestShapesOfAFileAreCompared(t *testing.T) {
	mats := func(rank, m int) []Mat { return []Mat{NewMat(8, 2), NewMat(rank, 6), NewMat(m, 1)} }
	for _, c := range []struct {
		mats []Mat
		want string
	}{{mats(2, 6), ""}, {mats(3, 6), "dora_b is [3 6], want [2 n_out]"}, {mats(2, 5), "dora_m is [5 1], want [6 1]"},
		{[]Mat{NewMat(8, 2), NewMat(2, 6), NewMat(6, 2)}, "dora_m is [6 2], want [6 1]"}} {
		if got := doraKind.check(c.mats); got != c.want {
			t.Errorf("check = %q, want %q", got, c.want)
		}
	}
}

func TestQuoted(t *testing.T) {
	for _, c := range []struct {
		names []string
		want  string
	}{{nil, ""}, {[]string{"a"}, `"a"`}, {[]string{"a", "b"}, `"a" or "b"`}, {[]string{"a", "b", "c"}, `"a", "b" or "c"`}} {
		if got := quoted(c.names); got != c.want {
			t.Errorf("quoted(%q) = %s, want %s", c.names, got, c.want)
		}
	}
}
