package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// Temporary names. Those of further files that are written together, in the same folder, have the first one's and a number:
// they are in use as long as the first is.
var (
	tempPattern    = regexp.MustCompile(`^(\.finetune-[0-9a-f]{8})(-[0-9]+)?\.tmp$`)
	scratchPattern = regexp.MustCompile(`^` + scratchPrefix + `[0-9]+$`)
)

// scratchPrefix begins the names of scratch folders.
const scratchPrefix = "finetune-scratch-"

// IsTemporary reports whether a file of this name is one that [Write] and its like have not given its own name yet.
func IsTemporary(name string) bool { return tempPattern.MatchString(name) }

// Sweep removes from a folder the temporary files and folders that processes have left which were killed: those whose lock
// nobody holds. [Write] and its like sweep the folder that they write into. What cannot be removed stays.
func Sweep(dir string) {
	for _, name := range names(dir) {
		parts := tempPattern.FindStringSubmatch(name)
		switch {
		case parts == nil:
		case parts[2] == "":
			sweep(filepath.Join(dir, name))
		default:
			first := filepath.Join(dir, parts[1]+".tmp")
			if _, err := os.Lstat(first); err != nil || sweep(first) {
				os.Remove(filepath.Join(dir, name))
			}
		}
	}
}

// names lists a folder, as far as it can be.
func names(dir string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	all, _ := d.Readdirnames(-1)
	return all
}

// sweep removes a file or a folder if nobody holds it, and reports whether it did.
func sweep(path string) bool {
	f := abandoned(path)
	if f == nil {
		return false
	}
	defer f.Close()
	return os.RemoveAll(path) == nil
}

// Scratch makes a folder for files that other code wants to read from a disk, which only this user may enter, in the
// system's folder for such things. remove removes it; where the process is killed before, the next Scratch of the user does.
func Scratch() (dir string, remove func(), err error) {
	temp := os.TempDir()
	for _, name := range names(temp) {
		if scratchPattern.MatchString(name) {
			sweep(filepath.Join(temp, name))
		}
	}
	for {
		dir, err := os.MkdirTemp(temp, scratchPrefix)
		if err != nil {
			return "", nil, err
		}
		lock, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // taken for a leftover already
		}
		if err != nil {
			os.RemoveAll(dir)
			return "", nil, err
		}
		if hold(lock) {
			return dir, func() {
				os.RemoveAll(dir)
				lock.Close()
			}, nil
		}
		lock.Close() // taken for a leftover
	}
}
