package llama

// #include "bridge.h"
import "C"

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Check compares the linked llama.cpp with what this package was written against: the sizes of the structs that cross the
// border by value, well-known defaults at the places where we expect the fields, the names of types and operations. A
// different library is an *Error instead of a crash later. LoadModel calls it; it does its work once.
var Check = sync.OnceValue(func() error {
	C.llama_backend_init()
	if err := ggml.Check(); err != nil {
		return err
	}
	for _, check := range []func() string{checkSizes, checkModelDefaults, checkContextDefaults, checkNames} {
		if msg := check(); msg != "" {
			return errorf("check", "%s: the linked llama.cpp is of another version", msg)
		}
	}
	return nil
})

// checkSizes compares what the library writes for its default parameters with our structs. It may leave the padding
// behind the last field unwritten.
func checkSizes() string {
	var mp C.struct_llama_model_params
	var cp C.struct_llama_context_params
	var qp C.struct_llama_model_quantize_params
	for _, s := range []struct {
		name          string
		got, min, max uintptr
	}{
		{"llama_model_params", uintptr(C.fl_written_model_params()), unsafe.Offsetof(mp.no_alloc) + 1, unsafe.Sizeof(mp)},
		{"llama_context_params", uintptr(C.fl_written_context_params()), unsafe.Offsetof(cp.kv_unified) + 1, unsafe.Sizeof(cp)},
		{"llama_model_quantize_params", uintptr(C.fl_written_quantize_params()), unsafe.Offsetof(qp.prune_layers) + unsafe.Sizeof(qp.prune_layers), unsafe.Sizeof(qp)},
	} {
		if s.got < s.min || s.got > s.max {
			return fmt.Sprintf("%s takes %d bytes, want %d", s.name, s.got, s.max)
		}
	}
	return ""
}

func checkModelDefaults() string {
	p := C.llama_model_default_params()
	// the number of layers by default means all of them: 999 or, in newer versions, -1
	layers := p.n_gpu_layers == 999 || p.n_gpu_layers == -1
	nothing := p.devices == nil && p.tensor_buft_overrides == nil && p.tensor_split == nil && p.kv_overrides == nil
	if !layers || !nothing || !bool(p.use_mmap) || bool(p.vocab_only) || bool(p.check_tensors) || !bool(p.use_extra_bufts) {
		return "llama_model_params has unexpected defaults"
	}
	if C.llama_max_devices() == 0 {
		return "llama_max_devices is 0"
	}
	return ""
}

func checkContextDefaults() string {
	p := C.llama_context_default_params()
	sizes := p.n_ctx == 512 && p.n_batch == 2048 && p.n_ubatch == 512 && p.n_seq_max == 1 && p.n_threads > 0
	types := ggml.Type(p.type_k) == ggml.F16 && ggml.Type(p.type_v) == ggml.F16 && p.flash_attn_type == -1
	rope := p.rope_freq_base == 0 && p.rope_freq_scale == 0
	if !sizes || !types || !rope || bool(p.embeddings) || !bool(p.offload_kqv) || p.cb_eval != nil || p.abort_callback != nil {
		return "llama_context_params has unexpected defaults"
	}
	return ""
}

// operations are ids of enum ggml_op, spread over the list.
var operations = map[C.int]string{
	0: "NONE", 2: "ADD", 7: "MUL", 20: "REPEAT", 25: "RMS_NORM", 29: "MUL_MAT", 32: "SCALE", 35: "CONT",
	40: "GET_ROWS", 42: "SET_ROWS", 46: "SOFT_MAX", 48: "ROPE", 85: "UNARY", 94: "GLU",
}

// checkNames compares names by id: an operation or type that was added or removed shifts those behind it.
func checkNames() string {
	for id, want := range operations {
		if got := C.GoString(C.ggml_op_name(id)); got != want {
			return fmt.Sprintf("ggml calls operation %d %q, want %q", int(id), got, want)
		}
	}
	for id, want := range map[C.int]string{0: "f32", 1: "f16", 2: "q4_0", 8: "q8_0", 12: "q4_K", 30: "bf16", 39: "mxfp4"} {
		if got := C.GoString(C.ggml_type_name(id)); got != want {
			return fmt.Sprintf("ggml calls type %d %q, want %q", int(id), got, want)
		}
	}
	return ""
}
