package ggml

/*
#include "abi.h"
*/
import "C"

import "fmt"

// Context holds the descriptors of tensors and graphs, not their data. Close frees it and everything made in it.
type Context struct{ p *C.struct_ggml_context }

// NewContext makes room for the descriptors of nTensors tensors and one Graph of as many nodes for each of nGraphs.
// It runs Check once for the process.
func NewContext(nTensors int, nGraphs int) (*Context, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	size := C.size_t(nTensors)*C.ggml_tensor_overhead() + C.size_t(nGraphs)*C.ggml_graph_overhead_custom(C.size_t(nTensors), false) + 1024
	p := C.ggml_init(C.struct_ggml_init_params{mem_size: size, no_alloc: true})
	if p == nil {
		return nil, fmt.Errorf("ggml: no memory for the descriptors of %d tensors (%d bytes)", nTensors, size)
	}
	return &Context{p}, nil
}

// Close frees the context. It may be called twice.
func (c *Context) Close() error {
	if c.p != nil {
		C.ggml_free(c.p)
		c.p = nil
	}
	return nil
}

// Used returns the size in bytes of the descriptors made so far. The room for the others is not touched.
func (c *Context) Used() int64 { return int64(C.ggml_used_mem(c.p)) }

// NewTensor makes a leaf of the given type and shape (1 to 4 dimensions) without memory.
func (c *Context) NewTensor(t Type, ne ...int64) Tensor {
	shape := [4]C.int64_t{1, 1, 1, 1}
	for i, n := range ne {
		shape[i] = C.int64_t(n)
	}
	return Tensor{C.ggml_new_tensor(c.p, C.enum_ggml_type(t), 4, &shape[0])}
}

// Like makes a node with the operation and parameters of o over other operands, with a shape of its own. It is how a
// traced node is repeated in another graph without knowing its constructor.
func (c *Context) Like(o Tensor, ne [4]int64, src ...Tensor) Tensor {
	t := c.NewTensor(o.Type(), ne[:]...)
	t.p.op = o.p.op
	t.p.op_params = o.p.op_params
	for i, s := range src {
		t.p.src[i] = s.p
	}
	return t
}
