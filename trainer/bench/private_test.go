//go:build unix

package bench

import (
	"os"
	"path/filepath"
	"testing"
)

// The folder for models is the user's alone: what others may write into, and a link, are refused.
func TestPrivateDir(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir, err := privateDir()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v, want a folder that nobody else may enter", info.Mode(), err)
	}
	if again, err := privateDir(); again != dir || err != nil {
		t.Errorf("the second time %q, %v, want %q", again, err, dir)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := privateDir(); err == nil {
		t.Error("a folder that others may write into was taken")
	}
	elsewhere := filepath.Join(t.TempDir(), "mine")
	if err := os.Mkdir(elsewhere, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := privateDir(); err == nil {
		t.Error("a symbolic link was taken")
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 65534, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := privateDir(); err == nil {
		t.Error("somebody else's folder was taken")
	}
}
