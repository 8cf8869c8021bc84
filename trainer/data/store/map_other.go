//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package store

import "os"

// Map is a file in memory.
type Map struct {
	Bytes []byte // not to be changed
}

// newMap reads the first size bytes of a file, where the standard library cannot map them.
func newMap(f *os.File, size int64) (Map, error) {
	b := make([]byte, size)
	_, err := f.ReadAt(b, 0)
	return Map{b}, err
}

// Close gives the bytes up.
func (m Map) Close() error { return nil }

// Mapped reports whether the bytes are pages of a file, which the system can take back, and not memory of the process.
func (m Map) Mapped() bool { return false }
