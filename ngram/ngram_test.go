package ngram

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"finetune/internal/near"
	"finetune/internal/setting"
)

// document is tokens that are all learned.
func document(tokens ...int32) Document {
	learned := make([]bool, len(tokens))
	for i := range learned {
		learned[i] = true
	}
	return Document{tokens, learned}
}

// randomDocuments are a few texts over vocab tokens in which some follow others more often.
func randomDocuments(seed uint64, vocab, n int) []Document {
	random := rand.New(rand.NewPCG(seed, 0))
	var docs []Document
	for range n {
		d := Document{}
		t := random.IntN(vocab)
		for range 1 + random.IntN(60) {
			d.Tokens = append(d.Tokens, int32(t))
			d.LossMask = append(d.LossMask, random.IntN(5) > 0)
			if t = (t*t + 1) % vocab; random.IntN(3) == 0 {
				t = random.IntN(1 + random.IntN(vocab))
			}
		}
		docs = append(docs, d)
	}
	return docs
}

// kneserNey is the formula of Model, worked out from the counts of texts as they stand.
type kneserNey struct {
	order, vocab int
	counts       []map[string]map[int32]float64 // [order] context to token to count
	discounts    [][3]float64                   // [order]
}

func newKneserNey(order, vocab int, docs []Document) *kneserNey {
	k := &kneserNey{order: order, vocab: vocab}
	before := make([]map[string]map[string]bool, order) // what stands in front of an n-gram
	for n := range order {
		k.counts = append(k.counts, map[string]map[int32]float64{})
		before[n] = map[string]map[string]bool{}
	}
	for _, d := range docs {
		for i := 1; i < len(d.Tokens); i++ {
			for n := 1; n <= order && n <= i+1 && d.LossMask[i]; n++ {
				context := fmt.Sprint(d.Tokens[i+1-n : i])
				left := "nothing"
				if i-n >= 0 {
					left = fmt.Sprint(d.Tokens[i-n])
				}
				gram := fmt.Sprint(context, d.Tokens[i])
				if before[n-1][gram] == nil {
					before[n-1][gram] = map[string]bool{}
				}
				if n < order && before[n-1][gram][left] {
					continue
				}
				before[n-1][gram][left] = true
				if k.counts[n-1][context] == nil {
					k.counts[n-1][context] = map[int32]float64{}
				}
				k.counts[n-1][context][d.Tokens[i]]++
			}
		}
	}
	for n := range order {
		var of [5]float64
		for _, tokens := range k.counts[n] {
			for _, c := range tokens {
				if c < 5 {
					of[int(c)]++
				}
			}
		}
		var d [3]float64
		y := of[1] / (of[1] + 2*of[2])
		for i := 1; i <= 3; i++ {
			d[i-1] = float64(i) - float64(i+1)*y*of[i+1]/of[i]
			if !(d[i-1] > 0 && d[i-1] < float64(i)) {
				d[i-1] = 0.5
			}
		}
		k.discounts = append(k.discounts, d)
	}
	return k
}

func (k *kneserNey) probability(context []int32, token int32) float64 {
	if len(context) >= k.order {
		context = context[len(context)-k.order+1:]
	}
	lower := 1 / float64(k.vocab)
	if len(context) > 0 {
		lower = k.probability(context[1:], token)
	}
	n := len(context)
	tokens := k.counts[n][fmt.Sprint(context)]
	if len(tokens) == 0 {
		return lower
	}
	total, taken := 0.0, 0.0
	for _, c := range tokens {
		total += c
		taken += k.discounts[n][int(min(c, 3))-1]
	}
	own := 0.0
	if c := tokens[token]; c > 0 {
		own = c - k.discounts[n][int(min(c, 3))-1]
	}
	return own/total + taken/total*lower
}

// sumTolerance is for the rounding of as many additions as there are tokens.
const sumTolerance = 1e-12

