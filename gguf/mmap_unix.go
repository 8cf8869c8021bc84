//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package gguf

import (
	"errors"
	"math"
	"os"
	"syscall"
)

// mapFile maps size bytes of a file read-only. The mapping outlives the closing of
// file and ends with unmap.
func mapFile(file *os.File, size int64) (data []byte, unmap func() error, err error) {
	if size == 0 || size > math.MaxInt {
		return nil, nil, errors.ErrUnsupported
	}
	data, err = syscall.Mmap(int(file.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	return data, func() error { return syscall.Munmap(data) }, err
}
