package llama

// #include "bridge.h"
import "C"

import "github.com/go-skynet/go-llama.cpp/ggml"

// FastBuild reports whether the linked llama.cpp was compiled for the vector instructions that make it fast and that this
// processor has: AVX2 and FMA on amd64. hint says how to mend it, "" when there is nothing to mend.
func FastBuild() (ok bool, hint string) {
	const wanted = C.FL_AVX2 | C.FL_FMA
	if C.fl_cpu_features()&wanted != wanted || C.fl_compiled_features()&wanted == wanted {
		return true, ""
	}
	return false, "make llama builds a llama.cpp for this processor"
}

// Release returns the release of the linked llama.cpp and the version and commit of its ggml: "0.5.0, ggml 0.25.3 0c1e57098".
func Release() string { return C.GoString(C.llama_version()) + ", ggml " + ggml.Version() }

// BuildInfo returns llama.cpp's line about the backends in this build and what they were compiled for.
func BuildInfo() string { return C.GoString(C.llama_print_system_info()) }
