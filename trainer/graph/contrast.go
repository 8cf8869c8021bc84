package graph

import (
	"math"

	"finetune/classify"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Contrast is a loss by which texts that belong together get states that point the same way: InfoNCE with the other texts of the
// batch as negatives, as sentence-transformers' MultipleNegativesRankingLoss. Of a query i with the text c(i) that belongs to it,
// among all texts j of the batch that are no queries
//
//	L_i = −log( exp(cos(h_i, h_c(i))/τ) / Σ_j exp(cos(h_i, h_j)/τ) )
//
// A text that is the same as c(i), token by token, is none of the j. Each query has the weight 1.
type Contrast struct {
	Temperature float32 // τ
	Dims        []int   // lengths of the beginnings of the states that the loss is the mean over (Matryoshka, arXiv 2205.13147); none: whole states
	Pooling     classify.Pooling
}

// contrast is what a Contrast needs to compute.
type contrast struct {
	Contrast
	n      int // of a state
	texts  []text
	unit   []float32 // [dim, texts], scratch
	length []float64 // [texts]
	scores []float64 // [texts], of one query
	dUnit  []float32 // [dim, texts], dL/d(unit)
}

// text is a document of a batch.
type text struct {
	row  int // the last token's place among all N
	role data.Role
	hash uint64 // of its tokens
	want int    // of a query: the text that belongs to it
}

// find lists the texts of the windows, each of which ends with a role as its target, and appends their last places to rows.
func (c *contrast) find(shape Shape, windows []data.Window, rows []int) []int {
	c.texts = c.texts[:0]
	for s, w := range windows {
		from := 0
		for i := range w.Doc {
			if i+1 < len(w.Doc) && w.Doc[i+1] == w.Doc[i] {
				continue
			}
			if role := data.Role(w.Targets[i]); role != data.RoleNone {
				c.add(text{row: s*shape.Ctx + i, role: role, hash: hashOf(w.Tokens[from : i+1])})
			}
			from = i + 1
		}
	}
	for _, t := range c.texts {
		rows = append(rows, t.row)
	}
	return rows
}

// add appends a text. What belongs to a query is the next text.
func (c *contrast) add(t text) {
	t.want = len(c.texts) + 1
	c.texts = append(c.texts, t)
}

// hashOf returns the FNV-1a of tokens, a word at a time.
func hashOf(tokens []int32) uint64 {
	h := uint64(14695981039346656037)
	for _, t := range tokens {
		h = (h ^ uint64(t)) * 1099511628211
	}
	return h
}

// run returns Σ L over the queries whose states are rows of states [n_embd, N]. With a seed, of which it writes the same rows, it
// adds scale·dL/d(states) there.
func (c *contrast) run(states, seed []float32, scale float32) (loss float64) {
	dims := c.Dims
	if len(dims) == 0 {
		dims = []int{c.n}
	}
	share := 1 / float64(len(dims))
	for _, dim := range dims {
		loss += share * c.dim(states, seed, dim, float64(scale)*share)
	}
	return loss
}

// dim does what run does with the first dim numbers of each state.
func (c *contrast) dim(states, seed []float32, dim int, scale float64) (loss float64) {
	c.normalize(states, dim)
	for i, t := range c.texts {
		if t.role == data.RoleQuery {
			loss += c.query(i, dim, scale, seed != nil)
		}
	}
	if seed != nil {
		c.toStates(seed, dim)
	}
	return loss
}

// normalize makes unit vectors of the states, and room for their derivatives.
func (c *contrast) normalize(states []float32, dim int) {
	k := len(c.texts)
	c.unit, c.dUnit = grown(c.unit, k*dim), grown(c.dUnit, k*dim)
	c.length, c.scores = grown(c.length, k), grown(c.scores, k)
	clear(c.dUnit)
	for i, t := range c.texts {
		h, u, sum := states[t.row*c.n:][:dim], c.unit[i*dim:][:dim], 0.0
		for _, v := range h {
			sum += float64(v) * float64(v)
		}
		c.length[i] = max(math.Sqrt(sum), leastLength)
		for d, v := range h {
			u[d] = float32(float64(v) / c.length[i])
		}
	}
}

// leastLength keeps the direction of a state of zeros finite.
const leastLength = 1e-12

func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// query returns the loss of query i, and adds its derivatives by the unit vectors.
func (c *contrast) query(i, dim int, scale float64, derive bool) float64 {
	q, right := c.unit[i*dim:][:dim], c.texts[i].want
	top := math.Inf(-1)
	for j := range c.texts {
		c.scores[j] = math.Inf(-1)
		if c.candidate(j, right) {
			c.scores[j] = dotOf(q, c.unit[j*dim:][:dim]) / float64(c.Temperature)
			top = max(top, c.scores[j])
		}
	}
	z := 0.0
	for _, s := range c.scores {
		z += math.Exp(s - top)
	}
	loss := math.Log(z) + top - c.scores[right]
	if !derive {
		return loss
	}
	dq := c.dUnit[i*dim:][:dim]
	for j, s := range c.scores {
		g := math.Exp(s-top) / z
		if j == right {
			g--
		}
		if g == 0 {
			continue
		}
		g *= scale / float64(c.Temperature)
		v, dv := c.unit[j*dim:][:dim], c.dUnit[j*dim:][:dim]
		for d := range q {
			dq[d] += float32(g) * v[d]
			dv[d] += float32(g) * q[d]
		}
	}
	return loss
}

// candidate reports whether text j is among those that a query with the right text chooses from.
func (c *contrast) candidate(j, right int) bool {
	return c.texts[j].role != data.RoleQuery && (j == right || c.texts[j].hash != c.texts[right].hash)
}

// toStates adds the derivatives by the states: with u = h/|h|, dh = (du − u·⟨u, du⟩)/|h|.
func (c *contrast) toStates(seed []float32, dim int) {
	for i, t := range c.texts {
		u, du := c.unit[i*dim:][:dim], c.dUnit[i*dim:][:dim]
		along := float32(dotOf(u, du))
		for d := range u {
			seed[t.row*c.n+d] += (du[d] - u[d]*along) / float32(c.length[i])
		}
	}
}

func dotOf(a, b []float32) (sum float64) {
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

// runContrast computes the forward pass and the loss of a Contrast: Σ L of the queries, and with a seed its derivative by the
// hidden states.
func (e *Engine) runContrast(windows []data.Window, seed []float32, scale float32) (float64, error) {
	hidden, err := e.Hidden(windows)
	if err != nil {
		return 0, err
	}
	c := e.contrast
	e.rows = c.find(e.shape, windows, e.rows[:0])
	if e.pooling != nil {
		e.pooling.find(e.shape, windows, e.rows)
		hidden = e.pooling.pool(hidden, c.n, e.rows)
	}
	loss := c.run(hidden, seed, scale)
	if e.pooling != nil && seed != nil {
		e.pooling.spread(seed, c.n, e.rows)
	}
	e.model.DropWeights(e.paged)
	return loss, nil
}

// newContrast returns what an engine computes a Contrast with.
func newContrast(c Contrast, hidden ggml.Tensor) *contrast {
	return &contrast{Contrast: c, n: int(hidden.NE()[0])}
}
