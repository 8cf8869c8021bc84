// Package ngram counts: how well a text is predicted by what came behind the last few tokens in another text, smoothed as
// Kneser and Ney do. It is the yardstick of a small model, which has to do better on the same tokens.
//
//	m, err := ngram.Count(3, vocab, slices.Values(documents))
package ngram

import (
	"fmt"
	"iter"
	"math"
	"math/bits"
	"slices"
	"sort"
	"strconv"

	"finetune/internal/setting"
)

// Model is a model of order n that only counts: the probability of a token follows from how
// often it came behind the n−1 tokens before, mixed with what came behind fewer of them, down
// to all tokens alike. It is interpolated Kneser-Ney with three discounts of Chen and Goodman
// ("An Empirical Study of Smoothing Techniques for Language Modeling", 1998):
//
//	p(w|uv) = max(0, c(uvw) − D(c(uvw))) / c(uv·)  +  γ(uv) · p(w|v)
//
// where c counts at the highest order, and below it c(vw) is the number of different tokens
// that came in front of vw. D is D₁, D₂ or D₃ for a count of one, two or more, estimated of
// how many have the counts one to four; γ is what the discounts took. At the bottom is 1/V.
// Behind what never came, and where a text has just begun, p is that of the order below.
//
// It is never changed after Count: goroutines may share it.
type Model struct {
	order  int
	vocab  int
	bits   int     // of a token in a packed n-gram
	levels []level // levels[k-1] are the n-grams of k tokens
}

// level is all n-grams of one length, sorted. An n-gram is packed with its last token in the
// lowest bits, so that those of one context stand side by side.
type level struct {
	grams    []uint64
	counts   []uint32
	contexts []uint64  // sorted, packed like the grams
	from     []int32   // [contexts+1] where the grams of a context begin
	total    []float64 // [contexts] sum of the counts
	left     []float64 // [contexts] γ
	discount [3]float64
}

// Document is tokens that follow each other.
type Document struct {
	Tokens   []int32
	LossMask []bool // LossMask[i]: token i is to be predicted; the first one never is
}

// Count counts the n-grams of documents over a vocabulary. Counted are the learned
// tokens, behind whatever stands before them.
//
// Refused are orders that do not go into 64 bits (order · bits of the vocabulary), a
// *setting.Error; tokens that are not in the vocabulary; and documents in which nothing is learned.
func Count(order, vocab int, documents iter.Seq[Document]) (*Model, error) {
	const wordBits = 64
	width := bits.Len(uint(max(vocab-1, 1)))
	switch {
	case vocab < 1:
		return nil, fmt.Errorf("ngram: a vocabulary of %d tokens, want 1 or more", vocab)
	case order < 1 || order*width > wordBits:
		return nil, &setting.Error{Key: "ngram-order", Want: fmt.Sprintf("1 to %d over a vocabulary of %d", wordBits/width, vocab), Got: strconv.Itoa(order)}
	}
	g := &Model{order: order, vocab: vocab, bits: width, levels: make([]level, order)}
	all, begun, err := g.collect(documents)
	if err != nil {
		return nil, err
	}
	for k := order; k >= 1; k-- {
		grams := all
		if k < order {
			grams = append(g.withoutFirst(k+1), distinct(begun[k-1])...)
		}
		if len(grams) > math.MaxInt32 {
			return nil, fmt.Errorf("base: %d tokens to count, want at most %d", len(grams), math.MaxInt32)
		}
		g.levels[k-1] = g.newLevel(grams)
	}
	if len(g.levels[0].grams) == 0 {
		return nil, fmt.Errorf("base: no learned token in the text to count")
	}
	return g, nil
}

// collect packs the n-gram that ends in each learned token: all of them at the full length,
// and begun[k-1] those of the length k that a document begins with.
func (g *Model) collect(documents iter.Seq[Document]) (all []uint64, begun [][]uint64, err error) {
	begun = make([][]uint64, g.order)
	for d := range documents {
		if len(d.LossMask) != len(d.Tokens) {
			return nil, nil, fmt.Errorf("base: a document of %d tokens with %d marks", len(d.Tokens), len(d.LossMask))
		}
		for i, t := range d.Tokens {
			if t < 0 || int(t) >= g.vocab {
				return nil, nil, fmt.Errorf("base: token %d in the text, want one of %d", t, g.vocab)
			}
			if i == 0 || !d.LossMask[i] {
				continue
			}
			gram := g.pack(d.Tokens[max(0, i+1-g.order) : i+1])
			if k := i + 1; k < g.order {
				begun[k-1] = append(begun[k-1], gram)
			} else {
				all = append(all, gram)
			}
		}
	}
	return all, begun, nil
}

