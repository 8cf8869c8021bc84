package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A module with a test that ends in every way: its last lines, and what else is printed.
func TestRunOfAModule(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "go.mod", "module m\n\ngo 1.24\n")
	write(t, dir, "good/good_test.go", `package good
import ("testing"; "fmt")
func TestGood(t *testing.T) { fmt.Println("not shown"); t.Log("not shown") }
func TestApp(t *testing.T) { t.Skipf("needs %s: %s", "app", "no node") }
func TestMore(t *testing.T) {
	for _, why := range []string{"no node", "no python3"} {
		t.Run("x", func(t *testing.T) { t.Skipf("needs app: %s", why) })
	}
}
func TestData(t *testing.T) { t.Run("big", func(t *testing.T) { t.Skip("needs shared data: no ../shared/data") }) }
`)
	s, out := &summary{}, &bytes.Buffer{}
	s.out = out
	if err := s.run(dir, []string{"test", "-json", "./..."}); err != nil {
		t.Fatal(err)
	}
	if !s.close(true) {
		t.Error("close = false, want true: all is well")
	}
	const end = `tests: 3 passed, 0 failed, 4 skipped
skipped: 3 for want of app (no node; no python3), 1 for want of shared data (no ../shared/data)
`
	if text := out.String(); !strings.HasPrefix(text, "ok  \tm/good\t") || !strings.HasSuffix(text, end) || strings.Contains(text, "not shown") {
		t.Errorf("printed %q, want go test's line, then %q", text, end)
	}

	write(t, dir, "bad/bad_test.go", `package bad
import "testing"
func TestBad(t *testing.T) { t.Run("sub", func(t *testing.T) { t.Error("wrong") }) }
func TestSilent(t *testing.T) { t.Skip("no reason that is known") }
`)
	write(t, dir, "broken/broken_test.go", "package broken\nvar x = y\n")
	out.Reset()
	if err := s.run(dir, []string{"test", "-json", "./..."}); err != nil {
		t.Fatal(err)
	}
	if s.close(false) {
		t.Error("close = true, want false: a test has failed")
	}
	for _, want := range []string{"bad_test.go:3: wrong\n", "--- FAIL: TestBad", "FAIL\tm/bad", "undefined: y", "FAIL\tm/broken",
		"1 for want of unknown (TestSilent in m/bad: no reason that is known)\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("printed %q, want %q in it", out, want)
		}
	}
}

// Tests that never end are told of, and the reason of a skip is found wherever it stands.
func TestReadOfEvents(t *testing.T) {
	s, out := &summary{}, &bytes.Buffer{}
	s.out = out
	err := s.read(strings.NewReader(`{"Action":"run","Package":"p","Test":"T"}
{"Action":"output","Package":"p","Test":"T","Output":"=== RUN   T\n"}
{"Action":"output","Package":"p","Test":"T","Output":"panic: at the disco\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
`))
	if want := "panic: at the disco\nFAIL\tp\t0.1s\n"; err != nil || out.String() != want {
		t.Errorf("printed %q, %v, want %q", out, err, want)
	}
	if s.close(false) {
		t.Error("close = true, want false: a package has failed")
	}
	for output, want := range map[string][2]string{
		"    a_test.go:1: a note\n    b_test.go:2: needs emulator: no qemu\n--- SKIP: T (0.00s)\n": {"emulator", "no qemu"},
		"    need.go:101: needs shared data: no ../shared/data\n--- SKIP: T/base (0.00s)\n":        {"shared data", "no ../shared/data"},
		"    script.go:3: too long\n--- SKIP: T (0.00s)\n":                                         {unknown, "too long"},
		"--- SKIP: T (0.00s)\n": {unknown, "no reason given"},
	} {
		if kind, why := reason(output); kind != want[0] || why != want[1] {
			t.Errorf("reason(%q) = %q, %q, want %q", output, kind, why, want)
		}
	}
	if err := s.read(strings.NewReader("no JSON")); err == nil {
		t.Error("read of what is no JSON: no error")
	}
}

// A skip that does not say what it needs is a failure where none is wanted.
func TestStrict(t *testing.T) {
	for _, strict := range []bool{false, true} {
		s := &summary{out: &bytes.Buffer{}}
		s.add(event{Action: "skip", Package: "p", Test: "T"})
		if got := s.close(strict); got == strict {
			t.Errorf("close(%v) = %v after a skip without a reason", strict, got)
		}
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}
