//go:build !unix || solaris || aix

package trainer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// errLocked is acquireLock's error when the lock file is there already.
var errLocked = errors.New("locked")

// acquireLock creates the file path, which must not exist, with the number of
// this process in it. A killed process leaves it behind: where the system has
// no advisory lock, the user removes it.
func acquireLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil, errLocked
	}
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	return f, err
}

// releaseLock closes and removes the file.
func releaseLock(f *os.File) error {
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
