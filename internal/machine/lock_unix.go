//go:build unix && !solaris && !aix

package machine

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// ErrLocked is the error of AcquireLock and TryLock when another process holds the lock.
var ErrLocked = errors.New("locked")

// patience is how long AcquireLock waits for a holder that is about to end: who has killed a program begins the next at
// once, while the system is still taking the memory of its worker apart.
const patience = 2 * time.Second

// AcquireLock is TryLock, but waits a little for a holder that is about to end.
func AcquireLock(path string) (*os.File, error) {
	for begin := time.Now(); ; time.Sleep(patience / 100) {
		f, err := TryLock(path)
		if err != ErrLocked || time.Since(begin) >= patience {
			return f, err
		}
	}
}

// TryLock takes an exclusive advisory lock on the file path, which it
// creates and which then holds the number of this process. The system drops
// the lock when the process ends, however it ends.
func TryLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, err
		}
		if err := flock(f); err != nil {
			f.Close()
			return nil, err
		}
		if sameFile(f, path) {
			return f, writePID(f)
		}
		f.Close() // its holder removed it between our open and our lock
	}
}

// flock locks f without waiting.
func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch err {
		case nil:
			return nil
		case syscall.EINTR:
			continue
		case syscall.EWOULDBLOCK:
			return ErrLocked
		}
		return fmt.Errorf("lock %q: %w", f.Name(), err)
	}
}

// sameFile reports whether path still names the open file.
func sameFile(f *os.File, path string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(open, named)
}

// writePID replaces the content of f with the number of this process.
func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(f, "%d\n", os.Getpid())
	return err
}

// ReleaseLock removes the file while it is still locked, so that nobody can
// take a lock on a name that is about to go, then closes it.
func ReleaseLock(f *os.File) error {
	return errors.Join(os.Remove(f.Name()), f.Close())
}
