package llama

// #include "bridge.h"
import "C"

// FastBuild reports whether the native code was compiled for the vector instructions that make it fast and that this
// processor has: AVX2 and FMA on amd64. cgo by itself compiles for the oldest amd64, some twenty times slower. hint says how
// to mend it, "" when there is nothing to mend.
func FastBuild() (ok bool, hint string) {
	const wanted = C.FL_AVX2 | C.FL_FMA
	compiled, cpu := C.fl_compiled_features(), C.fl_cpu_features()
	if compiled&C.FL_X86 == 0 || cpu&wanted != wanted || compiled&wanted == wanted {
		return true, ""
	}
	level := "x86-64-v3"
	if cpu&C.FL_AVX512 != 0 {
		level = "x86-64-v4"
	}
	return false, `build with CGO_CFLAGS="-O3 -march=` + level + `" CGO_CXXFLAGS="-O3 -march=` + level + `"`
}

// BuildInfo returns llama.cpp's line about the backends in this build and what they were compiled for.
func BuildInfo() string { return C.GoString(C.llama_print_system_info()) }
