package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"finetune/internal/need"
)

// holding returns a fill for a folder with one file.
func holding(name, content string) func(string) error {
	return func(dir string) error { return Write(filepath.Join(dir, name), text(content)) }
}

func TestWriteDirCreatesAndReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	for _, name := range []string{"a", "b", "c"} {
		if err := WriteDir(path+string(filepath.Separator), holding(name, "in "+name)); err != nil {
			t.Fatalf("WriteDir(%q) = %v, want no error", name, err)
		}
		onlyFiles(t, path, name)
		if got := read(t, filepath.Join(path, name)); got != "in "+name {
			t.Errorf("file holds %q, want %q", got, "in "+name)
		}
	}
	onlyFiles(t, dir, "out")
}

func TestWriteDirFailureLeavesOldFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	if err := WriteDir(path, holding("old", "x")); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("no more data")
	err := WriteDir(path, func(dir string) error {
		return errors.Join(holding("new", "y")(dir), cause)
	})
	if !errors.Is(err, cause) {
		t.Errorf("WriteDir = %v, want %v", err, cause)
	}
	onlyFiles(t, path, "old")
	onlyFiles(t, dir, "out")
}

func TestWriteDirFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := WriteDir(filepath.Join(dir, "out"), func(string) error { return os.ErrInvalid }); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("WriteDir = %v, want %v", err, os.ErrInvalid)
	}
	defer func() {
		if recover() == nil {
			t.Error("WriteDir swallowed the panic of its callback")
		}
		onlyFiles(t, dir)
	}()
	WriteDir(filepath.Join(dir, "out"), func(string) error { panic("in the callback") })
}

func TestWriteDirKeepsLinks(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := os.Mkdir(real, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", link); err != nil {
		need.Skip(t, need.System, "no symbolic links: "+err.Error())
	}
	if err := WriteDir(link, holding("a", "x")); err != nil {
		t.Fatal(err)
	}
	onlyFiles(t, real, "a")
	info, err := os.Lstat(real)
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("mode = %v, %v, want %v", info.Mode(), err, os.FileMode(0o750))
	}
	onlyFiles(t, dir, "link", "real")
}

func TestWriteDirRefusesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	called := false
	err := WriteDir(path, func(string) error { called = true; return nil })
	if err == nil || called {
		t.Errorf("WriteDir(file) = %v, callback called: %v; want an error before any work", err, called)
	}
}
