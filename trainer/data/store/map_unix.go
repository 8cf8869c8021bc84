//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package store

import (
	"errors"
	"math"
	"os"
	"syscall"
)

// Map is a file, or a part of one, in memory.
type Map struct {
	Bytes  []byte // not to be changed
	mapped bool
}

// newMap maps the first size bytes of a file. The mapping outlives the closing of the file.
func newMap(f *os.File, size int64) (Map, error) {
	switch {
	case size == 0:
		return Map{}, nil
	case size > math.MaxInt:
		return Map{}, errors.ErrUnsupported
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return Map{}, &os.PathError{Op: "map", Path: f.Name(), Err: err}
	}
	return Map{b, true}, nil
}

// Close ends the mapping: its bytes are not to be read any more.
func (m Map) Close() error {
	if !m.mapped {
		return nil
	}
	return syscall.Munmap(m.Bytes)
}

// Mapped reports whether the bytes are pages of a file, which the system can take back, and not memory of the process.
func (m Map) Mapped() bool { return m.mapped }
