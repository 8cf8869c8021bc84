//go:build faults

package kernels

// #cgo CXXFLAGS: -O0
// #include <stdlib.h>
// #include "fault.h"
import "C"

import "unsafe"

// Fault ends the process as native code can: "assert" (ggml's), "abort", "segv", "fpe", "illegal", "bad_alloc", "exception",
// "stack", "heap", and each of them behind "thread-" on a thread that Go does not know. It returns false for another kind. Only
// tests build it.
func Fault(kind string) bool {
	name := C.CString(kind)
	defer C.free(unsafe.Pointer(name))
	return bool(C.ft_fault(name))
}
