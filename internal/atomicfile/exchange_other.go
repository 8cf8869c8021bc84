//go:build !linux

package atomicfile

import "errors"

// exchange does nothing: the system's way of it is not known here.
func exchange(a, b string) error { return errors.ErrUnsupported }
