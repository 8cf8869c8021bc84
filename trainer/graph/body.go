package graph

import "github.com/go-skynet/go-llama.cpp/ggml"

// body is everything up to the hidden state, and the way back from it: one graph, so that memory is planned over both.
type body struct {
	ctx       *ggml.Context // descriptors
	whole     ggml.Graph
	ahead     int // nodes of the forward pass, embeddings to hidden; the others lead back from the seed to the gradients
	inputs    []*input
	hidden    ggml.Tensor          // [n_embd, N]
	seed      ggml.Tensor          // [n_embd, N], dL/d(hidden)
	reached   map[ggml.Tensor]bool // trained leaves that a gradient reaches
	recompute Recompute            // what it was made with
	stretches int                  // of the forward pass between points where only the residual stream is alive

	statistics *statistics // nil where none are gathered
}

// bodySpec is what a body is made from.
type bodySpec struct {
	arch      string
	shape     Shape
	with      products
	trained   trained
	nodes     []ggml.Tensor // traced, up to the head
	hidden    ggml.Tensor   // the traced hidden state
	recompute Recompute
	sums      map[string]ggml.Tensor // for the statistics of weights, by name
	ahead     bool                   // there is no way back
}

// descriptors is room enough for the training graph of a forward graph of n nodes: no rule makes more than a few dozen.
func descriptors(n int) int { return 64*n + 256 }

func newBody(spec bodySpec) (_ *body, err error) {
	size := descriptors(len(spec.nodes))
	ctx, err := ggml.NewContext(size, 1)
	if err != nil {
		return nil, err
	}
	b := &body{ctx: ctx, reached: map[ggml.Tensor]bool{}, recompute: spec.recompute}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	r := newRewriter(spec.arch, spec.shape, ctx, spec.with, spec.trained)
	if err := r.rewrite(spec.nodes); err != nil {
		return nil, err
	}
	hidden, ok := r.traced[spec.hidden]
	if !ok {
		return nil, r.unsupported(spec.hidden, "the hidden state has no place in training")
	}
	b.hidden = hidden.SetOutput()
	b.whole = ctx.NewGraph(size)
	b.whole.Expand(b.hidden)
	b.ahead = b.whole.Len()
	if !spec.ahead {
		b.statistics = r.newStatistics(spec.sums)
		if err := b.sweep(r, spec.recompute); err != nil {
			return nil, err
		}
	}
	for _, in := range r.inputs {
		b.inputs = append(b.inputs, in)
	}
	return b, nil
}

// sweep adds the derivatives to the graph. Each gradient of what is trained is appended as soon as it is known, so that
// what only it needs is freed before the sweep goes on.
func (b *body) sweep(r *rewriter, recompute Recompute) error {
	ne := b.hidden.NE()
	b.seed = b.ctx.NewTensor(ggml.F32, ne[:]...).SetName("seed").SetInput()
	s := &sweep{rewriter: r, grads: map[ggml.Tensor]ggml.Tensor{b.hidden: b.seed}, statistics: b.statistics}
	s.each = func(leaf, sum ggml.Tensor) {
		b.reached[leaf] = true
		b.whole.Expand(sum)
	}
	b.stretches = s.drop(recompute)
	return s.backward()
}

// holdAll gives the memory of every node to nobody else.
func (b *body) holdAll() {
	for i := range b.whole.Len() {
		b.whole.Node(i).SetOutput()
	}
}

func (b *body) close() { b.ctx.Close() }
