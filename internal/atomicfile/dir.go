package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// WriteDir creates the folder path with what fill puts into the folder that it is
// given, or replaces it: like [Write], under a temporary name beside it that becomes
// path last. When anything fails, fill included, nothing is left and an old folder is
// as it was. Errors of fill pass through untouched.
//
// A symbolic link keeps pointing, and the folder it points to is replaced, whatever
// it holds. What is there and no folder is refused. fill is to write its files with
// [Write], which syncs them.
func WriteDir(path string, fill func(dir string) error) error {
	path, old, err := targetDir(path)
	if err != nil {
		return err
	}
	temp, lock, err := createTempDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { // also when fill panics; when all went well the folder is gone, or is the old one
		os.RemoveAll(temp)
		lock.Close()
	}()
	if old != nil {
		if err := os.Chmod(temp, old.Mode().Perm()); err != nil {
			return err
		}
	}
	if err := fill(temp); err != nil {
		return err
	}
	if err := replaceDir(temp, path, old != nil); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// targetDir follows path to the folder that it names, and returns what is known of
// that folder, nil if it is not there yet.
func targetDir(path string) (string, fs.FileInfo, error) {
	path = filepath.Clean(path) // without a slash at its end
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil, nil
	case err != nil:
		return "", nil, err
	case !info.IsDir():
		return "", nil, fmt.Errorf("%q: exists and is not a folder", path)
	}
	return path, info, nil
}

// createTempDir creates a hidden folder in parent and takes its lock. Leftovers of others are removed first.
func createTempDir(parent string) (dir string, lock *os.File, err error) {
	Sweep(parent)
	for {
		dir := tempName(parent)
		if err := os.Mkdir(dir, 0o777); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return "", nil, err
		}
		lock, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // taken for a leftover already
		}
		if err != nil {
			return "", nil, errors.Join(err, os.Remove(dir))
		}
		if hold(lock) {
			if !renamesOpen {
				lock.Close()
			}
			return dir, lock, nil
		}
		lock.Close() // taken for a leftover
	}
}

// tempName returns a hidden name in dir that most likely is free.
func tempName(dir string) string {
	return filepath.Join(dir, fmt.Sprintf(".finetune-%08x.tmp", rand.Uint32()))
}

// replaceDir gives the folder its name, and an old one the temporary name: in one step where the system can. Elsewhere a
// folder that holds something cannot be renamed over, so the old one steps aside, and comes back if that was in vain.
func replaceDir(temp, path string, exists bool) error {
	if !exists {
		return os.Rename(temp, path)
	}
	if err := exchange(temp, path); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	aside := tempName(filepath.Dir(path))
	if err := os.Rename(path, aside); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Rename(aside, path))
	}
	return os.RemoveAll(aside)
}
