package newmodel

import (
	"container/heap"
	"iter"
	"maps"
	"slices"
	"strings"

	"finetune/internal/hint"
)

// Bounds of TrainBPE.
const (
	maxTokens = 1 << 20
	maxWord   = 1 << 10 // bytes: the rest of a longer word is counted as words of its own
	leastPair = 2       // times that a pair must stand in the texts to be merged
)

// TrainBPE learns a tokenizer of size tokens from texts: again and again the pair of tokens
// that stands side by side most often becomes a token, of equal ones the pair of the lowest
// ids. The result depends on how often each word is in the texts and on nothing else.
//
// A size that cannot be, or is more than the texts give, is a *SpecError.
func TrainBPE(texts iter.Seq[string], size int) (*BPE, error) {
	if size < LeastTokens || size > maxTokens {
		return nil, badSpec("a vocabulary of %d tokens, want %d (the bytes and the control tokens) to %d", size, LeastTokens, maxTokens)
	}
	t := newBPETrainer(countWords(texts))
	for len(t.merges) < size-LeastTokens {
		if !t.merge() {
			return nil, hint.With(badSpec("a vocabulary of %d tokens, the texts give %d", size, LeastTokens+len(t.merges)),
				"give more text or ask for a smaller vocabulary")
		}
	}
	return newBPE(t.merges), nil
}

// countWords counts the words of the texts.
func countWords(texts iter.Seq[string]) map[string]int64 {
	counts := map[string]int64{}
	for text := range texts {
		for word := range words(sanitize(text)) {
			if _, ok := counts[word]; !ok {
				word = strings.Clone(word) // not the whole text with it
			}
			counts[word]++
		}
	}
	return counts
}

// bpeTrainer holds every different word once, as the tokens it is made of so far, and where
// each pair of tokens stands.
type bpeTrainer struct {
	words  []trainedWord
	pairs  map[pair]*occurrences
	queue  candidates
	merges []pair
}

type trainedWord struct {
	tokens []int32
	count  int64 // in the texts
	seen   int   // the last merge that looked at it
}

// occurrences are those of one pair.
type occurrences struct {
	count int64
	words []int32 // that the pair stands in, or once stood in; some may be twice
}

// candidate is a pair with what its count was when it was put into the queue.
type candidate struct {
	pair
	count int64
}

// candidates are a heap, the most frequent pair first, then the one of the lowest ids.
type candidates []candidate

func (c candidates) Len() int { return len(c) }
func (c candidates) Less(i, j int) bool {
	a, b := c[i], c[j]
	switch {
	case a.count != b.count:
		return a.count > b.count
	case a.left != b.left:
		return a.left < b.left
	}
	return a.right < b.right
}
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *candidates) Push(x any)   { *c = append(*c, x.(candidate)) }
func (c *candidates) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

func newBPETrainer(counts map[string]int64) *bpeTrainer {
	t := &bpeTrainer{pairs: map[pair]*occurrences{}}
	for _, word := range slices.Sorted(maps.Keys(counts)) {
		for part := range slices.Chunk([]byte(word), maxWord) {
			tokens := make([]int32, len(part))
			for i, b := range part {
				tokens[i] = int32(b)
			}
			t.words = append(t.words, trainedWord{tokens: tokens, count: counts[word]})
			t.count(int32(len(t.words)-1), 1, func(pair) bool { return true })
		}
	}
	for p, o := range t.pairs {
		t.queue = append(t.queue, candidate{p, o.count})
	}
	heap.Init(&t.queue)
	return t
}

// count adds a word's pairs to their counts, or with sign −1 takes them off. The word is
// noted where isNew says that the pair has not stood in it before.
func (t *bpeTrainer) count(word int32, sign int64, isNew func(pair) bool) {
	w := t.words[word]
	for i := range len(w.tokens) - 1 {
		p := pair{w.tokens[i], w.tokens[i+1]}
		o := t.pairs[p]
		if o == nil {
			o = &occurrences{}
			t.pairs[p] = o
		}
		o.count += sign * w.count
		if isNew(p) {
			o.words = append(o.words, word)
		}
	}
}

// merge makes the most frequent pair a token; false if none is there often enough. A pair
// that has become rarer since it was queued is queued again; one that becomes more frequent
// has the new token in it, and is queued then.
func (t *bpeTrainer) merge() bool {
	for len(t.queue) > 0 {
		c := heap.Pop(&t.queue).(candidate)
		now := t.pairs[c.pair].count
		switch {
		case now < leastPair:
			continue
		case now != c.count:
			heap.Push(&t.queue, candidate{c.pair, now})
			continue
		}
		t.replace(c.pair, firstMerge+int32(len(t.merges)))
		t.merges = append(t.merges, c.pair)
		return true
	}
	return false
}

// replace writes the token for the pair in every word.
func (t *bpeTrainer) replace(p pair, token int32) {
	ofToken := map[pair]bool{}
	for _, word := range t.pairs[p].words {
		w := &t.words[word]
		if w.seen > len(t.merges) { // it was noted twice
			continue
		}
		w.seen = len(t.merges) + 1
		t.count(word, -1, func(pair) bool { return false })
		w.tokens = merged(w.tokens, p, token)
		t.count(word, 1, func(q pair) bool {
			hasToken := q.left == token || q.right == token
			if hasToken {
				ofToken[q] = true
			}
			return hasToken
		})
	}
	delete(t.pairs, p)
	for q := range ofToken {
		heap.Push(&t.queue, candidate{q, t.pairs[q].count})
	}
}

// merged writes the token for each pair, from left to right, in place.
func merged(tokens []int32, p pair, token int32) []int32 {
	n := 0
	for i := 0; i < len(tokens); i++ {
		tokens[n] = tokens[i]
		if i+1 < len(tokens) && tokens[i] == p.left && tokens[i+1] == p.right {
			tokens[n] = token
			i++
		}
		n++
	}
	return tokens[:n]
}
