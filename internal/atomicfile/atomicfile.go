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
	"strings"
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
//
// A process that is killed leaves its temporary file, locked no longer: the next Write
// into the folder removes it, see [Sweep].
func Write(path string, write func(w io.Writer) error) error {
	return WriteAll([]string{path}, func(_ int, w io.Writer) error { return write(w) })
}

// WriteAll writes files that belong together, each as [Write] does: write is called for
// each of the paths in turn, with its index, and all are complete on the disk before
// the first gets its name. They get their names from the last to the first, so that who
// finds the first finds them all. No file system renames several files at once: where
// one of them cannot get its name, those that have it are removed again, and what they
// replaced is lost.
func WriteAll(paths []string, write func(i int, w io.Writer) error) error {
	var files []*pending
	defer func() { // also when write panics
		for _, p := range files {
			p.discard()
		}
	}()
	for i, path := range paths {
		var first *pending
		if i > 0 {
			first = files[0]
		}
		p, err := newPending(path, first, i)
		if err != nil {
			return err
		}
		files = append(files, p)
		if err := p.fill(func(w io.Writer) error { return write(i, w) }); err != nil {
			return err
		}
	}
	for i := range files {
		if err := files[len(files)-1-i].place(); err != nil {
			for _, p := range files[len(files)-i:] {
				err = errors.Join(err, os.Remove(p.path))
			}
			return err
		}
	}
	for _, p := range files {
		if err := syncDir(filepath.Dir(p.path)); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir puts the names in a folder on the disk, which a file that was renamed by somebody else's hand needs.
func SyncDir(dir string) error { return syncDir(dir) }

// Try reports why a folder takes no new file, nil if it does: it makes an empty one and removes it.
func Try(dir string) error {
	file, err := createTemp(dir)
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return path.Err // the name says nothing to anybody
	}
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// pending is a file that does not have its name yet.
type pending struct {
	path   string
	file   *os.File // under a temporary name
	member bool     // it is in use as long as another file is, which is held
	placed bool
}

// newPending makes file number i of those that are written together with the first one, nil for that itself.
func newPending(path string, first *pending, i int) (*pending, error) {
	path, old, err := target(path)
	if err != nil {
		return nil, err
	}
	p := &pending{path: path, member: first != nil && filepath.Dir(path) == filepath.Dir(first.path)}
	if p.member {
		p.file, err = create(fmt.Sprintf("%s-%d.tmp", strings.TrimSuffix(first.file.Name(), ".tmp"), i))
	} else {
		p.file, err = createTemp(filepath.Dir(path))
	}
	if err != nil {
		return nil, err
	}
	if old != nil {
		if err := p.file.Chmod(old.Mode().Perm()); err != nil {
			p.discard()
			return nil, err
		}
	}
	return p, nil
}

// fill writes and syncs the file, which stays open where its lock is needed until it has its name: many that are written
// together take one descriptor.
func (p *pending) fill(write func(io.Writer) error) error {
	w := bufio.NewWriterSize(p.file, 64<<10)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := p.file.Sync(); err != nil {
		return err
	}
	if p.member || !renamesOpen {
		return p.file.Close()
	}
	return nil
}

// place gives the file its name.
func (p *pending) place() error {
	err := os.Rename(p.file.Name(), p.path)
	p.placed = err == nil
	if p.placed {
		p.file.Close() // all of it was synced
	}
	return err
}

// discard removes the file unless it has its name.
func (p *pending) discard() {
	if !p.placed {
		p.file.Close()
		os.Remove(p.file.Name())
	}
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
		return "", nil, fmt.Errorf("%q: exists and is not a regular file", path)
	}
	return path, info, nil
}

// createTemp creates a hidden file in dir and takes its lock. Leftovers of others are removed first.
func createTemp(dir string) (*os.File, error) {
	Sweep(dir)
	for {
		file, err := create(tempName(dir))
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if hold(file) {
			return file, nil
		}
		file.Close() // taken for a leftover
	}
}

// create creates a file. Unlike os.CreateTemp it leaves the permissions to the umask, as for any other output.
func create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
}
