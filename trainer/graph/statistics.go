package graph

import (
	"finetune/kernels"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// What the inputs of the adapted weights are like, and how much the loss depends on their outputs, is gathered on the way
// back, where both are at hand for the gradients: for x [n_in, N] and dy [n_out, N] the sums of squares by channel,
// Σ_t x[i, t]² and Σ_t dy[i, t]², over the tokens of documents of which something is learned. Weights that read the same x
// (q, k and v) share one sum.

// Suffixes of the sums' names behind that of the weight.
const (
	SuffixInputs  = ".in_sum2"   // Σ x², [n_in]
	SuffixOutputs = ".out_grad2" // Σ dy², [n_out]
)

// statistics is where the sums of a graph are.
type statistics struct {
	tokens ggml.Tensor                 // F32 [N], 1 for a token that counts
	sums   map[string]ggml.Tensor      // by name: F32 [n_in] or [n_out]
	of     map[ggml.Tensor]ggml.Tensor // activations → the sum that has them
	used   map[string]ggml.Tensor      // by name: the sum that has them, its own or that of another weight
}

// newStatistics adds the leaf of the tokens that count. sums is none where nothing is gathered.
func (r *rewriter) newStatistics(sums map[string]ggml.Tensor) *statistics {
	if len(sums) == 0 {
		return nil
	}
	leaf := r.ctx.NewTensor(ggml.F32, int64(r.shape.Tokens())).SetName("tokens that count").SetInput()
	r.inputs[leaf] = &input{role: roleCounted, leaf: leaf}
	return &statistics{tokens: leaf, sums: sums, of: map[ggml.Tensor]ggml.Tensor{}, used: map[string]ggml.Tensor{}}
}

// observe adds the squares of x, the inputs of a product, and of dy, the derivatives by what the weight gives, to the sums
// of the weight. x is the value of u.x.
func (s *sweep) observe(u *use, x, dy ggml.Tensor) {
	st, name := s.statistics, u.w.Name()
	if st == nil || st.sums[name+SuffixInputs].IsNil() {
		return
	}
	if !u.output.IsNil() {
		dy = s.grads[u.output]
	}
	if _, ok := st.of[u.x]; !ok {
		st.of[u.x] = st.sums[name+SuffixInputs]
		s.square(st.of[u.x], x)
	}
	st.used[name+SuffixInputs], st.used[name+SuffixOutputs] = st.of[u.x], st.sums[name+SuffixOutputs]
	s.square(st.sums[name+SuffixOutputs], dy)
}

// square is Σ_t tokens[t]·x[i, t]², added to sum [n], for x [n, N].
func (s *sweep) square(sum, x ggml.Tensor) {
	c, tokens := s.ctx, s.statistics.tokens
	if x = s.rows(x); s.with.native {
		s.each(sum, kernels.AddSquares(c, sum, x, tokens))
		return
	}
	weighted := c.Mul(c.Sqr(x), c.Reshape(tokens, 1, tokens.Elements()))
	s.each(sum, c.AddInPlace(sum, c.RepeatBack(weighted, sum)))
}

// fillCounted marks the tokens of documents of which something is learned: not padding.
func (in *input) fillCounted(shape Shape, windows []data.Window) {
	for s, w := range windows {
		counted := in.leaf.Floats()[s*shape.Ctx:][:shape.Ctx]
		for from := 0; from < len(w.Doc); {
			to, learned := from, float32(0)
			for ; to < len(w.Doc) && w.Doc[to] == w.Doc[from]; to++ {
				if w.LossMask[to] != 0 {
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

// Squares are the sums of squares of the inputs of each adapted weight, and of the loss's derivatives by its outputs, over
// the tokens that the calls of Step have counted so far, by the weight's name and suffix; none without Options.Statistics.
// The derivatives are those of the scaled loss. The slices are the Engine's own memory, until Close, and may be written
// between steps, to go on from earlier sums with AddTokens. Weights with the same inputs share a slice.
func (e *Engine) Squares() map[string][]float32 {
	squares := map[string][]float32{}
	if e.statistics != nil {
		for name, sum := range e.statistics.used {
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
