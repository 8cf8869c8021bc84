// Package output says what a command may write: a result never takes the place of
// what it is made of, and of another file only when that is asked for.
package output

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"finetune/internal/atomicfile"
	"finetune/internal/hint"
)

// Target is a file or folder that is about to be written.
type Target struct {
	Path   string
	Folder bool     // the result is a folder
	Force  bool     // what is there may be replaced
	Inputs []string // files that are read, and folders whose files are; those that are not there, and empty names, are left out
	Runs   []string // run directories that are read: nothing new is put into them either
}

// Check reports why the target must not be written, nil if it may. It is refused when
// it is one of the inputs, under whatever name (a symbolic or a hard link), or a file in
// a folder that is one, or lies in a run directory that is read; when something is there
// and Force does not say to replace it; when that is of another kind, such as a folder
// or a device; when it is a symbolic link to nothing; and when nothing can be written into
// its folder, which is tried. Nothing is changed.
//
// What other processes do between Check and the writing is not seen.
func (t Target) Check() error {
	there, err := t.stat()
	if err != nil {
		return err
	}
	for _, dir := range t.Runs {
		if folder, err := os.Stat(dir); err == nil && folder.IsDir() && inside(t.Path, folder) {
			return hint.With(fmt.Errorf("%q: lies in the run directory %q, which is read", t.Path, dir), "choose an --out elsewhere")
		}
	}
	for _, input := range slices.Concat(t.Inputs, t.Runs) {
		if err := t.apartFrom(input, there); err != nil {
			return err
		}
	}
	switch {
	case there == nil:
		return t.writable()
	case t.Folder && !there.IsDir():
		return fmt.Errorf("%q: exists and is not a folder", t.Path)
	case !t.Folder && !there.Mode().IsRegular():
		return fmt.Errorf("%q: exists and is not a file", t.Path)
	case !t.Force:
		return hint.With(fmt.Errorf("%q: exists already", t.Path), "--force replaces it")
	}
	return t.writable()
}

// writable refuses a target whose folder is not there, or takes no new file: before the work, not after it.
func (t Target) writable() error {
	path := filepath.Clean(t.Path)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%q: the folder %q is not there", t.Path, dir)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%q: %q is no folder", t.Path, dir)
	}
	if err := atomicfile.Try(dir); err != nil {
		return fmt.Errorf("%q: nothing can be written into its folder: %w", t.Path, err)
	}
	return nil
}

// stat returns what is there, nil for nothing.
func (t Target) stat() (fs.FileInfo, error) {
	there, err := os.Stat(t.Path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return there, err
	}
	if to, err := os.Readlink(t.Path); err == nil {
		return nil, fmt.Errorf("%q: a symbolic link to %q, which is not there", t.Path, to)
	}
	return nil, nil
}

// apartFrom refuses to replace the input, or a file in it.
func (t Target) apartFrom(input string, there fs.FileInfo) error {
	if input == "" || there == nil {
		return nil
	}
	source, err := os.Stat(input)
	switch {
	case err != nil:
		return nil // who reads it says what is wrong
	case os.SameFile(there, source):
		return replaced(input)
	case !source.IsDir() || there.IsDir():
		return nil
	}
	return filepath.WalkDir(input, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // what cannot be listed cannot be read either
		}
		if info, err := os.Stat(path); err == nil && os.SameFile(there, info) {
			return replaced(path)
		}
		return nil
	})
}

func replaced(input string) error {
	return fmt.Errorf("%q: would be replaced by what is made of it", input)
}

// inside reports whether path lies in the folder, at any depth and whatever it is called on the way.
func inside(path string, folder fs.FileInfo) bool {
	path, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && os.SameFile(info, folder) {
			return true
		}
		if dir == filepath.Dir(dir) {
			return false
		}
	}
}
