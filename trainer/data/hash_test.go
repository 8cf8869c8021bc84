package data

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestHashOfOneAndOfSeveralFiles: a file has the hash that any other program gives it, a folder that of its files' list.
func TestHashOfOneAndOfSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	list := ""
	for _, name := range []string{"a.txt", "b.jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("of "+name), 0o666); err != nil {
			t.Fatal(err)
		}
		list += fmt.Sprintf("sha256:%x\n", sha256.Sum256([]byte("of "+name)))
	}
	for paths, want := range map[string]string{
		filepath.Join(dir, "a.txt"): "of a.txt",
		dir:                         list,
		filepath.Join(dir, "*"):     list,
		filepath.Join(dir, "a.txt") + "\n" + filepath.Join(dir, "b.jsonl"): list,
	} {
		if got, err := Hash(paths); err != nil || got != fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(want))) {
			t.Errorf("Hash(%q) = %s, %v, want that of %q", paths, got, err, want)
		}
	}
	if _, err := Hash(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("of a file that is not there: %v", err)
	}
}
