package graph

import (
	"strings"

	"finetune/kernels"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Activation statistics say how large the inputs of the adapted weights are, and how much the loss depends on their
// outputs. The backward pass gathers them, which has both at hand: for x [n_in, N] and dy [n_out, N] the sums of squares by
// channel, Σ_t x[i, t]² and Σ_t dy[i, t]², over the tokens of documents with something to learn. Weights that read the same
// x (q, k and v) share one sum.

// Suffixes of a statistic's name, behind that of the weight.
const (
	SuffixInputs  = ".in_sum2"   // Σ x², [n_in]
	SuffixOutputs = ".out_grad2" // Σ dy², [n_out]
)

// statistics says where a graph sums its activation statistics.
type statistics struct {
	tokens   ggml.Tensor                 // F32 [N], 1 for a token that counts
	leaves   map[string]ggml.Tensor      // by name: the sum, F32 [n_in] or [n_out]
	byInput  map[ggml.Tensor]ggml.Tensor // x → the sum of its squares
	gathered map[string]ggml.Tensor      // by name: the sum that holds it, its own or that of another weight with the same x
}

// newStatistics adds the leaf of the tokens that count. It returns nil where there are no leaves to sum in.
func (r *rewriter) newStatistics(leaves map[string]ggml.Tensor) *statistics {
	if len(leaves) == 0 {
		return nil
	}
	leaf := r.ctx.NewTensor(ggml.F32, int64(r.shape.tokens())).SetName("tokens that count").SetInput()
	r.inputs[leaf] = &input{role: roleCounted, leaf: leaf}
	return &statistics{tokens: leaf, leaves: leaves, byInput: map[ggml.Tensor]ggml.Tensor{}, gathered: map[string]ggml.Tensor{}}
}

// addStatistics adds the squares of x [n_in, N], the value of p.x, and of dy [n_out, N], the derivative by the weight's
// output, to the statistics of the weight.
func (s *sweep) addStatistics(p *weightProduct, x, dy ggml.Tensor) {
	st, name := s.statistics, p.w.Name()
	if st == nil || st.leaves[name+SuffixInputs].IsNil() {
		return
	}
	if !p.output.IsNil() {
		dy = s.grads[p.output]
	}
	if _, ok := st.byInput[p.x]; !ok {
		st.byInput[p.x] = st.leaves[name+SuffixInputs]
		s.addSquares(st.byInput[p.x], x)
	}
	st.gathered[name+SuffixInputs], st.gathered[name+SuffixOutputs] = st.byInput[p.x], st.leaves[name+SuffixOutputs]
	s.addSquares(st.leaves[name+SuffixOutputs], dy)
}

// addSquares adds Σ_t tokens[t]·x[i, t]² to sum [n], for x [n, N].
func (s *sweep) addSquares(sum, x ggml.Tensor) {
	c, tokens := s.ctx, s.statistics.tokens
	if x = s.rows(x); s.ops.native {
		s.addNode(sum, kernels.AddSquares(c, sum, x, tokens))
		return
	}
	weighted := c.Mul(c.Sqr(x), c.Reshape(tokens, 1, tokens.Elements()))
	s.addNode(sum, c.AddInPlace(sum, s.ops.repeatBack(c, weighted, sum)))
}

// fillCounted writes 1 for the tokens of documents with something to learn, 0 for others, such as padding.
func (in *input) fillCounted(shape Shape, windows []data.Window) {
	for s, w := range windows {
		counted := in.floats.data[s*shape.Ctx:][:shape.Ctx]
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

// Statistics returns the activation statistics of the adapted weights by the weight's name and suffix: the sums of squares
// of its inputs [n_in], and of the scaled loss's derivatives by its outputs [n_out], over the tokens that Step has counted
// so far; none without Options.Statistics. The slices are the Engine's own memory, until Close. Weights with the same inputs
// share a slice. To go on from earlier sums, write them between steps and call PlaceStatistics and AddTokens.
func (e *Engine) Statistics() map[string][]float32 {
	all := map[string][]float32{}
	if e.statistics != nil {
		for name, sum := range e.statistics.gathered {
			all[name] = e.sums[sum].data
		}
	}
	return all
}

// PlaceStatistics has the next steps add to the sums that Statistics return, where these were changed. Where a device fails at that,
// the next step does.
func (e *Engine) PlaceStatistics() {
	if e.homes == nil {
		return
	}
	for name, leaf := range e.statisticsLeaves {
		e.sums[leaf].multiply(1 / e.statisticsScale(name))
		e.sums[leaf].push(&e.bus)
	}
	e.stores[onDevice].statistics.host.push(&e.bus)
	for name, leaf := range e.statisticsLeaves {
		e.sums[leaf].multiply(e.statisticsScale(name))
	}
}

// statisticsScale returns what makes a sum of the graph's, of scaled derivatives, one of Statistics; it is a power of two.
func (e *Engine) statisticsScale(name string) float32 {
	if strings.HasSuffix(name, SuffixOutputs) {
		return 1 / (e.lossScale * e.lossScale)
	}
	return 1
}

// Tokens returns how many tokens Statistics are over.
func (e *Engine) Tokens() int64 { return e.tokens }

// AddTokens counts the tokens of earlier sums, which the caller has written into Statistics.
func (e *Engine) AddTokens(n int64) { e.tokens += n }

// count adds the tokens of the batch that was loaded.
func (e *Engine) count() {
	if e.statistics == nil {
		return
	}
	for _, in := range e.inputs {
		if in.role == roleCounted {
			for _, counted := range in.floats.data {
				e.tokens += int64(counted)
			}
		}
	}
}
