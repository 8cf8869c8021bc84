//go:build !unix

package bench

import (
	"os"
	"path/filepath"
)

// privateDir makes the folder for models of shapes, in the user's own folder for temporary files.
func privateDir() (string, error) {
	dir := filepath.Join(os.TempDir(), "finetune-bench")
	return dir, os.MkdirAll(dir, 0o700)
}
