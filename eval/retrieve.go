package eval

import (
	"context"
	"math"
	"slices"

	"finetune/classify"
	"finetune/trainer/data"
)

// Retrieval says how well queries find the texts that belong to them among all, by the cosine of their states.
type Retrieval struct {
	Queries  int     `json:"queries"`
	Texts    int     `json:"texts"` // different ones to choose from
	Recall1  float64 `json:"recall_at_1"`
	StdErr   StdErr  `json:"stderr"` // of Recall1
	Recall5  float64 `json:"recall_at_5"`
	Recall10 float64 `json:"recall_at_10"`
	NDCG10   float64 `json:"ndcg_at_10"` // 1/log2(1 + place), 0 beyond the tenth
	MRR      float64 `json:"mrr"`        // mean of 1/place
}

// Retrieve lets every query choose among all texts that are no queries. Texts with the same tokens are one. dims is how many numbers of
// a state count, 0 = all. progress may be nil.
func (e *Evaluator) Retrieve(ctx context.Context, texts []data.RoleText, pooling classify.Pooling, dims int, progress func(done, total int)) (*Retrieval, error) {
	var unique [][]int32 // queries and others alike
	var queries, corpus, wants []int
	number := map[string]int{}
	inCorpus := map[int]bool{}
	for i, t := range texts {
		key := keyOf(t.Tokens)
		k, ok := number[key]
		if !ok {
			k = len(unique)
			number[key], unique = k, append(unique, t.Tokens)
		}
		switch {
		case t.Role == data.RoleQuery:
			queries = append(queries, k)
		case !inCorpus[k]:
			inCorpus[k], corpus = true, append(corpus, k)
		}
		if i > 0 && texts[i-1].Role == data.RoleQuery {
			wants = append(wants, k)
		}
	}
	states := make([][]float32, len(unique))
	err := e.States(ctx, unique, pooling, func(i int, state []float32) error {
		states[i] = unit(state, dims)
		if progress != nil {
			progress(i+1, len(unique))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var places []int
	for i, q := range queries {
		places = append(places, place(states, q, wants[i], corpus))
	}
	r := ofPlaces(places)
	r.Texts = len(corpus)
	return r, nil
}

// keyOf is tokens as a text that can be compared.
func keyOf(tokens []int32) string {
	b := make([]byte, 0, 4*len(tokens))
	for _, t := range tokens {
		b = append(b, byte(t), byte(t>>8), byte(t>>16), byte(t>>24))
	}
	return string(b)
}

// unit returns the first dims numbers of a state, or all for 0, as a vector of length 1.
func unit(state []float32, dims int) []float32 {
	if dims > 0 {
		state = state[:min(dims, len(state))]
	}
	u, sum := slices.Clone(state), 0.0
	for _, v := range u {
		sum += float64(v) * float64(v)
	}
	for i := range u {
		u[i] = float32(float64(u[i]) / max(math.Sqrt(sum), math.SmallestNonzeroFloat32))
	}
	return u
}

// place returns the place of the right text, from 1, among the corpus; those that are as near count before it.
func place(states [][]float32, query, right int, corpus []int) int {
	best, n := cosine(states[query], states[right]), 1
	for _, k := range corpus {
		if k != right && cosine(states[query], states[k]) >= best {
			n++
		}
	}
	return n
}

// ofPlaces counts the places of the right texts.
func ofPlaces(places []int) *Retrieval {
	r := &Retrieval{Queries: len(places)}
	within := func(k int) (n int) {
		for _, p := range places {
			if p <= k {
				n++
			}
		}
		return n
	}
	r.Recall1, r.StdErr = shareOf(within(1), len(places))
	r.Recall5, _ = shareOf(within(5), len(places))
	r.Recall10, _ = shareOf(within(10), len(places))
	for _, p := range places {
		r.MRR += 1 / float64(p) / float64(len(places))
		if p <= 10 {
			r.NDCG10 += 1 / math.Log2(1+float64(p)) / float64(len(places))
		}
	}
	return r
}
