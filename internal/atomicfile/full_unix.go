//go:build unix

package atomicfile

import (
	"errors"
	"syscall"
)

// IsFull reports whether an error says that there is no room for more: the disk is full, or the user has no right to more of
// it, or to a larger file.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
