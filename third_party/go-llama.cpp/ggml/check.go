package ggml

/*
#include "abi.h"

// The fields of a tensor as this package sees them, after the library wrote them.
static bool ft_layout_ok(void) {
	struct ggml_init_params params = { 4 * ggml_tensor_overhead() + 1024, NULL, true };
	ggml_object ctx = ggml_init(params);
	if (!ctx) return false;
	int64_t ne[4] = { 3, 5, 7, 11 };
	tensor a = ggml_new_tensor(ctx, 1, 4, ne);
	ggml_set_name(a, "layout");
	tensor v = ggml_view_4d(ctx, a, 3, 5, 1, 1, a->nb[1], a->nb[2], a->nb[3], 6);
	ggml_set_output(v);
	tensor s = ggml_scale(ctx, a, 1.0f);
	bool ok = a->type == 1 && a->ne[0] == 3 && a->ne[3] == 11 && a->nb[0] == 2 && a->nb[1] == 6 && a->nb[3] == 210 &&
		a->op == 0 && a->name[0] == 'l' && a->name[5] == 't' && a->name[6] == 0 && a->data == NULL && a->buffer == NULL &&
		v->view_src == a && v->view_offs == 6 && v->src[0] == a && v->flags == FT_FLAG_OUTPUT &&
		s->src[0] == a && s->op_params[0] == 0x3f800000 && s->src[FT_MAX_SRC - 1] == NULL;
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

// objectHeader is what a context stores before each tensor (struct ggml_object in ggml.c).
const objectHeader = 32

// Check compares the linked ggml with what this package was written against: the size and the fields of a tensor, the
// ids of the types it names. Every constructor runs it first, so that a different library is an error and not a crash.
var Check = sync.OnceValue(func() error {
	if got, want := int(C.ggml_tensor_overhead()), objectHeader+int(unsafe.Sizeof(C.struct_ggml_tensor{})); got != want {
		return fmt.Errorf("ggml: the linked library keeps %d bytes a tensor, want %d: it is of another version", got, want)
	}
	if !bool(C.ft_layout_ok()) {
		return fmt.Errorf("ggml: the linked library lays out a tensor differently: it is of another version")
	}
	for t, want := range map[Type]string{F32: "f32", F16: "f16", I32: "i32", I64: "i64", BF16: "bf16"} {
		if got := t.String(); got != want {
			return fmt.Errorf("ggml: the linked library calls type %d %q, want %q: it is of another version", int32(t), got, want)
		}
	}
	return nil
})