func TestModelAreKneserNey(t *testing.T) {
	for _, tt := range []struct{ order, vocab, documents int }{
		{1, 7, 20}, {2, 7, 20}, {3, 7, 20}, {3, 40, 60}, {4, 5, 50}, {5, 3, 10}, {3, 1, 5}, {3, 40, 1},
	} {
		docs := randomDocuments(uint64(tt.vocab), tt.vocab, tt.documents)
		g, err := Count(tt.order, tt.vocab, slices.Values(docs))
		if err != nil {
			t.Fatal(err)
		}
		reference := newKneserNey(tt.order, tt.vocab, docs)
		random := rand.New(rand.NewPCG(9, 9))
		for range 300 {
			context := make([]int32, random.IntN(tt.order+2))
			for i := range context {
				context[i] = int32(random.IntN(tt.vocab))
			}
			sum := 0.0
			for token := range int32(tt.vocab) {
				got, want := g.probability(context, token), reference.probability(context, token)
				if !near.Enough(got, want, sumTolerance) || got == 0 {
					t.Fatalf("order %d, %d tokens: p(%d|%v) = %v, want %v", tt.order, tt.vocab, token, context, got, want)
				}
				sum += got
			}
			if !near.Enough(sum, 1.0, sumTolerance) {
				t.Fatalf("order %d, %d tokens: the probabilities behind %v sum to %v", tt.order, tt.vocab, context, sum)
			}
		}
	}
}

func TestModelLoss(t *testing.T) {
	docs := randomDocuments(1, 20, 40)
	g, err := Count(3, 20, slices.Values(docs[:30]))
	if err != nil {
		t.Fatal(err)
	}
	want, n := 0.0, 0
	for _, d := range docs[30:] {
		for i := 1; i < len(d.Tokens); i++ {
			if d.LossMask[i] {
				want -= math.Log(g.probability(d.Tokens[max(0, i-2):i], d.Tokens[i]))
				n++
			}
		}
	}
	got, tokens := g.Loss(slices.Values(docs[30:]))
	if tokens != n || !near.Enough(got, want/float64(n), sumTolerance) {
		t.Errorf("Loss = %v of %d tokens, want %v of %d", got, tokens, want/float64(n), n)
	}
	if loss, n := g.Loss(slices.Values([]Document{document(1)})); !math.IsNaN(loss) || n != 0 {
		t.Errorf("Loss of nothing = %v of %d tokens, want NaN", loss, n)
	}
}

// A cycle is foretold almost surely by pairs, and not at all by single tokens.
func TestModelLearnAnOrder(t *testing.T) {
	var tokens []int32
	for i := range int32(4000) {
		tokens = append(tokens, i%8)
	}
	docs := []Document{document(tokens...)}
	losses := map[int]float64{}
	for order := 1; order <= 3; order++ {
		g, err := Count(order, 100, slices.Values(docs))
		if err != nil {
			t.Fatal(err)
		}
		losses[order], _ = g.Loss(slices.Values(docs))
	}
	if uniform := math.Log(8); !near.Enough(losses[1], uniform, 0.01) {
		t.Errorf("order 1: loss %v, want that of 8 tokens, %v", losses[1], uniform)
	}
	if !near.Enough(losses[2], 0.0, 0.1) || !near.Enough(losses[3], 0.0, 0.1) {
		t.Errorf("losses %v of orders 2 and 3, want almost 0", losses)
	}
}

func TestCountRefuses(t *testing.T) {
	one := slices.Values([]Document{document(1, 2, 3)})
	for _, tt := range []struct {
		order, vocab int
		docs         iter.Seq[Document]
		msg          string
		spec         bool
	}{
		{0, 10, one, "got 0", true},
		{5, 150000, one, "want 1 to 3", true},
		{3, 0, one, "0 tokens", false},
		{3, 3, one, "token 3 in the text", false},
		{3, 10, slices.Values([]Document{document(-1, 2)}), "token -1", false},
		{3, 10, slices.Values([]Document{document(1)}), "no learned token", false},
		{3, 10, slices.Values([]Document{{[]int32{1, 2}, []bool{true}}}), "2 tokens with 1 marks", false},
	} {
		_, err := Count(tt.order, tt.vocab, tt.docs)
		var spec *setting.Error
		if err == nil || !strings.Contains(err.Error(), tt.msg) || errors.As(err, &spec) != tt.spec {
			t.Errorf("Count(%d, %d) = %v, want an error that says %q", tt.order, tt.vocab, err, tt.msg)
		}
	}
}