func (g *Model) pack(tokens []int32) (gram uint64) {
	for _, t := range tokens {
		gram = gram<<g.bits | uint64(t)
	}
	return gram
}

// withoutFirst returns the different n-grams of k tokens, each without its first.
func (g *Model) withoutFirst(k int) []uint64 {
	grams := slices.Clone(g.levels[k-1].grams)
	for i := range grams {
		grams[i] &= 1<<(g.bits*(k-1)) - 1
	}
	return grams
}

func distinct(grams []uint64) []uint64 {
	slices.Sort(grams)
	return slices.Compact(grams)
}

// newLevel counts equal n-grams, finds their contexts and discounts them.
func (g *Model) newLevel(grams []uint64) level {
	slices.Sort(grams)
	l := level{from: []int32{0}}
	for i, gram := range grams {
		if i > 0 && gram == grams[i-1] {
			l.counts[len(l.counts)-1]++
			continue
		}
		if context := gram >> g.bits; len(l.contexts) == 0 || context != l.contexts[len(l.contexts)-1] {
			l.contexts = append(l.contexts, context)
			l.from = append(l.from, 0)
		}
		l.grams, l.counts = append(l.grams, gram), append(l.counts, 1)
		l.from[len(l.contexts)] = int32(len(l.grams))
	}
	l.setDiscounts()
	l.total, l.left = make([]float64, len(l.contexts)), make([]float64, len(l.contexts))
	for c := range l.contexts {
		for _, n := range l.counts[l.from[c]:l.from[c+1]] {
			l.total[c] += float64(n)
			l.left[c] += l.discounted(n)
		}
		l.left[c] /= l.total[c]
	}
	return l
}

// setDiscounts estimates Dᵢ = i − (i+1)·Y·nᵢ₊₁/nᵢ with Y = n₁/(n₁+2n₂), nᵢ being how many
// n-grams have the count i. Where there are too few for that, half a count is taken off.
func (l *level) setDiscounts() {
	var n [5]float64
	for _, c := range l.counts {
		if c < 5 {
			n[c]++
		}
	}
	y := n[1] / (n[1] + 2*n[2])
	for i := 1; i <= 3; i++ {
		d := float64(i) - float64(i+1)*y*n[i+1]/n[i]
		if !(d > 0 && d < float64(i)) { // also when it is no number
			d = 0.5
		}
		l.discount[i-1] = d
	}
}

// discounted returns what is taken off a count.
func (l *level) discounted(count uint32) float64 { return l.discount[min(count, 3)-1] }

// probability returns the probability of a token behind a context, of which the last order−1 tokens count.
// All tokens of the vocabulary together have a probability of 1 behind any context.
func (g *Model) probability(context []int32, token int32) float64 {
	context = context[max(0, len(context)-(g.order-1)):]
	p := 1 / float64(g.vocab)
	for k := 1; k <= len(context)+1; k++ {
		l := &g.levels[k-1]
		before := g.pack(context[len(context)-(k-1):])
		c, ok := slices.BinarySearch(l.contexts, before)
		if !ok {
			break // nor has any longer context been seen
		}
		p *= l.left[c]
		grams := l.grams[l.from[c]:l.from[c+1]]
		gram := before<<g.bits | uint64(token)
		if i := sort.Search(len(grams), func(i int) bool { return grams[i] >= gram }); i < len(grams) && grams[i] == gram {
			n := l.counts[int(l.from[c])+i]
			p += (float64(n) - l.discounted(n)) / l.total[c]
		}
	}
	return p
}

// Loss returns the mean negative log likelihood of the learned tokens of documents, in nats a
// token, and the number of these; NaN of none.
func (g *Model) Loss(documents iter.Seq[Document]) (loss float64, tokens int) {
	for d := range documents {
		for i := 1; i < len(d.Tokens); i++ {
			if d.LossMask[i] {
				loss -= math.Log(g.probability(d.Tokens[:i], d.Tokens[i]))
				tokens++
			}
		}
	}
	return loss / float64(tokens), tokens
}
