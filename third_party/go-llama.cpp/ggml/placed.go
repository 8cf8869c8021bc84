package ggml

/*
#include "abi.h"

static void ft_measure_placed(ggml_backend_buffer_type_t *types, int n, struct ggml_cgraph *g, const int *at, const int *leaves, size_t *sizes) {
	ggml_gallocr_t a = ggml_gallocr_new_n(types, n);
	ggml_gallocr_reserve_n_size(a, g, at, leaves, sizes);
	ggml_gallocr_free(a);
}
*/
import "C"

import "unsafe"

// A graph may be computed by several backends, each node by one. Its nodes lie in the memory of their backend, so that what
// another one reads is copied first: a Twin of the tensor stands in the list of nodes before the node that reads it.

// Twin makes a leaf of the type, the shape and the strides of t, into which t is copied from another backend's memory. In a
// list of nodes it stands where the copy is made: until then t keeps its memory.
func (c *Context) Twin(t Tensor) Tensor {
	ne := t.NE()
	twin := c.NewTensor(t.Type(), ne[:]...)
	twin.p.nb = t.p.nb
	return twin
}

// Within makes a leaf that is a part of another one's memory, from an offset in bytes on: a is F32 and contiguous, and has the
// room.
func (c *Context) Within(a Tensor, offset int64, ne ...int64) Tensor {
	t := c.NewTensor(F32, ne...)
	if offset < 0 || a.Type() != F32 || offset+t.Bytes() > a.Bytes() {
		panic("internal error: ggml: a part lies outside of " + a.Name())
	}
	t.p.view_src, t.p.view_offs = a.p, C.size_t(offset)
	return t
}

// Of makes a twin depend on what is copied into it.
func (t Tensor) Of(original Tensor) Tensor {
	t.p.src[0] = original.p
	return t
}

// SetSrc replaces the i-th operand of a node by one of the same type, shape and strides.
func (t Tensor) SetSrc(i int, src Tensor) { t.p.src[i] = src.p }

// Listed makes a graph of the given nodes in the given order, and of the leaves that they read.
func (c *Context) Listed(nodes, leaves []Tensor) Graph {
	g := c.NewGraph(max(1, len(nodes), len(leaves)))
	for _, leaf := range leaves {
		C.ggml_build_forward_expand(g.p, leaf.p)
	}
	for _, node := range nodes {
		node.p.flags |= C.GGML_TENSOR_FLAG_COMPUTE
		C.ggml_graph_add_node(g.p, node.p)
	}
	return g
}

// MeasurePlaced returns how much memory AllocatePlaced would take for g on each backend, without taking it. Backends that
// share a kind of memory are told the same sum.
func MeasurePlaced(backends []*Backend, g Graph, at, leaves []int32) []int64 {
	types, sizes := bufferTypes(backends), make([]C.size_t, len(backends))
	C.ft_measure_placed(unsafe.SliceData(types), C.int(len(types)), g.p, placesOf(at), placesOf(leaves), unsafe.SliceData(sizes))
	var all []int64
	for _, n := range sizes {
		all = append(all, int64(n))
	}
	return all
}

// AllocatePlaced does what Allocate does for a graph that was Listed, whose node i is computed by backends[at[i]] and whose leaf i
// lies there by leaves[i], unless it has memory.
func AllocatePlaced(backends []*Backend, g Graph, at, leaves []int32) (*Allocator, error) {
	types := bufferTypes(backends)
	a := &Allocator{C.ggml_gallocr_new_n(unsafe.SliceData(types), C.int(len(types)))}
	return a.take(g, placesOf(at), placesOf(leaves), backends)
}

// BytesOn returns the memory that was taken on the i-th backend.
func (a *Allocator) BytesOn(i int) int64 { return int64(C.ggml_gallocr_get_buffer_size(a.p, C.int(i))) }

func bufferTypes(backends []*Backend) []C.ggml_backend_buffer_type_t {
	var types []C.ggml_backend_buffer_type_t
	for _, b := range backends {
		types = append(types, C.ggml_backend_get_default_buffer_type(b.p))
	}
	return types
}

func placesOf(at []int32) *C.int { return (*C.int)(unsafe.SliceData(at)) }

// AsWeights marks the memory as that of a model's weights, which Tensor.IsWeight tells and some backends make use of.
func (b *Buffer) AsWeights() {
	C.ggml_backend_buffer_set_usage(b.p, C.GGML_BACKEND_BUFFER_USAGE_WEIGHTS)
}
