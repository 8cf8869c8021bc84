package graph

import (
	"fmt"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// headBytes bounds the memory of one copy of a chunk's logits: with a vocabulary of 150,000, those of a whole batch would
// take gigabytes.
const headBytes = 64 << 20

// head is everything behind the hidden state: the output matrix, whatever the architecture does to the logits, the loss
// and its derivative. It works on a chunk of C rows at a time, and only on rows with a loss mask above zero.
type head struct {
	ctx     *ggml.Context
	alloc   *ggml.Allocator      // nil until allocate
	whole   ggml.Graph           // logits, loss and dh
	loss    ggml.Graph           // its first part: logits and loss
	scores  ggml.Graph           // its first part: logits
	bytes   int64                // of its memory
	rows    int                  // C, rows in a chunk
	h       ggml.Tensor          // [n_embd, C] hidden states
	teacher ggml.Tensor          // [n_embd, C], a teacher's hidden states; none without a teacher
	targets ggml.Tensor          // I32 [C]
	weights ggml.Tensor          // F32 [C], the loss mask times the scale
	nll     ggml.Tensor          // F32 [C], −log p(target), or the loss against a teacher
	logits  ggml.Tensor          // [V, C]
	dh      ggml.Tensor          // [n_embd, C], Σ weight·d(nll)/dh
	reached map[ggml.Tensor]bool // trainable leaves that a gradient reaches: the output matrix
}

// splitHead returns the index of the node where the body ends: the product with the output matrix, which is the last with
// a weight. Its operand is the hidden state.
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

// headSpec is what a head is made from.
type headSpec struct {
	arch    string
	ops     opSet
	trained trainedSet
	nodes   []ggml.Tensor // traced, from the output matrix on
	hidden  ggml.Tensor   // the traced hidden state
	maxRows int           // tokens of a batch
	options Options
}

// newHead repeats the traced nodes of the head for chunks of rows, and measures their memory.
func newHead(backend *ggml.Backend, spec headSpec) (_ *head, err error) {
	nodes := spec.nodes
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
	hd.rows = int(max(1, min(int64(spec.maxRows), headBytes/(4*vocab))))
	c := int64(hd.rows)
	hd.h = ctx.NewTensor(ggml.F32, spec.hidden.NE()[0], c).SetName("hidden").SetInput()
	hd.targets = ctx.NewTensor(ggml.I32, c).SetName("targets").SetInput()
	hd.weights = ctx.NewTensor(ggml.F32, c).SetName("weights").SetInput()
	hd.nll = ctx.NewTensor(ggml.F32, c).SetName("nll").SetInput().SetOutput()

	r, err := hd.rewritten(spec, hd.h, spec.trained)
	if err != nil {
		return nil, err
	}
	hd.logits = r.traced[nodes[len(nodes)-1]]
	dlogits, err := hd.derivative(spec, r.unreadBackward(hd.logits))
	if err != nil {
		return nil, err
	}
	s := &sweep{rewriter: r, grads: map[ggml.Tensor]ggml.Tensor{hd.logits: dlogits}}
	var sums []ggml.Tensor
	s.addNode = func(leaf, sum ggml.Tensor) {
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
	if !spec.options.ForwardOnly {
		hd.bytes = backend.Measure(hd.whole)
	}
	return hd, nil
}

// rewritten repeats the traced nodes over hidden states h [n_embd, C].
func (hd *head) rewritten(spec headSpec, h ggml.Tensor, set trainedSet) (*rewriter, error) {
	r := newRewriter(spec.arch, Shape{Ctx: hd.rows, Seqs: 1}, hd.ctx, spec.ops, set)
	r.traced[spec.hidden], r.needs[h] = h, true
	return r, r.rewrite(spec.nodes)
}

// derivative adds the node of d(Σ weights·nll)/d(logits), [V, C], for the loss that the options ask for. With inPlace it
// overwrites the logits.
func (hd *head) derivative(spec headSpec, inPlace bool) (ggml.Tensor, error) {
	if !spec.options.Teacher {
		return kernels.CrossEntropy(hd.ctx, hd.logits, hd.targets, hd.weights, hd.nll, inPlace), nil
	}
	ne := hd.h.NE()
	hd.teacher = hd.ctx.NewTensor(ggml.F32, ne[:]...).SetName("teacher").SetInput()
	r, err := hd.rewritten(spec, hd.teacher, trainedSet{})
	if err != nil {
		return hd.teacher, err
	}
	logits := r.traced[spec.nodes[len(spec.nodes)-1]]
	return kernels.Distill(hd.ctx, hd.logits, logits, hd.targets, hd.weights, hd.nll, spec.options.HardLabelWeight, inPlace), nil
}

// allocate takes the memory; a head that only runs forward has none.
func (hd *head) allocate(backend *ggml.Backend) (err error) {
	if hd.bytes == 0 {
		return nil
	}
	hd.alloc, err = backend.Allocate(hd.whole)
	return err
}

// unreadBackward reports whether the derivative of t does without the value of t, so that its memory may be overwritten.
func (r *rewriter) unreadBackward(t ggml.Tensor) bool {
	_, product := r.products[t]
	return product || t.Op() == "SCALE" || t.Op() == "ADD"
}

func (hd *head) close() {
	if hd.alloc != nil {
		hd.alloc.Close()
	}
	hd.ctx.Close()
}

// headInput describes the N rows of a step.
type headInput struct {
	hidden  []float32 // [n_embd, N]
	teacher []float32 // [n_embd, N]; nil without a teacher
	rows    []int     // indices of the trained rows
	targets []int32   // [N], the token that each row should predict
	weights []float32 // [N], the loss mask
	scale   float32   // factor of all weights in the derivative
}

// run computes the loss of the trained rows, Σ weight·nll, unscaled. It writes dL/d(hidden) times scale to those rows of
// seed [n_embd, N]; without a seed it computes the loss only.
func (hd *head) run(backend *ggml.Backend, in headInput, seed []float32) (float64, error) {
	n := int(hd.h.NE()[0])
	var loss float64
	for rows := in.rows; len(rows) > 0; {
		chunk := rows[:min(hd.rows, len(rows))]
		rows = rows[len(chunk):]
		hd.load(in, chunk)
		g := hd.whole
		if seed == nil {
			g = hd.loss
		}
		if err := backend.Compute(g); err != nil {
			return 0, err
		}
		nll := hd.nll.Floats()
		for i, row := range chunk {
			loss += float64(in.weights[row]) * float64(nll[i])
			if seed != nil {
				copy(seed[row*n:(row+1)*n], hd.dh.Floats()[i*n:])
			}
		}
	}
	return loss, nil
}

// load writes a chunk of rows into the leaves; rows behind the chunk's end get the weight 0.
func (hd *head) load(in headInput, chunk []int) {
	fillRows(hd.h, in.hidden, chunk)
	if in.teacher != nil {
		fillRows(hd.teacher, in.teacher, chunk)
	}
	ids, w := hd.targets.Ints(), hd.weights.Floats()
	clear(w)
	clear(ids)
	for i, row := range chunk {
		ids[i], w[i] = in.targets[row], in.weights[row]*in.scale
	}
}

// fillRows writes the chosen rows of states [n_embd, N] into leaf [n_embd, C], and zeros behind them.
func fillRows(leaf ggml.Tensor, states []float32, rows []int) {
	n, to := int(leaf.NE()[0]), leaf.Floats()
	clear(to[len(rows)*n:])
	for i, row := range rows {
		copy(to[i*n:(i+1)*n], states[row*n:])
	}
}
