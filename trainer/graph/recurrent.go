package graph

import (
	"slices"
	"strings"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Layers with a state: llama.cpp reads it from a cache in front of a batch, an empty one in the traced batch, and writes it
// back behind. In training each document is read whole and none goes on, so that the cache has no place in the graph: the
// two operations that read a state become kernels of our own, for which it is empty where a document begins.

// Names of the kernels that have derivative rules.
const (
	shortConv = "SHORT_CONV" // SSM_CONV without the tokens before the first
	deltaNet  = "DELTA_NET"  // GATED_DELTA_NET without the state before the first token
)

// recurrent returns our counterpart of a traced node around a state, and whether o is such a node. Those that only carry
// a state get none.
func (r *rewriter) recurrent(o ggml.Tensor) (t ggml.Tensor, ok bool, err error) {
	state := o.Src(0)
	switch {
	case o.Op() == "CONCAT" && r.states[state] && o.Param(0) == 0: // the state, and the tokens behind it
		r.states[o] = true
		return t, true, nil
	case o.Op() == "SSM_CONV" && r.states[state]:
		t, err = r.shortConv(o)
		return t, true, err
	case o.Op() == "GATED_DELTA_NET" && r.states[o.Src(5)]:
		t, err = r.deltaNet(o)
		return t, true, err
	case o.Op() == "VIEW" && state.Op() == "GATED_DELTA_NET":
		if o.ViewOffset() > 0 { // behind y lies the state
			r.states[o] = true
			return t, true, nil
		}
		t, err = r.operand(o, 0)
		if err == nil && t.NE() != o.NE() {
			err = r.unsupported(o, "a part of the result is read")
		}
		return t, true, err
	case !state.IsNil() && (r.states[state] || isStateCache(state)):
		if !slices.Contains(carriers, o.Op()) {
			return t, true, r.unsupported(o, "it reads a state that passes from token to token, and has no rule for that")
		}
		r.states[o] = true
		return t, true, nil
	}
	return t, false, nil
}

// carriers are the operations that take states from their cache and put them back.
var carriers = []string{"VIEW", "RESHAPE", "GET_ROWS", "SCALE", "CPY"}

// shortConv returns the convolution over the tokens alone, [channels, T, S], which llama.cpp transposes and puts behind
// the state.
func (r *rewriter) shortConv(o ggml.Tensor) (ggml.Tensor, error) {
	padded := o.Src(0)
	if padded.Op() != "CONCAT" {
		return padded, r.unsupported(o, "its input is no state with tokens behind it")
	}
	x, err := r.operand(padded, 1)
	if err != nil {
		return x, err
	}
	if x.Op() == "TRANSPOSE" && x.Src(0).NB()[0] == 4 {
		r.takeBack(x)
		x = x.Src(0)
	} else {
		x = r.add(r.ctx.Cont(r.add(r.ctx.Transpose(x))))
	}
	w, err := r.operand(o, 1)
	if err != nil || w.Type() != ggml.F32 {
		return w, r.or(err, o, "the weights of the convolution are no F32")
	}
	return r.add(kernels.ShortConv(r.ctx, x, w, r.places())), nil
}

func (r *rewriter) deltaNet(o ggml.Tensor) (ggml.Tensor, error) {
	var src [5]ggml.Tensor // q, k, v, g, β
	for i := range src {
		var err error
		if src[i], err = r.operand(o, i); err != nil {
			return o, err
		}
	}
	return r.add(kernels.DeltaNet(r.ctx, src[0], src[1], src[2], src[3], src[4], r.places())), nil
}

// places returns the leaf with the place of every token in its document, I32 [N].
func (r *rewriter) places() ggml.Tensor {
	for _, in := range r.inputs {
		if in.role == rolePlaces {
			return in.leaf
		}
	}
	leaf := r.ctx.NewTensor(ggml.I32, int64(r.shape.tokens())).SetName("places in documents").SetInput()
	r.inputs[leaf] = &input{role: rolePlaces, leaf: leaf, sign: 1}
	return leaf
}

// isStateCache reports whether a tensor is the cache of states, a view of it, or says where in it the states are.
func isStateCache(t ggml.Tensor) bool {
	if root := t.ViewSrc(); !root.IsNil() {
		t = root
	}
	name := t.Name()
	return t.IsLeaf() && (strings.HasPrefix(name, "cache_r_l") || strings.HasPrefix(name, "cache_s_l") || name == "rs_s_copy")
}

// With x before the first token of a document 0: dx and dw as kernels.ShortConvBack and ShortConvWeight have them.
func vjpShortConv(s *sweep, t, dy ggml.Tensor) error {
	x, w, pos := t.Src(0), t.Src(1), t.Src(2)
	dy = s.cont(dy)
	if s.needs[x] {
		s.addGrad(x, kernels.ShortConvBack(s.ctx, dy, w, pos))
	}
	if s.needs[w] {
		s.addGrad(w, kernels.ShortConvWeight(s.ctx, dy, s.value(x), w, pos))
	}
	return nil
}

// The derivatives are written down in delta.c.
func vjpDeltaNet(s *sweep, t, dy ggml.Tensor) error {
	if dy.NB()[0] != 4 {
		dy = s.cont(dy)
	}
	var src [5]ggml.Tensor
	for i := range src {
		src[i] = s.value(t.Src(i))
	}
	d := kernels.DeltaNetBack(s.ctx, src[0], src[1], src[2], src[3], src[4], t.Src(5), dy)
	for i, g := range []ggml.Tensor{d.Q, d.K, d.V, d.G, d.Beta} {
		s.addGrad(t.Src(i), g)
	}
	return nil
}
