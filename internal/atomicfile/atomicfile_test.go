package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/internal/need"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// onlyFiles checks that dir holds the named files and nothing else, so no remains.
func onlyFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("folder holds %q, want %q", got, want)
	}
}

func TestWriteCreatesAndReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	for _, want := range []string{"first", "second, longer", "3"} {
		if err := Write(path, text(want)); err != nil {
			t.Fatalf("Write(%q) = %v, want no error", want, err)
		}
		if got := read(t, path); got != want {
			t.Errorf("file holds %q, want %q", got, want)
		}
	}
	onlyFiles(t, dir, "out")
}

func TestWriteFailureLeavesOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	if err := Write(path, text("old")); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("no more data")
	err := Write(path, func(w io.Writer) error {
		io.WriteString(w, strings.Repeat("new", 1<<16))
		return cause
	})
	if !errors.Is(err, cause) {
		t.Errorf("Write = %v, want %v", err, cause)
	}
	if got := read(t, path); got != "old" {
		t.Errorf("file holds %q, want %q", got, "old")
	}
	onlyFiles(t, dir, "out")
}

func TestWritePanicLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	defer func() {
		if recover() == nil {
			t.Error("Write swallowed the panic of its callback")
		}
		onlyFiles(t, dir)
	}()
	Write(filepath.Join(dir, "out"), func(io.Writer) error { panic("in the callback") })
}

func TestWriteKeepsPermissionsAndLinks(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := os.WriteFile(real, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", link); err != nil {
		need.Skip(t, need.System, "no symbolic links: "+err.Error())
	}
	if err := Write(link, text("new")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(real)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode(); got != 0o640 {
		t.Errorf("mode = %v, want %v", got, os.FileMode(0o640))
	}
	if got := read(t, real); got != "new" {
		t.Errorf("linked file holds %q, want %q", got, "new")
	}
	if to, err := os.Readlink(link); err != nil || to != "real" {
		t.Errorf("Readlink = %q, %v, want %q", to, err, "real")
	}
}

func TestWriteRefusesFolder(t *testing.T) {
	dir := t.TempDir()
	called := false
	err := Write(dir, func(io.Writer) error { called = true; return nil })
	if err == nil || called {
		t.Errorf("Write(folder) = %v, callback called: %v; want an error before any work", err, called)
	}
}

func TestWriteNeedsFolder(t *testing.T) {
	err := Write(filepath.Join(t.TempDir(), "none", "out"), text("x"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Write = %v, want %v", err, os.ErrNotExist)
	}
}

func TestWriteAllTogetherOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")}
	write := func(i int, w io.Writer) error { return text(strings.Repeat("x", i+1))(w) }
	cause := errors.New("no more data")
	err := WriteAll(paths, func(i int, w io.Writer) error {
		if i == 2 {
			onlyTemporary(t, dir)
			return cause
		}
		return write(i, w)
	})
	if !errors.Is(err, cause) {
		t.Errorf("WriteAll = %v, want %v", err, cause)
	}
	onlyFiles(t, dir)
	if err := WriteAll(paths, write); err != nil {
		t.Fatal(err)
	}
	onlyFiles(t, dir, "a", "b", "c")
	if got := read(t, paths[2]); got != "xxx" {
		t.Errorf("c holds %q, want xxx", got)
	}
}

// onlyTemporary checks that no file has its name yet.
func onlyTemporary(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatalf("folder holds %v, %v, want temporary files", entries, err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".finetune-") {
			t.Errorf("%q has its name before all are written", e.Name())
		}
	}
}

func TestWriteAllTakesNamesBack(t *testing.T) {
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")}
	err := WriteAll(paths, func(i int, w io.Writer) error {
		if i == 2 { // what cannot be renamed over appears when all checks are done
			if err := os.MkdirAll(filepath.Join(paths[1], "full"), 0o777); err != nil {
				t.Fatal(err)
			}
		}
		return text("x")(w)
	})
	if err == nil {
		t.Error("WriteAll = nil with a folder in the way")
	}
	onlyFiles(t, dir, "b")
}
