//go:build !unix

package atomicfile

import (
	"errors"
	"syscall"
)

// IsFull reports whether an error says that there is no room for more: the disk is full.
func IsFull(err error) bool {
	const errorHandleDiskFull, errorDiskFull = syscall.Errno(39), syscall.Errno(112) // of Windows
	return errors.Is(err, errorHandleDiskFull) || errors.Is(err, errorDiskFull)
}
