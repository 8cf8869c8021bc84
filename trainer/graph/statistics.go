package graph

import (
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// What the inputs of the adapted weights are like is gathered on the way back, where they are at hand for the gradients:
// for x [n_in, N] the sums of squares Σ_t x[i, t]² of its channels, over the tokens of documents of which something is
// learned. Weights that read the same x (q, k and v) share one sum.

// statistics is where the sums of a graph are.
type statistics struct {
	tokens ggml.Tensor            // F32 [N], 1 for a token that counts
	sums   map[string]ggml.Tensor // by weight: F32 [n_in]
	of     map[ggml.Tensor]string // activations → the weight whose sum has them
	shared map[string]ggml.Tensor // by weight: the sum that has its inputs, its own or another's
}

// newStatistics adds the leaf of the tokens that count. sums is none where nothing is gathered.
func (r *rewriter) newStatistics(sums map[string]ggml.Tensor) *statistics {
	if len(sums) == 0 {
		return nil
	}
	leaf := r.ctx.NewTensor(ggml.F32, int64(r.shape.Tokens())).SetName("tokens that count").SetInput()
	r.inputs[leaf] = &input{role: roleCounted, leaf: leaf}
	return &statistics{tokens: leaf, sums: sums, of: map[ggml.Tensor]string{}, shared: map[string]ggml.Tensor{}}
}

// observe adds the squares of x, the inputs of a product, to the sum of its weight. x is the value of u.x.
func (s *sweep) observe(u *use, x ggml.Tensor) {
	name := u.w.Name()
	if s.statistics == nil || s.statistics.sums[name].IsNil() {
		return
	}
	st := s.statistics
	if other, ok := st.of[u.x]; ok {
		st.shared[name] = st.shared[other]
		return
	}
	sum := st.sums[name]
	st.of[u.x], st.shared[name] = name, sum
	s.each(sum, s.with.addSquares(s.ctx, sum, s.rows(x), st.tokens))
}

// addSquares is Σ_t tokens[t]·x[i, t]², added to sum [n_in], for x [n_in, N].
func (p products) addSquares(c *ggml.Context, sum, x, tokens ggml.Tensor) ggml.Tensor {
	if p.native {
		return c.AddSquares(sum, x, tokens)
	}
	weighted := c.Mul(c.Sqr(x), c.Reshape(tokens, 1, tokens.Elements()))
	return c.AddInPlace(sum, c.RepeatBack(weighted, sum))
}

// fillCounted marks the tokens of documents of which something is learned: not padding.
func (in *input) fillCounted(shape Shape, windows []data.Window) {
	for s, w := range windows {
		counted := in.leaf.Floats()[s*shape.Ctx:][:shape.Ctx]
		for from := 0; from < len(w.Doc); {
			to, learned := from, float32(0)
			for ; to < len(w.Doc) && w.Doc[to] == w.Doc[from]; to++ {
				if w.Weight[to] != 0 {
					learned = 1
				}
			}
			for i := from; i < to; i++ {
				counted[i] = learned
			}
			from = to
		}
	}
}

// Squares are the sums Σ_t x[i, t]² of the inputs of each adapted weight, [n_in], over the tokens that the calls of Step
// have counted so far; none without Options.Statistics. The slices are the Engine's own memory, until Close, and may be
// written between steps, to go on from earlier sums with AddTokens. Weights with the same inputs share a slice.
func (e *Engine) Squares() map[string][]float32 {
	squares := map[string][]float32{}
	if e.statistics != nil {
		for name, sum := range e.statistics.shared {
			squares[name] = sum.Floats()
		}
	}
	return squares
}

// Tokens is how many tokens Squares are over.
func (e *Engine) Tokens() int64 { return e.tokens }

// AddTokens counts tokens of earlier sums, which the caller has added to Squares.
func (e *Engine) AddTokens(n int64) { e.tokens += n }

// count adds the tokens of the batch that was loaded.
func (e *Engine) count() {
	if e.statistics == nil {
		return
	}
	for _, counted := range e.statistics.tokens.Floats() {
		e.tokens += int64(counted)
	}
}
