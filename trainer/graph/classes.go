package graph

import (
	"finetune/classify"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Classes is a linear classifier that is trained beside the rest: scores = Wᵀ·h + b of one state for each document. The place
// in a document that has a weight, which there is one of, has the number of its class as its target. A classifier of one score is a
// reranker: the score z is the logit of a relevance t, which the target stands for (data.Relevance), and the loss the binary
// cross-entropy −t·log σ(z) − (1−t)·log(1−σ(z)).
type Classes struct {
	Weights []float32        // [n_embd, n_classes], the caller's
	Biases  []float32        // [n_classes], the caller's
	Pooling classify.Pooling // of a document; PoolLast is the state at the place with a weight
}

func (c *Classes) count() int { return len(c.Biases) }

// rank reports whether the one score is a relevance; of none it is not.
func (c *Classes) rank() bool { return c != nil && c.count() == 1 }

// params are the classifier's tensors as others that are trained.
func (c *Classes) params() []param {
	n := int64(c.count())
	return []param{
		{name: classify.TensorWeights, weight: classify.TensorWeights, ne: []int64{int64(len(c.Weights)) / n, n}, data: c.Weights},
		{name: classify.TensorBiases, weight: classify.TensorBiases, ne: []int64{n}, data: c.Biases},
	}
}

// scores adds the nodes of the logits [n_classes, C] of states h [n_embd, C].
func (c *Classes) scores(r *rewriter, h ggml.Tensor) ggml.Tensor {
	y := r.product(&weightProduct{linear: unadapted{r.ops}, w: r.masters[classify.TensorWeights], x: h})
	return r.add(r.ctx.Add(y, r.masters[classify.TensorBiases]))
}

// pooling makes one state of those of a document, and the other way round of its gradient.
type pooling struct {
	first  bool      // of the first token, else the mean
	states []float32 // [n_embd, N], of which the rows that are read are written
	row    []float32 // scratch, [n_embd]
	spans  []span    // of the documents, in the order of Engine.rows
}

// span is the places of a document among all N of a batch.
type span struct{ from, to int }

// find notes the documents of the trained rows.
func (p *pooling) find(shape Shape, windows []data.Window, rows []int) {
	p.spans = p.spans[:0]
	for _, row := range rows {
		w, at := windows[row/shape.Ctx], row%shape.Ctx
		from, to := at, at+1
		for from > 0 && w.Doc[from-1] == w.Doc[at] {
			from--
		}
		for to < len(w.Doc) && w.Doc[to] == w.Doc[at] {
			to++
		}
		start := row - at
		p.spans = append(p.spans, span{start + from, start + to})
	}
}

// pool returns states in which each of the rows has its document's: the first, or the mean.
func (p *pooling) pool(states []float32, n int, rows []int) []float32 {
	if len(p.states) != len(states) {
		p.states = make([]float32, len(states))
	}
	for i, row := range rows {
		s, mean := p.spans[i], p.states[row*n:][:n]
		copy(mean, states[s.from*n:])
		if p.first {
			continue
		}
		for t := s.from + 1; t < s.to; t++ {
			for k, v := range states[t*n:][:n] {
				mean[k] += v
			}
		}
		share := 1 / float32(s.to-s.from)
		for k := range mean {
			mean[k] *= share
		}
	}
	return p.states
}

// spread gives the gradient by each row's state to the states that it was made of.
func (p *pooling) spread(seed []float32, n int, rows []int) {
	for i, row := range rows {
		s := p.spans[i]
		p.row = append(p.row[:0], seed[row*n:][:n]...)
		if p.first {
			clear(seed[row*n:][:n])
			copy(seed[s.from*n:], p.row)
			continue
		}
		share := 1 / float32(s.to-s.from)
		for t := s.from; t < s.to; t++ {
			for k, v := range p.row {
				seed[t*n+k] = v * share
			}
		}
	}
}
