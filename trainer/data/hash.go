package data

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// Hash returns "sha256:" and the 64 digits of the hash of a file's bytes; of several files, as they are named in c.Data of a run, of
// the list of these. Errors are *fs.PathError, *FormatError and *UnsupportedError.
func Hash(paths string) (string, error) {
	files, err := expand(paths)
	if err != nil {
		return "", err
	}
	all := sha256.New()
	for _, path := range files {
		one, err := hashOf(path)
		if err != nil || len(files) == 1 {
			return one, err
		}
		fmt.Fprintln(all, one)
	}
	return "sha256:" + hex.EncodeToString(all.Sum(nil)), nil
}

func hashOf(path string) (string, error) {
	var r io.Reader
	var err error
	if path == stdin {
		r, err = openStdin(nil)
	} else {
		f, e := openFile(path)
		if e != nil {
			return "", e
		}
		defer f.Close()
		r = f
	}
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
