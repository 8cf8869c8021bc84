//go:build unix && !solaris && !aix

package atomicfile

import (
	"errors"
	"os"
	"syscall"
)

// renamesOpen says that a file can get another name while it is open.
const renamesOpen = true

// hold takes the lock of a temporary file or folder that was just made, which lasts until f is closed or the process has
// ended, however it ends. It returns false where another process has taken it for a leftover, and is about to remove it. On
// file systems without such locks there is none, and nothing is removed there.
func hold(f *os.File) bool {
	err := flock(f)
	return !errors.Is(err, syscall.EWOULDBLOCK) && named(f)
}

// abandoned opens what is at path and takes its lock. It returns nil where a process still holds it, and where that cannot be
// told.
func abandoned(path string) *os.File {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	if flock(f) != nil || !named(f) {
		f.Close()
		return nil
	}
	return f
}

// flock locks f without waiting.
func flock(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// named reports whether f still has its name.
func named(f *os.File) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(open, there)
}
