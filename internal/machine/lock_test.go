//go:build unix && !solaris && !aix

package machine

import (
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func TestLockIsWaitedForWhileItsHolderEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := AcquireLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := AcquireLock(path); !errors.Is(err, ErrLocked) {
		t.Fatalf("AcquireLock of a lock that is held = %v, %v, want %v", f, err, ErrLocked)
	}
	time.AfterFunc(patience/10, func() { ReleaseLock(held) })
	f, err := AcquireLock(path)
	if err != nil {
		t.Fatalf("AcquireLock of a lock that is given back soon: %v", err)
	}
	if err := ReleaseLock(f); err != nil {
		t.Error(err)
	}
}
