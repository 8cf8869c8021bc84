package graph

import "github.com/go-skynet/go-llama.cpp/ggml"

// body is the forward pass up to the hidden state and the backward pass from it: one graph, so that ggml plans memory
// over both.
type body struct {
	ctx        *ggml.Context // descriptors
	placed                   // the graph
	forwardLen int           // nodes of the forward pass, embeddings to hidden; those behind them lead back from the seed to the gradients
	inputs     []*input
	hidden     ggml.Tensor          // [n_embd, N]
	seed       ggml.Tensor          // [n_embd, N], dL/d(hidden)
	reached    map[ggml.Tensor]bool // trainable leaves that a gradient reaches
	recompute  recomputeLevel       // that it was made with
	segments   int                  // of the forward pass, see segment

	statistics *statistics // nil where none are gathered
}

// bodySpec is what a body is made from.
type bodySpec struct {
	arch        string
	shape       Shape
	sides       *sides
	ops         opSets
	trained     trainedSet
	nodes       []ggml.Tensor // traced, up to the head
	hidden      ggml.Tensor   // the traced hidden state
	recompute   recomputeLevel
	statistics  map[string]ggml.Tensor // leaves of the activation statistics, by name
	forwardOnly bool                   // no backward pass
	cacheless   bool                   // see rewriter
}

// descriptors returns how many tensors and nodes are enough for the training graph of a forward graph of n nodes: no rule
// makes more than a few dozen.
func descriptors(n int) int { return 64*n + 256 }

func newBody(spec bodySpec) (_ *body, err error) {
	size := descriptors(len(spec.nodes))
	ctx, err := ggml.NewContext(size, len(spec.sides.backends))
	if err != nil {
		return nil, err
	}
	b := &body{ctx: ctx, reached: map[ggml.Tensor]bool{}, recompute: spec.recompute}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	r := newRewriter(spec.arch, spec.shape, ctx, spec.ops, spec.trained)
	r.cacheless = spec.cacheless
	if err := r.rewrite(spec.nodes); err != nil {
		return nil, err
	}
	hidden, ok := r.traced[spec.hidden]
	if !ok {
		return nil, r.unsupported(spec.hidden, "the hidden state has no place in training")
	}
	b.hidden = hidden.SetOutput()
	b.graph = ctx.NewGraph(size)
	b.graph.Expand(b.hidden)
	b.forwardLen = b.graph.Len()
	if !spec.forwardOnly {
		b.statistics = r.newStatistics(spec.statistics)
		if err := b.sweep(r, spec.recompute); err != nil {
			return nil, err
		}
	}
	for _, in := range r.inputs {
		b.inputs = append(b.inputs, in)
	}
	var ends []int
	if b.placed, ends, err = spec.sides.place(ctx, b.graph, b.forwardLen); err != nil {
		return nil, err
	}
	b.forwardLen = ends[0]
	return b, nil
}

// sweep adds the derivatives to the graph. Each gradient of a trainable leaf is appended as soon as it is known, so that
// the memory of what only it needs is free for the nodes after it.
func (b *body) sweep(r *rewriter, recompute recomputeLevel) error {
	ne := b.hidden.NE()
	b.seed = b.ctx.NewTensor(ggml.F32, ne[:]...).SetName("seed").SetInput()
	s := &sweep{rewriter: r, grads: map[ggml.Tensor]ggml.Tensor{b.hidden: b.seed}, statistics: b.statistics}
	s.addNode = func(leaf, sum ggml.Tensor) {
		b.reached[leaf] = true
		b.graph.Expand(sum)
	}
	b.segments = s.chooseRecomputed(recompute)
	return s.backward()
}

// keepEveryNode keeps the allocator from reusing the memory of any node.
func (b *body) keepEveryNode() {
	for i := range b.graph.Len() {
		b.graph.Node(i).SetOutput()
	}
}

func (b *body) close() { b.ctx.Close() }
