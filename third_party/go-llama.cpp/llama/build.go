package llama

/*
#include "bridge.h"
#include "../ggml/release.h"
*/
import "C"

import (
	"strings"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// FastBuild reports whether the linked llama.cpp was compiled for the vector instructions that make it fast and that this
// processor has: AVX2 and FMA on amd64. hint says how to mend it, "" when there is nothing to mend.
func FastBuild() (ok bool, hint string) {
	const wanted = C.FL_AVX2 | C.FL_FMA
	if C.fl_cpu_features()&wanted != wanted || C.fl_compiled_features()&wanted == wanted {
		return true, ""
	}
	return false, "make llama builds a llama.cpp for this processor"
}

// Release is the release of the linked llama.cpp and the version and commit of its ggml: "0.5.0, ggml 0.25.3 0c1e57098".
func Release() string { return C.GoString(C.llama_version()) + ", ggml " + ggml.Version() }

// Backends names the backends in this build: "CPU".
func Backends() string {
	var names []string
	for i := C.size_t(0); i < C.ggml_backend_reg_count(); i++ {
		names = append(names, C.GoString(C.ggml_backend_reg_name(C.ggml_backend_reg_get(i))))
	}
	return strings.Join(names, ", ")
}

// BuildInfo is llama.cpp's line about the backends in this build and what they were compiled for.
func BuildInfo() string { return C.GoString(C.llama_print_system_info()) }
