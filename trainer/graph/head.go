package graph

import (
	"fmt"
	"slices"

	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// headBytes bounds the memory of one copy of a chunk's logits: with a vocabulary of 150,000, those of a whole batch would
// take gigabytes.
const headBytes = 64 << 20

// head is everything behind the hidden state: the output matrix, whatever the architecture does to the logits, the loss
// and its derivative. It works on a chunk of C rows at a time, and only on rows with a loss mask above zero.
type head struct {
	ctx     *ggml.Context
	alloc   *ggml.Allocator // nil until allocate
	placed                  // logits, loss and dh
	ends    []int           // of its parts: logits, and what they lead to as far as the loss
	runs    [3][]run        // what computes the logits, then the loss, then the rest
	bytes   [2]int64        // of its memory, by place
	rows    int             // C, rows in a chunk
	h       ggml.Tensor     // [n_embd, C] hidden states
	teacher ggml.Tensor     // [n_embd, C], a teacher's hidden states; none without a teacher
	lossLeaves
	logits  ggml.Tensor          // [V, C]
	dh      ggml.Tensor          // [n_embd, C], Σ weight·d(nll)/dh
	reached map[ggml.Tensor]bool // trainable leaves that a gradient reaches: the output matrix

	in struct { // the leaves' mirrors
		h, teacher, weights mirror[float32]
		targets             mirror[int32]
		relevances          mirror[float32] // in the place of targets
	}
	out struct {
		nll, dh mirror[float32]
	}
}

// lossLeaves are what a loss is made of beside the logits, and where it goes.
type lossLeaves struct {
	targets ggml.Tensor // I32 [C]; of relevances F32
	weights ggml.Tensor // F32 [C], the loss mask times the scale
	nll     ggml.Tensor // F32 [C], −log p(target), or the loss against a teacher
}

// splitHead returns the index of the node where the body ends, and the hidden state, its result. What follows in a decoder is
// the product with the output matrix, the last with a weight; in an encoder nothing.
func (t *trace) splitHead(arch string) (index int, hidden ggml.Tensor, err error) {
	if t.encodes {
		return len(t.nodes), t.nodes[len(t.nodes)-1], nil
	}
	for i := len(t.nodes) - 1; i >= 0; i-- {
		o := t.nodes[i]
		if o.Op() == "MUL_MAT" && o.Src(0).IsWeight() && !o.Src(1).IsLeaf() {
			switch name := o.Src(0).Name(); name {
			case "output.weight", "token_embd.weight":
				return i, o.Src(1), nil
			default:
				return 0, hidden, &UnsupportedError{Arch: arch, Op: o.Op(), Node: o.Name(),
					Why: fmt.Sprintf("the last matrix is %q, want the output matrix", name)}
			}
		}
	}
	return 0, hidden, &UnsupportedError{Arch: arch, Op: "MUL_MAT", Node: "result_output", Why: "the graph has no output matrix"}
}

// headSpec is what a head is made from.
type headSpec struct {
	arch    string
	sides   *sides
	ops     opSets
	trained trainedSet
	nodes   []ggml.Tensor // traced, from the output matrix on; none of an encoder
	hidden  ggml.Tensor   // the traced hidden state
	maxRows int           // tokens of a batch
	options Options
}

// newHead repeats the traced nodes of the head for chunks of rows, and measures their memory.
func newHead(spec headSpec) (_ *head, err error) {
	nodes := spec.nodes
	ctx, err := ggml.NewContext(descriptors(len(nodes)), len(spec.sides.backends))
	if err != nil {
		return nil, err
	}
	hd := &head{ctx: ctx, reached: map[ggml.Tensor]bool{}}
	defer func() {
		if err != nil {
			hd.close()
		}
	}()
	hd.rows = int(max(1, min(int64(spec.maxRows), headBytes/(4*spec.outputs()))))
	c := int64(hd.rows)
	hd.h = ctx.NewTensor(ggml.F32, spec.hidden.NE()[0], c).SetName("hidden").SetInput()
	kind := ggml.I32
	if spec.options.Classes.rank() {
		kind = ggml.F32
	}
	hd.targets = ctx.NewTensor(kind, c).SetName("targets").SetInput()
	hd.weights = ctx.NewTensor(ggml.F32, c).SetName("weights").SetInput()

	r, err := hd.rewritten(spec, hd.h, spec.trained)
	if err != nil {
		return nil, err
	}
	hd.logits = spec.scores(r, hd.h)
	dlogits, err := hd.derivative(spec, r)
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

	g := ctx.NewGraph(descriptors(len(nodes)))
	g.Expand(hd.logits)
	scores := g.Len()
	if hd.nll.IsLeaf() {
		g.Expand(dlogits) // which writes the loss, in the memory of the logits
	} else {
		g.Expand(hd.nll)
	}
	loss := g.Len()
	g.Expand(hd.dh)
	for _, sum := range sums {
		g.Expand(sum)
	}
	if hd.placed, hd.ends, err = spec.sides.place(ctx, g, scores, loss); err != nil {
		return nil, err
	}
	if !spec.options.ForwardOnly {
		hd.bytes = spec.sides.measure(hd.placed)
	}
	return hd, nil
}

// rewritten repeats the traced nodes over hidden states h [n_embd, C].
func (hd *head) rewritten(spec headSpec, h ggml.Tensor, set trainedSet) (*rewriter, error) {
	r := newRewriter(spec.arch, Shape{Ctx: hd.rows, Seqs: 1}, hd.ctx, spec.ops, set)
	r.traced[spec.hidden], r.needs[h] = h, true
	if spec.options.Classes != nil {
		return r, nil
	}
	return r, r.rewrite(spec.nodes)
}

// outputs returns how many logits a row has.
func (spec headSpec) outputs() int64 {
	switch {
	case spec.options.Classes != nil:
		return int64(spec.options.Classes.count())
	case len(spec.nodes) == 0:
		return spec.hidden.NE()[0]
	}
	return spec.nodes[len(spec.nodes)-1].NE()[0]
}

// scores returns the logits of states h, whose nodes r has: those of the classes, or those of the vocabulary. An encoder without
// a classifier has neither, and its states stand for them.
func (spec headSpec) scores(r *rewriter, h ggml.Tensor) ggml.Tensor {
	switch {
	case spec.options.Classes != nil:
		return spec.options.Classes.scores(r, h)
	case len(spec.nodes) == 0:
		return h
	}
	return r.traced[spec.nodes[len(spec.nodes)-1]]
}

// derivative adds the node of d(Σ weights·nll)/d(logits), [V, C], for the loss that the options ask for. r has the logits'
// nodes.
func (hd *head) derivative(spec headSpec, r *rewriter) (ggml.Tensor, error) {
	var teacher ggml.Tensor
	if spec.options.Teacher {
		ne := hd.h.NE()
		hd.teacher = hd.ctx.NewTensor(ggml.F32, ne[:]...).SetName("teacher").SetInput()
		t, err := hd.rewritten(spec, hd.teacher, trainedSet{})
		if err != nil {
			return hd.teacher, err
		}
		teacher = t.traced[spec.nodes[len(spec.nodes)-1]]
	}
	if spec.options.Classes.rank() {
		return hd.lossOfRelevance(hd.ctx, hd.logits), nil
	}
	if r.ops.native {
		return hd.lossByKernel(hd.ctx, hd.logits, teacher, spec.options.HardLabelWeight, r.unreadBackward(hd.logits)), nil
	}
	return hd.lossOfOperations(hd.ctx, hd.logits, teacher, spec.options.HardLabelWeight), nil
}

// allocate takes the memory; a head that only runs forward has none.
func (hd *head) allocate(s *sides) (err error) {
	if hd.bytes == [2]int64{} {
		return nil
	}
	if hd.alloc, err = s.allocate(hd.placed); err != nil {
		return err
	}
	hd.in.h, hd.in.weights = mirrorOf[float32](hd.h, false), mirrorOf[float32](hd.weights, false)
	if hd.ofRelevances() {
		hd.in.relevances = mirrorOf[float32](hd.targets, false)
	} else {
		hd.in.targets = mirrorOf[int32](hd.targets, false)
	}
	if !hd.teacher.IsNil() {
		hd.in.teacher = mirrorOf[float32](hd.teacher, false)
	}
	hd.out.nll, hd.out.dh = mirrorOf[float32](hd.nll, false), mirrorOf[float32](hd.dh, false)
	return nil
}

// cutIntoRuns makes the runs of the parts.
func (hd *head) cutIntoRuns() (err error) {
	from := 0
	for i, to := range append(slices.Clone(hd.ends), hd.graph.Len()) {
		if to > from {
			if hd.runs[i], err = newRuns(hd.placed, sections(hd.placed, from, to, 0)); err != nil {
				return err
			}
		}
		from = to
	}
	return nil
}

// compute computes the parts up to one of them: scores, losses or everything.
func (hd *head) compute(s *sides, last headPart) error {
	for _, runs := range hd.runs[:last+1] {
		if err := s.compute(runs, func(run) {}); err != nil {
			return err
		}
	}
	return nil
}

// headPart is a part of a head's graph.
type headPart int

const (
	headScores headPart = iota
	headLosses
	headWhole
)

// unreadBackward reports whether the derivative of t does without the value of t, so that its memory may be overwritten.
func (r *rewriter) unreadBackward(t ggml.Tensor) bool {
	_, product := r.products[t]
	return product || t.Op() == "SCALE" || t.Op() == "ADD"
}

func (hd *head) close() {
	for _, runs := range hd.runs {
		closeRuns(runs)
	}
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
func (hd *head) run(s *sides, in headInput, seed []float32) (loss float64, err error) {
	n, last := int(hd.h.NE()[0]), headWhole
	if seed == nil {
		last = headLosses
	}
	for rows := in.rows; len(rows) > 0; {
		chunk := rows[:min(hd.rows, len(rows))]
		rows = rows[len(chunk):]
		hd.load(&s.bus, in, chunk)
		if err := hd.compute(s, last); err != nil {
			return 0, err
		}
		hd.out.nll.pull(&s.bus)
		if seed != nil {
			hd.out.dh.pull(&s.bus)
		}
		for i, row := range chunk {
			loss += float64(in.weights[row]) * float64(hd.out.nll.data[i])
			if seed != nil {
				copy(seed[row*n:(row+1)*n], hd.out.dh.data[i*n:])
			}
		}
	}
	return loss, s.failed
}

// load writes a chunk of rows into the leaves; rows behind the chunk's end get the weight 0.
func (hd *head) load(b *bus, in headInput, chunk []int) {
	n := int(hd.h.NE()[0])
	fillRows(hd.in.h.data, n, in.hidden, chunk)
	hd.in.h.push(b)
	if in.teacher != nil {
		fillRows(hd.in.teacher.data, n, in.teacher, chunk)
		hd.in.teacher.push(b)
	}
	w := hd.in.weights.data
	clear(w)
	for i, row := range chunk {
		w[i] = in.weights[row] * in.scale
	}
	hd.in.weights.push(b)
	if hd.ofRelevances() {
		hd.loadRelevances(b, in, chunk)
	} else {
		hd.loadTargets(b, in, chunk)
	}
}

// ofRelevances reports whether targets stand for relevances.
func (hd *head) ofRelevances() bool { return hd.targets.Type() == ggml.F32 }

func (hd *head) loadRelevances(b *bus, in headInput, chunk []int) {
	t := hd.in.relevances.data
	clear(t)
	for i, row := range chunk {
		t[i] = data.Relevance(in.targets[row])
	}
	hd.in.relevances.push(b)
}

func (hd *head) loadTargets(b *bus, in headInput, chunk []int) {
	ids := hd.in.targets.data
	clear(ids)
	for i, row := range chunk {
		ids[i] = in.targets[row]
	}
	if !hd.nll.IsLeaf() { // the loss of operations finds a target by its place in all logits
		for i := range ids {
			ids[i] += int32(i) * int32(hd.logits.NE()[0])
		}
	}
	hd.in.targets.push(b)
}

// fillRows writes the chosen rows of states [n, N] into to [n, C], and zeros behind them.
func fillRows(to []float32, n int, states []float32, rows []int) {
	clear(to[len(rows)*n:])
	for i, row := range rows {
		copy(to[i*n:(i+1)*n], states[row*n:])
	}
}
