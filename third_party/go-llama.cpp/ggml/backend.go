package ggml

/*
#include "abi.h"
#include "guard.h"
*/
import "C"

import "fmt"

// Backend runs graphs. One goroutine at a time.
type Backend struct {
	p       C.ggml_backend_t
	threads int // at most; 0: not on the CPU
}

// NewCPU makes a backend on the CPU with the given number of threads, the most that it will have.
func NewCPU(threads int) (*Backend, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	if threads < 1 {
		return nil, fmt.Errorf("ggml: %d threads, want at least 1", threads)
	}
	p := C.ggml_backend_cpu_init()
	if p == nil {
		return nil, fmt.Errorf("ggml: the CPU backend does not start")
	}
	C.ggml_backend_cpu_set_n_threads(p, C.int(threads))
	return &Backend{p, threads}, nil
}

// SetThreads sets the number of threads of the next Compute, at most that of NewCPU. No result depends on it. A backend that is
// not on the CPU has none.
func (b *Backend) SetThreads(n int) {
	if b.threads == 0 {
		return
	}
	C.ggml_backend_cpu_set_n_threads(b.p, C.int(min(max(n, 1), b.threads)))
}

// Close frees the backend. It may be called twice.
func (b *Backend) Close() error {
	if b.p != nil {
		e := C.ft_free_backend(b.p)
		b.p = nil
		return taken(e, "stopping a backend")
	}
	return nil
}

// Compute runs every node of g in order.
func (b *Backend) Compute(g Graph) error {
	if e := C.ft_compute(b.p, g.p); e != nil {
		return failure(e, fmt.Sprintf("a graph of %d nodes", g.Len()), b)
	}
	return nil
}

// Threads returns the number of threads that NewCPU was given, 0 for a backend that is not on the CPU.
func (b *Backend) Threads() int { return b.threads }

// Workspace returns the memory in bytes that Compute takes for the operations of g beside that of its tensors, and
// keeps, on the CPU: what a device takes is in no plan. What custom operations take for themselves is not part of it.
func (b *Backend) Workspace(g Graph) int64 {
	if b.threads == 0 {
		return 0
	}
	return int64(C.ggml_graph_plan(g.p, C.int(b.threads), nil).work_size)
}

// Buffer is memory of a backend that holds tensors for as long as it is open.
type Buffer struct{ p C.ggml_backend_buffer_t }

// AllocateAll gives memory to every tensor of the context that has none: how parameters get a home of their own.
func (b *Backend) AllocateAll(c *Context) (*Buffer, error) {
	var m Buffer
	if e := C.ft_allocate_tensors(c.p, b.p, &m.p); e != nil {
		wanted := C.ggml_backend_alloc_ctx_tensors_from_buft_size(c.p, C.ggml_backend_get_default_buffer_type(b.p))
		return nil, failure(e, fmt.Sprintf("tensors of %d bytes", wanted), b)
	}
	return &m, nil
}

// Bytes returns the size of the buffer.
func (b *Buffer) Bytes() int64 { return int64(C.ggml_backend_buffer_get_size(b.p)) }

// Close frees the buffer. It may be called twice.
func (b *Buffer) Close() error {
	if b.p != nil {
		e := C.ft_free_buffer(b.p)
		b.p = nil
		return taken(e, "freeing memory")
	}
	return nil
}
