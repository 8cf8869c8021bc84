package atomicfile

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"finetune/internal/need"
)

// leave makes the leftovers of a killed process, and files with names that only look alike.
func leave(t *testing.T, dir string) (others []string) {
	t.Helper()
	if !renamesOpen {
		need.Skip(t, need.System, "no locks that end with their process")
	}
	write := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".finetune-00000001.tmp", ".finetune-00000001-1.tmp", ".finetune-00000002-7.tmp"} {
		write(name)
	}
	if err := os.Mkdir(filepath.Join(dir, ".finetune-00000003.tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	write(".finetune-00000003.tmp/adapter_model.safetensors")
	others = []string{".finetune-0000001.tmp", ".finetune-notes.tmp", ".lock", "a.tmp"}
	for _, name := range others {
		write(name)
	}
	return others
}

func TestNextWriteRemovesLeftovers(t *testing.T) {
	for name, next := range map[string]func(path string) error{
		"Write":    func(path string) error { return Write(path, text("x")) },
		"WriteAll": func(path string) error { return WriteAll([]string{path}, func(int, io.Writer) error { return nil }) },
		"WriteDir": func(path string) error { return WriteDir(path, holding("f", "x")) },
		"Sweep":    func(path string) error { Sweep(filepath.Dir(path)); return Write(path, text("x")) },
	} {
		dir := t.TempDir()
		others := leave(t, dir)
		if err := next(filepath.Join(dir, "out")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		onlyFiles(t, dir, append(others, "out")...)
	}
}

// What another process writes, or this one, is no leftover: neither a file nor a folder, nor one of several.
func TestFilesInUseAreNotRemoved(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	amid := func() error {
		Sweep(dir)
		return Write(path("amid"), text("x"))
	}
	err := WriteAll([]string{path("a"), path("b"), path("c")}, func(i int, w io.Writer) error {
		if err := amid(); err != nil {
			return err
		}
		return text("abc"[i : i+1])(w)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = WriteDir(path("folder"), func(temp string) error {
		if err := amid(); err != nil {
			return err
		}
		return holding("f", "in it")(temp)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteDir(path("folder"), holding("f", "replaced")); err != nil {
		t.Fatal(err)
	}
	onlyFiles(t, dir, "a", "amid", "b", "c", "folder")
	for name, want := range map[string]string{"a": "a", "b": "b", "c": "c", "folder/f": "replaced"} {
		if got := read(t, path(name)); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
}

func TestScratch(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	if os.TempDir() != temp {
		need.Skip(t, need.System, "TMPDIR does not say where temporary files are")
	}
	dir, remove, err := Scratch()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("Scratch folder: %v, %v, want one for this user only", info.Mode(), err)
	}
	if err := Write(filepath.Join(dir, "file"), text("x")); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(temp, scratchPrefix+"123")
	for _, dir := range []string{dead, filepath.Join(temp, "finetune-bench")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	other, removeOther, err := Scratch()
	if err != nil {
		t.Fatal(err)
	}
	if renamesOpen {
		onlyFiles(t, temp, slices.Sorted(slices.Values([]string{"finetune-bench", filepath.Base(dir), filepath.Base(other)}))...)
	}
	remove()
	removeOther()
	if _, err := os.Stat(dir); err == nil {
		t.Error("the folder is there after remove")
	}
}

// A folder that was just made and not yet locked looks like a leftover to who sweeps at that moment: then another one is made.
func TestFoldersAreMadeWhileOthersSweep(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	if os.TempDir() != temp {
		need.Skip(t, need.System, "TMPDIR does not say where temporary files are")
	}
	const makers, folders = 8, 100
	var wg sync.WaitGroup
	for range makers {
		wg.Go(func() {
			for range folders {
				dir, remove, err := Scratch()
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(dir); err != nil {
					t.Error(err)
				}
				remove()
				dir, lock, err := createTempDir(temp)
				if err != nil {
					t.Error(err)
					return
				}
				os.Remove(dir)
				lock.Close()
			}
		})
	}
	wg.Wait()
}
