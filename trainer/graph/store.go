package graph

import "github.com/go-skynet/go-llama.cpp/ggml"

// store is F32 tensors of one kind on one side. On a device they are parts of one tensor, so that one transfer moves them all: each
// costs a device tens of microseconds, and there may be a thousand. On the CPU each is a tensor of its own.
type store struct {
	at    place
	ctx   *ggml.Context
	whole ggml.Tensor // on a device
	used  int64       // elements of it
	host  mirror[float32]
}

// partAlignment is where parts of a tensor may begin, in elements: what Vulkan lets a device ask for at most, 256 bytes.
const partAlignment = 256 / 4

func aligned(elements int64) int64 {
	return (elements + partAlignment - 1) / partAlignment * partAlignment
}

// newStore makes a store that on a device has room for tensors of the given numbers of elements.
func newStore(ctx *ggml.Context, at place, sizes []int64) *store {
	s := &store{at: at, ctx: ctx}
	var all int64
	for _, n := range sizes {
		all += aligned(n)
	}
	if at == onDevice && all > 0 {
		s.whole = ctx.NewTensor(ggml.F32, all)
	}
	return s
}

// leaf adds a tensor.
func (s *store) leaf(ne ...int64) ggml.Tensor {
	if s.at == onCPU {
		return s.ctx.NewTensor(ggml.F32, ne...)
	}
	leaf := s.ctx.Within(s.whole, 4*s.used, ne...)
	s.used += aligned(leaf.Elements())
	return leaf
}

// open makes room in host memory for what a device holds.
func (s *store) open() {
	if !s.whole.IsNil() {
		s.host = mirrorOf[float32](s.whole, true)
	}
}

// mirror returns the mirror of one of the tensors. What is apart of a tensor on the CPU is a copy of its own.
func (s *store) mirror(leaf ggml.Tensor, apart bool) mirror[float32] {
	if s.whole.IsNil() {
		return mirrorOf[float32](leaf, apart)
	}
	from := leaf.ViewOffset() / 4
	return mirror[float32]{tensor: leaf, data: s.host.data[from:][:leaf.Elements()], inStore: true}
}

// zero sets all tensors of a store on a device to zero.
func (s *store) zero(b *bus) {
	if !s.whole.IsNil() {
		b.zero(s.whole)
	}
}

// stores are the fixed leaves of one side.
type stores struct {
	ctx                        *ggml.Context
	memory                     *ggml.Buffer
	values, totals, statistics *store // of the parameters, of their gradients, of activations
}

func (s stores) close() {
	if s.ctx != nil {
		s.ctx.Close()
	}
	if s.memory != nil {
		s.memory.Close()
	}
}
