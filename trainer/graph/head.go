package graph

import (
	"fmt"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// headBytes bounds the memory for one copy of a chunk's logits: a vocabulary of 150,000 must not need tokens times
// vocabulary floats at once.
const headBytes = 64 << 20

// head is everything from the last hidden state on: the output matrix, whatever the architecture does to the logits, the
// loss and its derivative. It works on a chunk of rows at a time, and only on rows that are trained.
type head struct {
	ctx     *ggml.Context
	alloc   *ggml.Allocator      // nil until allocate
	whole   ggml.Graph           // logits, loss and dh
	loss    ggml.Graph           // its first part: logits and loss
	scores  ggml.Graph           // its first part: logits
	bytes   int64                // that its memory takes
	rows    int                  // C, rows in a chunk
	h       ggml.Tensor          // [n_embd, C] hidden states
	targets ggml.Tensor          // I32 [C]
	weights ggml.Tensor          // F32 [C]
	nll     ggml.Tensor          // F32 [C], −log p(target)
	logits  ggml.Tensor          // [V, C]
	dh      ggml.Tensor          // [n_embd, C], Σ weight·d(nll)/dh
	reached map[ggml.Tensor]bool // trained leaves that a gradient reaches: the output matrix
}

// splitHead finds where the body ends: the product with the output matrix, the last one with a weight. Its operand is
// the hidden state.
func splitHead(arch string, nodes []ggml.Tensor) (index int, err error) {
	for i := len(nodes) - 1; i >= 0; i-- {
		o := nodes[i]
		if o.Op() == "MUL_MAT" && o.Src(0).IsWeight() && !o.Src(1).IsLeaf() {
			switch name := o.Src(0).Name(); name {
			case "output.weight", "token_embd.weight":
				return i, nil
			default:
				return 0, &UnsupportedError{Arch: arch, Op: o.Op(), Node: o.Name(),
					Why: fmt.Sprintf("the last matrix is %q, want the output matrix", name)}
			}
		}
	}
	return 0, &UnsupportedError{Arch: arch, Op: "MUL_MAT", Node: "result_output", Why: "the graph has no output matrix"}
}

// newHead repeats the traced nodes of the head for chunks of rows, and measures them. hidden is the traced hidden state.
func newHead(backend *ggml.Backend, with products, what trained, arch string, nodes []ggml.Tensor, hidden ggml.Tensor, maxRows int) (_ *head, err error) {
	ctx, err := ggml.NewContext(descriptors(len(nodes)), 3)
	if err != nil {
		return nil, err
	}
	hd := &head{ctx: ctx, reached: map[ggml.Tensor]bool{}}
	defer func() {
		if err != nil {
			hd.close()
		}
	}()
	vocab := nodes[len(nodes)-1].NE()[0]
	hd.rows = int(max(1, min(int64(maxRows), headBytes/(4*vocab))))
	c := int64(hd.rows)
	hd.h = ctx.NewTensor(ggml.F32, hidden.NE()[0], c).SetName("hidden").SetInput()
	hd.targets = ctx.NewTensor(ggml.I32, c).SetName("targets").SetInput()
	hd.weights = ctx.NewTensor(ggml.F32, c).SetName("weights").SetInput()
	hd.nll = ctx.NewTensor(ggml.F32, c).SetName("nll").SetInput().SetOutput()

	r := newRewriter(arch, Shape{Ctx: hd.rows, Seqs: 1}, ctx, with, what)
	r.traced[hidden], r.needs[hd.h] = hd.h, true
	if err := r.rewrite(nodes); err != nil {
		return nil, err
	}
	hd.logits = r.traced[nodes[len(nodes)-1]]
	dlogits := ctx.CrossEntropy(hd.logits, hd.targets, hd.weights, hd.nll, r.unreadBackward(hd.logits))
	s := &sweep{rewriter: r, grads: map[ggml.Tensor]ggml.Tensor{hd.logits: dlogits}}
	var sums []ggml.Tensor
	s.each = func(leaf, sum ggml.Tensor) {
		hd.reached[leaf] = true
		sums = append(sums, sum)
	}
	if err := s.backward(); err != nil {
		return nil, err
	}
	hd.dh = s.cont(s.grads[hd.h]).SetOutput()

	hd.whole = ctx.NewGraph(descriptors(len(nodes)))
	hd.whole.Expand(hd.logits)
	scoreNodes := hd.whole.Len()
	hd.whole.Expand(dlogits) // in the memory of the logits
	lossNodes := hd.whole.Len()
	hd.whole.Expand(hd.dh)
	for _, sum := range sums {
		hd.whole.Expand(sum)
	}
	hd.scores = ctx.Part(hd.whole, 0, scoreNodes)
	hd.loss = ctx.Part(hd.whole, 0, lossNodes)
	hd.bytes = backend.Measure(hd.whole)
	return hd, nil
}

// allocate takes the memory.
func (hd *head) allocate(backend *ggml.Backend) (err error) {
	hd.alloc, err = backend.Allocate(hd.whole)
	return err
}

// unreadBackward reports whether the derivative of t does without t's value, so that its memory is free.
func (r *rewriter) unreadBackward(t ggml.Tensor) bool {
	_, product := r.uses[t]
	return product || t.Op() == "SCALE" || t.Op() == "ADD"
}

func (hd *head) close() {
	if hd.alloc != nil {
		hd.alloc.Close()
	}
	hd.ctx.Close()
}

// run works through the trained rows of a step. hidden [n_embd, N]; rows are the indices of the trained ones; targets
// and weights, by index in N, say what each should have predicted and how much it counts. seed [n_embd, N] receives
// dL/d(hidden) times scale in those rows; nil asks for the loss only. It returns Σ weight·nll, unscaled.
func (hd *head) run(backend *ggml.Backend, hidden, seed []float32, rows []int, targets []int32, weights []float32, scale float32) (float64, error) {
	n := int(hd.h.NE()[0])
	var loss float64
	for len(rows) > 0 {
		chunk := rows[:min(hd.rows, len(rows))]
		rows = rows[len(chunk):]
		hd.load(hidden, chunk, targets, weights, scale)
		g := hd.whole
		if seed == nil {
			g = hd.loss
		}
		if err := backend.Compute(g); err != nil {
			return 0, err
		}
		nll := hd.nll.Floats()
		for i, row := range chunk {
			loss += float64(weights[row]) * float64(nll[i])
			if seed != nil {
				copy(seed[row*n:(row+1)*n], hd.dh.Floats()[i*n:])
			}
		}
	}
	return loss, nil
}

// load fills the chunk's leaves; rows past the chunk's end weigh nothing.
func (hd *head) load(hidden []float32, chunk []int, targets []int32, weights []float32, scale float32) {
	n := int(hd.h.NE()[0])
	h, ids, w := hd.h.Floats(), hd.targets.Ints(), hd.weights.Floats()
	clear(w)
	clear(ids)
	clear(h[len(chunk)*n:])
	for i, row := range chunk {
		copy(h[i*n:(i+1)*n], hidden[row*n:])
		ids[i], w[i] = targets[row], weights[row]*scale
	}
}
