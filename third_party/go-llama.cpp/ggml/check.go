package ggml

/*
#include "abi.h"
#include "release.h"

// The fields of a tensor as the headers have them, after the library wrote them.
static bool ft_layout_ok(void) {
	struct ggml_init_params params = { 4 * ggml_tensor_overhead() + 1024, NULL, true };
	struct ggml_context *ctx = ggml_init(params);
	if (!ctx) return false;
	int64_t ne[4] = { 3, 5, 7, 11 };
	tensor a = ggml_new_tensor(ctx, GGML_TYPE_F16, 4, ne);
	ggml_set_name(a, "layout");
	tensor v = ggml_view_4d(ctx, a, 3, 5, 1, 1, a->nb[1], a->nb[2], a->nb[3], 6);
	ggml_set_output(v);
	tensor s = ggml_scale(ctx, a, 1.0f);
	bool ok = a->type == GGML_TYPE_F16 && a->ne[0] == 3 && a->ne[3] == 11 && a->nb[0] == 2 && a->nb[1] == 6 && a->nb[3] == 210 &&
		a->op == GGML_OP_NONE && a->name[0] == 'l' && a->name[5] == 't' && a->name[6] == 0 && a->data == NULL && a->buffer == NULL &&
		v->view_src == a && v->view_offs == 6 && v->src[0] == a && v->flags == GGML_TENSOR_FLAG_OUTPUT &&
		s->src[0] == a && s->op_params[0] == 0x3f800000 && s->src[GGML_MAX_SRC - 1] == NULL;
	ggml_free(ctx);
	return ok;
}
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"
)

// Version is the version of the linked ggml and the commit that it was built from: "0.25.3 0c1e57098".
func Version() string { return C.GoString(C.ggml_version()) + " " + C.GoString(C.ggml_commit()) }

// objectHeader is what a context stores before each tensor (struct ggml_object in ggml.c).
const objectHeader = 32

// Check compares the linked ggml with the headers that this package was compiled against: its version, the size and the
// fields of a tensor, the names of types and operations by their ids. Every constructor runs it first, so that a library of
// another release is an error and not a crash.
var Check = sync.OnceValue(func() error {
	if built := C.LLAMA_RELEASE_GGML; built != "" && built != Version() {
		return fmt.Errorf("ggml: the linked library is version %s, the program was compiled for %s: build it again", Version(), built)
	}
	if got, want := int(C.ggml_tensor_overhead()), objectHeader+int(unsafe.Sizeof(C.struct_ggml_tensor{})); got != want {
		return fmt.Errorf("ggml: the linked library keeps %d bytes a tensor, want %d: it is of another version", got, want)
	}
	if !bool(C.ft_layout_ok()) {
		return fmt.Errorf("ggml: the linked library lays out a tensor differently: it is of another version")
	}
	return checkNames()
})

// checkNames compares names by id: an operation or type that was added or removed shifts those behind it.
func checkNames() error {
	for t, want := range map[Type]string{F32: "f32", F16: "f16", C.GGML_TYPE_Q4_K: "q4_K", I64: "i64", BF16: "bf16", C.GGML_TYPE_NVFP4: "nvfp4"} {
		if got := t.String(); got != want {
			return fmt.Errorf("ggml: the linked library calls type %d %q, want %q: it is of another version", int32(t), got, want)
		}
	}
	for op, want := range map[C.enum_ggml_op]string{C.GGML_OP_NONE: "NONE", C.GGML_OP_MUL_MAT: "MUL_MAT", C.GGML_OP_SOFT_MAX: "SOFT_MAX",
		C.GGML_OP_UNARY: "UNARY", C.GGML_OP_CUSTOM: "CUSTOM", C.GGML_OP_GLU: "GLU"} {
		if got := C.GoString(C.ggml_op_name(op)); got != want {
			return fmt.Errorf("ggml: the linked library calls operation %d %q, want %q: it is of another version", int(op), got, want)
		}
	}
	return nil
}
