//go:build !unix || solaris || aix

package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrLocked is the error of AcquireLock and TryLock when the lock file exists already.
var ErrLocked = errors.New("locked")

// AcquireLock is TryLock: what a killed process has left is not given back by waiting.
func AcquireLock(path string) (*os.File, error) { return TryLock(path) }

// TryLock creates the file path, which must not exist, with the number of
// this process in it. A killed process leaves it behind: where the system has
// no advisory lock, the user removes it.
func TryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	return f, err
}

// ReleaseLock closes and removes the file.
func ReleaseLock(f *os.File) error {
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
