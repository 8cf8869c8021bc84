package graph

import (
	"fmt"
	"slices"
	"strings"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// rewriter repeats traced nodes in a context of our own. It keeps the nodes in order, and which of them a gradient has
// to flow through, for the backward sweep.
type rewriter struct {
	arch     string
	shape    Shape
	ctx      *ggml.Context
	traced   map[ggml.Tensor]ggml.Tensor    // traced tensor → ours
	order    []ggml.Tensor                  // our nodes, forward
	needs    map[ggml.Tensor]bool           // our tensors that depend on a trained parameter
	products map[ggml.Tensor]*weightProduct // our node → the product with a weight whose result it is
	ops      opSet                          // of the side that the nodes under way are computed on
	sets     opSets
	here     place                 // that side
	sideOf   map[ggml.Tensor]place // our nodes → where they were meant to be computed
	trainedSet
	cacheless bool                        // llama.cpp keeps no K and V of this model: a batch attends to itself
	inputs    map[ggml.Tensor]*input      // traced leaf → input
	negPos    map[ggml.Tensor]ggml.Tensor // our positions leaf → the leaf with their negatives
	cache     map[ggml.Tensor]ggml.Tensor // traced cache leaf → our fresh K or V
	states    map[ggml.Tensor]bool        // traced nodes that hold a recurrent layer's state
	branch    map[ggml.Tensor]string      // traced node of a LoRA branch → weight name

	readers map[ggml.Tensor]int         // traced node → how many nodes read it
	tables  map[angles]ggml.Tensor      // rotations' tables
	spans   map[ggml.Tensor]ggml.Tensor // our mask → its spans
}

// weightProduct is one product with a weight, y = (W + ΔW)·x; ΔW is zero for one without an adapter.
type weightProduct struct {
	linear linear
	w, x   ggml.Tensor // W [n_in, n_out], x [n_in, N]
	output ggml.Tensor // y where it is a node behind the product, as a DoRA's; else none
}

// trainedSet is what a graph trains: factors beside weights of the base, or tensors of the base themselves.
type trainedSet struct {
	linears map[string]linear           // weight name → its adapted product
	masters map[string]ggml.Tensor      // tensor name → the leaf that stands in for it
	totals  map[ggml.Tensor]ggml.Tensor // trainable leaf → the leaf in which its gradient is summed
}

func newRewriter(arch string, shape Shape, ctx *ggml.Context, ops opSets, set trainedSet) *rewriter {
	r := &rewriter{
		arch: arch, shape: shape, ctx: ctx, ops: ops.at[onCPU], sets: ops, sideOf: map[ggml.Tensor]place{}, trainedSet: set,
		traced: map[ggml.Tensor]ggml.Tensor{}, needs: map[ggml.Tensor]bool{}, products: map[ggml.Tensor]*weightProduct{},
		inputs: map[ggml.Tensor]*input{}, negPos: map[ggml.Tensor]ggml.Tensor{},
		cache: map[ggml.Tensor]ggml.Tensor{}, states: map[ggml.Tensor]bool{}, branch: map[ggml.Tensor]string{},
		readers: map[ggml.Tensor]int{}, tables: map[angles]ggml.Tensor{}, spans: map[ggml.Tensor]ggml.Tensor{},
	}
	for leaf := range set.totals {
		r.needs[leaf] = true
	}
	r.enter(ops.homes.beginning())
	return r
}

// add appends one of our nodes to the order.
func (r *rewriter) add(t ggml.Tensor) ggml.Tensor {
	for i := range ggml.MaxSrc {
		if src := t.Src(i); !src.IsNil() && src != t && r.needs[src] {
			r.needs[t] = true
		}
	}
	r.append(t)
	return t
}

// append puts one of our nodes behind the others.
func (r *rewriter) append(t ggml.Tensor) {
	r.sideOf[t] = r.here
	r.order = append(r.order, t)
}

// enter goes to a side: what follows is made of its operations.
func (r *rewriter) enter(side place) { r.here, r.ops = side, r.sets.at[side] }

// follow goes to the side where the weights lie that a traced node reads. A table of embeddings is read where the base is mapped.
func (r *rewriter) follow(o ggml.Tensor) {
	if r.sets.homes == nil || o.Op() == "GET_ROWS" {
		return
	}
	for i := range ggml.MaxSrc {
		if src := o.Src(i); !src.IsNil() && src.IsLeaf() && src.IsWeight() {
			if home, ok := r.sets.homes.of(src.Name()); ok {
				r.enter(home)
			}
		}
	}
}

// rewrite repeats traced nodes.
func (r *rewriter) rewrite(nodes []ggml.Tensor) error {
	r.countReaders(nodes)
	for _, o := range nodes {
		r.follow(o)
		t, err := r.emit(o)
		if err != nil {
			return err
		}
		if !t.IsNil() {
			r.traced[o] = t
		}
	}
	return nil
}

// emit returns our counterpart of a traced node. A node that has no place in training gets none: those of the cache, and of
// a LoRA branch, whose sum with the base product becomes the adapted product.
func (r *rewriter) emit(o ggml.Tensor) (ggml.Tensor, error) {
	none := ggml.Tensor{}
	if w, ok := r.inBranch(o); ok {
		if o.Op() != "ADD" {
			r.branch[o] = w
			return none, nil
		}
		return r.adapted(o, w)
	}
	switch {
	case o.Op() == "SET_ROWS" && isCache(o):
		fresh, err := r.operand(unpadded(o), 0)
		r.cache[o.ViewSrc()] = fresh
		return none, err
	case isCache(o) && o.Src(0).IsLeaf():
		return none, nil // a view is made when it is read: by then its write was seen
	}
	if t, ok, err := r.recurrent(o); ok {
		return t, err
	}
	switch o.Op() {
	case "GET_ROWS":
		return r.getRows(o)
	case "RESHAPE", "VIEW", "PERMUTE", "TRANSPOSE":
		return r.reshaped(o)
	case "CONT":
		x, err := r.operand(o, 0)
		if err == nil && r.cacheless && o.NE() != o.Src(0).NE() && x.NE() != o.Src(0).NE() && x.Elements() == o.Elements() { // by window
			ne := o.NE()
			return r.add(r.ctx.Reshape(r.add(r.ctx.Cont(x)), ne[:]...)), nil
		}
	case "CPY":
		x, err := r.operand(o, 0)
		if err != nil || o.Src(1) != o {
			return none, r.or(err, o, "a copy into an existing tensor cannot be trained through")
		}
		return r.add(r.ctx.Cast(x, o.Type())), nil
	}
	return r.same(o)
}

// same repeats a node over our operands. Its shape is the traced one, except around the attention scores, where llama.cpp
// has a cache padded to 256 cells and we have T fresh tokens.
func (r *rewriter) same(o ggml.Tensor) (ggml.Tensor, error) {
	var src []ggml.Tensor
	unchanged := true
	for i := range ggml.MaxSrc {
		s, err := r.operand(o, i)
		if err != nil {
			return s, err
		}
		if o.Op() == "MUL_MAT" && !r.ops.native && i < 2 && !s.IsContiguous() && s.Type() == ggml.F32 {
			s = r.add(r.ctx.Cont(s)) // ggml multiplies rows, and some backends have scattered ones in half precision only
		}
		unchanged = unchanged && (s.IsNil() || s.NE() == o.Src(i).NE())
		src = append(src, s)
	}
	if t, ok := r.fused(o, src); ok {
		return t, nil
	}
	if o.Op() == "MUL_MAT" && isMatrix(o.Src(0)) && src[1].Type() == ggml.F32 {
		return r.product(&weightProduct{linear: unadapted{r.ops}, w: src[0], x: src[1]}), nil
	}
	if o.Op() == "MUL_MAT" && r.ops.native && src[0].Type() == ggml.F32 && src[1].Type() == ggml.F32 {
		return r.add(kernels.BatchMul(r.ctx, src[0], src[1])), nil
	}
	ne := o.NE()
	switch {
	case o.Op() == "MUL_MAT":
		a, b := src[0].NE(), src[1].NE()
		ne = [4]int64{a[1], b[1], b[2], b[3]}
	case unchanged:
	case o.NE() == o.Src(0).NE(): // element by element, or by rows
		ne = src[0].NE()
	default:
		return ggml.Tensor{}, r.unsupported(o, "its shape depends on the size of the cache in a way that has no rule")
	}
	t := r.ctx.Like(o, ne, src...)
	if o.Op() == "MUL_MAT" && !r.ops.native {
		t.Exact()
	}
	return r.add(t), nil
}

// operand returns our counterpart of the i-th source of a traced node, none if it has none.
func (r *rewriter) operand(o ggml.Tensor, i int) (ggml.Tensor, error) {
	src := o.Src(i)
	if src.IsNil() {
		return src, nil
	}
	if t, ok := r.traced[src]; ok {
		return t, nil
	}
	var t ggml.Tensor
	var err error
	switch {
	case isCache(src) && src.Op() == "VIEW":
		t, err = r.cacheView(src)
	case src.IsLeaf() && src.IsWeight():
		t = r.weight(o, src)
	case src.IsLeaf():
		t, err = r.input(o, i, src)
	default:
		err = r.unsupported(o, fmt.Sprintf("it reads %q, which has no place in training", src.Name()))
	}
	if err != nil {
		return t, err
	}
	r.traced[src] = t
	return t, nil
}

// weight returns what a node reads in the place of a tensor of the base: the leaf that is trained for it, the tensor where it
// lies, or its copy on the device.
func (r *rewriter) weight(o, w ggml.Tensor) ggml.Tensor {
	if master, ok := r.masters[w.Name()]; ok {
		return master
	}
	if r.here == onDevice && o.Op() != "GET_ROWS" {
		return r.sets.homes.twin(w)
	}
	return w
}

// cacheView returns the fresh tensor that stands in for a view of the cache: K [hd, n_head_kv, n_kv, S] or, transposed, V [n_kv, n_head_kv, hd, S].
func (r *rewriter) cacheView(o ggml.Tensor) (ggml.Tensor, error) {
	fresh, ok := r.cache[o.ViewSrc()]
	if !ok || o.Op() != "VIEW" {
		return fresh, r.unsupported(o, "a cache is read in a way that has no rule")
	}
	ne, nb, ctx, seqs := o.NE(), o.NB(), int64(r.shape.Ctx), int64(r.shape.Seqs)
	if !fresh.IsContiguous() {
		fresh = r.add(r.ctx.Cont(fresh))
	}
	hd, transposed := ne[0], nb[1] > nb[2]
	if transposed {
		hd = ne[2]
	}
	if fresh.Elements() != hd*ne[1]*ctx*seqs || ne[3] != seqs {
		return fresh, r.unsupported(o, "the cache holds something else than one row a token")
	}
	t := r.add(r.ctx.Reshape(fresh, hd, ne[1], ctx, seqs))
	if transposed {
		t = r.add(r.ctx.Permute(t, [4]int{2, 1, 0, 3})) // [T, n_head_kv, hd, S]
	}
	return t, nil
}

// reshaped repeats the operations that show memory in another shape.
func (r *rewriter) reshaped(o ggml.Tensor) (ggml.Tensor, error) {
	x, err := r.operand(o, 0)
	if err != nil {
		return x, err
	}
	switch o.Op() {
	case "PERMUTE":
		return r.add(r.ctx.Permute(r.byWindow(o, x), permutation(o))), nil
	case "TRANSPOSE":
		return r.add(r.ctx.Transpose(x)), nil
	}
	if x.NE() != o.Src(0).NE() || x.NB() != o.Src(0).NB() {
		return x, r.unsupported(o, "it sees memory that lies differently in training")
	}
	ne := o.NE()
	if o.Op() == "RESHAPE" {
		return r.add(r.ctx.Reshape(x, ne[:]...)), nil
	}
	return r.add(r.ctx.View(x, ne, o.NB(), viewOffset(o))), nil
}

// byWindow returns x, or where o puts the heads of all tokens before the tokens, x with a dimension for the windows. llama.cpp
// without a cache lets a batch attend to itself as a whole, and hides the other sequences by the mask; a window of ours attends
// to itself only.
func (r *rewriter) byWindow(o, x ggml.Tensor) ggml.Tensor {
	ne, nb, ctx, seqs := x.NE(), x.NB(), int64(r.shape.Ctx), int64(r.shape.Seqs)
	if !r.cacheless || seqs == 1 || permutation(o) != [4]int{0, 2, 1, 3} || ne[2] != ctx*seqs || ne[3] != 1 {
		return x
	}
	return r.add(r.ctx.View(x, [4]int64{ne[0], ne[1], ctx, seqs}, [4]int64{nb[0], nb[1], nb[2], nb[2] * ctx}, 0))
}

// getRows repeats GET_ROWS for embeddings by token or position. Where it chooses the rows that want logits it returns the
// operand: here all rows do.
func (r *rewriter) getRows(o ggml.Tensor) (ggml.Tensor, error) {
	table, ids := o.Src(0), o.Src(1)
	if table.IsWeight() {
		return r.same(o)
	}
	if ids.IsLeaf() && ids.Type() == ggml.I32 && ids.NE() == [4]int64{int64(r.shape.tokens()), 1, 1, 1} && o.NE() == table.NE() {
		return r.operand(o, 0)
	}
	return table, r.unsupported(o, "rows are chosen by the data")
}

// inBranch reports whether a traced node belongs to the LoRA branch of a weight: B·(A·x), scaled, added.
func (r *rewriter) inBranch(o ggml.Tensor) (weight string, ok bool) {
	if o.Op() == "MUL_MAT" {
		if w, ok := strings.CutSuffix(o.Src(0).Name(), ".lora_a"); ok {
			return w, true
		}
	}
	for i := range 2 {
		if w, ok := r.branch[o.Src(i)]; ok {
			return w, true
		}
	}
	return "", false
}

// adapted returns the adapted product that replaces the sum of the base product and the LoRA branch of weight w.
func (r *rewriter) adapted(o ggml.Tensor, w string) (ggml.Tensor, error) {
	product := o.Src(0)
	if _, ok := r.branch[product]; ok {
		product = o.Src(1)
	}
	if product.Op() != "MUL_MAT" || product.Src(0).Name() != w {
		return product, r.unsupported(o, fmt.Sprintf("the adapter of %q is applied in a way that has no rule", w))
	}
	x, err := r.operand(product, 1)
	if err != nil {
		return x, err
	}
	return r.adapt(&weightProduct{linear: r.linears[w], w: r.weight(product, product.Src(0)), x: x}), nil
}

// adapt adds the product with an adapted weight, and the nodes that its method puts behind it.
func (r *rewriter) adapt(p *weightProduct) ggml.Tensor {
	y := r.product(p)
	if d, ok := p.linear.(*dora); ok {
		return r.rescaled(d, p, y)
	}
	return y
}

// product adds the node of a product with a weight and returns it.
func (r *rewriter) product(p *weightProduct) ggml.Tensor {
	y := p.linear.forward(r.ctx, p.w, p.x)
	r.products[y] = p
	if r.needs[p.x] || r.needs[p.w] || len(p.linear.leaves()) > 0 {
		r.needs[y] = true
	}
	r.append(y)
	return y
}

// tokenTables are the tables that are read by token; that by layer is Gemma 4's and Gemma 3n's.
var tokenTables = []string{"token_embd", "per_layer_token_embd"}

// input makes the leaf for an input of llama.cpp's, by the operation that reads it.
func (r *rewriter) input(o ggml.Tensor, i int, leaf ggml.Tensor) (ggml.Tensor, error) {
	in := &input{sign: 1}
	ne := leaf.NE()
	switch {
	case o.Op() == "GET_ROWS" && i == 1 && slices.Contains(tokenTables, strings.TrimSuffix(o.Src(0).Name(), ".weight")):
		in.role = roleTokens
	case o.Op() == "GET_ROWS" && i == 1 && strings.HasPrefix(o.Src(0).Name(), "position_embd."), o.Op() == "ROPE" && i == 1:
		in.role = rolePositions
		in.ints = append(in.ints, leaf.Ints()...)
	case o.Op() == "SOFT_MAX" && i == 1 && leaf.Type() == ggml.F32 && ne[1] == int64(r.shape.Ctx) && ne[3] == int64(r.shape.Seqs),
		r.cacheless && o.Op() == "SOFT_MAX" && i == 1 && leaf.Type() == ggml.F32 && ne[0] == ne[1] && ne[1] == int64(r.shape.tokens()) && ne[3] == 1:
		in.role = roleMask
		in.maskTemplate = newMaskTemplate(leaf, r.shape.Ctx)
		ne = [4]int64{int64(r.shape.Ctx), int64(r.shape.Ctx), 1, int64(r.shape.Seqs)}
	default:
		return leaf, r.unsupported(o, fmt.Sprintf("input %d is of a kind that has no rule", i))
	}
	in.leaf = r.ctx.NewTensor(leaf.Type(), ne[:]...).SetName(leaf.Name()).SetInput()
	r.inputs[leaf] = in
	return in.leaf, nil
}

// newMaskTemplate cuts the first sequence's entries, [T, T], out of the traced mask [n_kv, T, 1, S]: in the empty cache
// token i got cell i.
func newMaskTemplate(leaf ggml.Tensor, ctx int) []float32 {
	mask, nKV := leaf.Floats(), int(leaf.NE()[0])
	template := make([]float32, 0, ctx*ctx)
	for q := range ctx {
		template = append(template, mask[q*nKV:][:ctx]...)
	}
	return template
}

// negated returns the leaf that holds the negatives of the positions in leaf pos.
func (r *rewriter) negated(pos ggml.Tensor) ggml.Tensor {
	if leaf, ok := r.negPos[pos]; ok {
		return leaf
	}
	ne := pos.NE()
	leaf := r.ctx.NewTensor(ggml.I32, ne[:]...).SetName("negated positions").SetInput()
	for _, in := range r.inputs {
		if in.leaf == pos {
			r.inputs[leaf] = &input{role: rolePositions, leaf: leaf, ints: in.ints, sign: -1}
			break
		}
	}
	r.negPos[pos] = leaf
	return leaf
}

func (r *rewriter) unsupported(o ggml.Tensor, why string) error {
	return &UnsupportedError{Arch: r.arch, Op: o.Op(), Node: o.Name(), Why: why}
}

func (r *rewriter) or(err error, o ggml.Tensor, why string) error {
	if err != nil {
		return err
	}
	return r.unsupported(o, why)
}

// isCache reports whether a tensor is the KV cache, or a view of it.
func isCache(t ggml.Tensor) bool {
	if root := t.ViewSrc(); !root.IsNil() {
		t = root
	}
	name := t.Name()
	return t.IsLeaf() && (strings.HasPrefix(name, "cache_k_l") || strings.HasPrefix(name, "cache_v_l"))
}

// unpadded returns the node whose first operand is what a write puts into the cache. Where the layers' V are of different
// widths, zeros widen each to the widest: what is written then is a PAD in another shape, and nobody reads the zeros.
func unpadded(write ggml.Tensor) ggml.Tensor {
	if x := write.Src(0); x.Op() == "RESHAPE" && x.Src(0).Op() == "PAD" {
		return x.Src(0)
	}
	return write
}

// isMatrix reports whether t is a weight [n_in, n_out].
func isMatrix(t ggml.Tensor) bool {
	ne := t.NE()
	return t.IsLeaf() && t.IsWeight() && ne[2] == 1 && ne[3] == 1
}

// permutation returns the axes of a PERMUTE node.
func permutation(t ggml.Tensor) [4]int {
	return [4]int{int(t.Param(0)), int(t.Param(1)), int(t.Param(2)), int(t.Param(3))}
}

// viewOffset returns the offset in bytes of a VIEW in its operand, which may be a view itself.
func viewOffset(t ggml.Tensor) int64 { return offsetIn(t, t.Src(0)) }

// offsetIn returns the offset in bytes of view t in x.
func offsetIn(t, x ggml.Tensor) int64 {
	if x.ViewSrc().IsNil() {
		return t.ViewOffset()
	}
	return t.ViewOffset() - x.ViewOffset()
}
