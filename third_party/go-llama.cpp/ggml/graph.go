package ggml

/*
#include "abi.h"
#include "guard.h"
*/
import "C"

import "fmt"

// Graph is a list of nodes in the order in which they are computed.
type Graph struct{ p *C.struct_ggml_cgraph }

// NewGraph makes an empty graph for at most size nodes and as many leaves.
func (c *Context) NewGraph(size int) Graph {
	return Graph{C.ggml_new_graph_custom(c.p, C.size_t(size), false)}
}

// Expand appends t and everything it needs that the graph does not hold yet.
func (g Graph) Expand(t Tensor) { C.ggml_build_forward_expand(g.p, t.p) }

// Len returns the number of nodes.
func (g Graph) Len() int { return int(C.ggml_graph_n_nodes(g.p)) }

// Node returns the i-th node.
func (g Graph) Node(i int) Tensor { return Tensor{C.ggml_graph_node(g.p, C.int(i))} }

// Part returns a graph of nodes [from, to) of g, for computing a graph in pieces: memory is planned over all of g.
func (c *Context) Part(g Graph, from, to int) Graph {
	part := c.NewGraph(max(1, to-from))
	for i := from; i < to; i++ {
		node := g.Node(i).p
		node.flags |= C.GGML_TENSOR_FLAG_COMPUTE // backends pass over nodes without it, and only Expand sets it
		C.ggml_graph_add_node(part.p, node)
	}
	return part
}

// Allocator gives the nodes of one graph their memory, reusing the memory of nodes that nobody needs any more
// (ggml-alloc.c, ggml_gallocr). Its graph may be computed any number of times.
type Allocator struct{ p C.ggml_gallocr_t }

// Allocate plans and takes the memory for g on the backend. Leaves that lie in buffers of their own keep them.
func (b *Backend) Allocate(g Graph) (*Allocator, error) {
	a := &Allocator{C.ggml_gallocr_new(C.ggml_backend_get_default_buffer_type(b.p))}
	return a.take(g, nil, nil, []*Backend{b})
}

// take takes the memory for g, or frees the allocator.
func (a *Allocator) take(g Graph, at, leaves *C.int, backends []*Backend) (*Allocator, error) {
	if e := C.ft_allocate_graph(a.p, g.p, at, leaves); e != nil {
		a.Close()
		return nil, failure(e, fmt.Sprintf("a graph of %d nodes", g.Len()), backends...)
	}
	return a, nil
}

// Measure returns how much memory Allocate would take for g, without taking it.
func (b *Backend) Measure(g Graph) int64 {
	a := C.ggml_gallocr_new(C.ggml_backend_get_default_buffer_type(b.p))
	defer C.ggml_gallocr_free(a)
	var size C.size_t
	C.ggml_gallocr_reserve_n_size(a, g.p, nil, nil, &size)
	return int64(size)
}

// Bytes returns the memory taken.
func (a *Allocator) Bytes() int64 { return int64(C.ggml_gallocr_get_buffer_size(a.p, 0)) }

// Close frees the memory. It may be called twice.
func (a *Allocator) Close() error {
	if a.p != nil {
		e := C.ft_free_allocator(a.p)
		a.p = nil
		return taken(e, "freeing the memory of a graph")
	}
	return nil
}
