//go:build unix

package bench

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"finetune/internal/hint"
)

// privateDir makes the folder for models of shapes, one for each user in the system's folder for temporary files, or takes it
// where it is there. One that is somebody else's, or that others may write into, is refused: they could put models there.
func privateDir() (string, error) {
	dir := filepath.Join(os.TempDir(), "finetune-bench-"+strconv.Itoa(os.Geteuid()))
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() || info.Mode()&(fs.ModeType|0o077) != fs.ModeDir {
		return "", hint.With(fmt.Errorf("bench: %q: want a folder of your own that nobody else may enter", dir), "--dir names another")
	}
	return dir, nil
}
