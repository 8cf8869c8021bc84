package atomicfile

import (
	"errors"
	"runtime"
	"syscall"
	"unsafe"
)

// exchange gives two files or folders each other's name, in one step; errors.ErrUnsupported where the system cannot.
func exchange(a, b string) error {
	number, ok := map[string]uintptr{"amd64": 316, "arm64": 276, "riscv64": 276, "loong64": 276}[runtime.GOARCH] // renameat2
	if !ok {
		return errors.ErrUnsupported
	}
	const currentFolder, renameExchange = ^uintptr(99), 2 // AT_FDCWD, RENAME_EXCHANGE
	from, err := syscall.BytePtrFromString(a)
	if err != nil {
		return err
	}
	to, err := syscall.BytePtrFromString(b)
	if err != nil {
		return err
	}
	_, _, failed := syscall.Syscall6(number, currentFolder, uintptr(unsafe.Pointer(from)), currentFolder, uintptr(unsafe.Pointer(to)), renameExchange, 0)
	switch failed {
	case 0:
		return nil
	case syscall.ENOSYS, syscall.EINVAL: // an old kernel, a file system that has no such thing
		return errors.ErrUnsupported
	}
	return failed
}
