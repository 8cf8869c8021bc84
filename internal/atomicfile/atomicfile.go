// Package atomicfile writes files and folders that appear whole or not at all.
package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write creates the file path with what write puts into w, or replaces it. The bytes
// go to a temporary name in the same folder, are synced to the disk, and get their
// name last, so that a reader, a crash or a full disk never meets half a file. When
// anything fails, write included, the temporary file is removed and path is as it
// was. Errors of write pass through untouched.
//
// A replaced file keeps its permissions; a symbolic link keeps pointing, and the file
// it points to is replaced. What is there and no regular file, such as a folder or a
// device, is refused. w is buffered and is not to be used after write has returned.
func Write(path string, write func(w io.Writer) error) error {
	path, old, err := target(path)
	if err != nil {
		return err
	}
	file, err := createTemp(filepath.Dir(path))
	if err != nil {
		return err
	}
	done := false
	defer func() { // also when write panics
		if !done {
			file.Close()
			os.Remove(file.Name())
		}
	}()
	if old != nil {
		if err := file.Chmod(old.Mode().Perm()); err != nil {
			return err
		}
	}
	if err := fill(file, write); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	done = true
	return syncDir(filepath.Dir(path))
}

// target follows path to the file that it names, and returns what is known of that
// file, nil if it is not there yet.
func target(path string) (string, fs.FileInfo, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil, nil
	case err != nil:
		return "", nil, err
	case !info.Mode().IsRegular():
		return "", nil, fmt.Errorf("%q: is there and is no regular file", path)
	}
	return path, info, nil
}

// createTemp creates a hidden file in dir. Unlike os.CreateTemp it leaves the
// permissions to the umask, as for any other output.
func createTemp(dir string) (*os.File, error) {
	for {
		file, err := os.OpenFile(tempName(dir), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, fs.ErrExist) {
			return file, err
		}
	}
}

// fill writes, syncs and closes the file.
func fill(file *os.File, write func(io.Writer) error) error {
	w := bufio.NewWriterSize(file, 64<<10)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return file.Close()
}
