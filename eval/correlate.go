package eval

import (
	"context"
	"math"
	"slices"

	"finetune/classify"
	"finetune/trainer/data"
)

// Correlation says how the cosines of the states of pairs go with the scores that people gave them, from −1 to 1; 0 where all
// cosines are the same.
type Correlation struct {
	Pairs    int     `json:"pairs"`
	Spearman float64 `json:"spearman"` // of the ranks, the mean one where several are alike
	Pearson  float64 `json:"pearson"`
}

// Correlate compares the cosines of pairs with their scores: for whole states, and for their beginnings of each of the lengths.
// progress may be nil.
func (e *Evaluator) Correlate(ctx context.Context, pairs []data.ScoredPair, pooling classify.Pooling, dims []int, progress func(done, total int)) (whole Correlation, parts []Correlation, err error) {
	var texts [][]int32 // both of a pair next to each other
	var scores []float64
	for _, p := range pairs {
		texts, scores = append(texts, p.First, p.Second), append(scores, p.Score)
	}
	lengths := append([]int{0}, dims...)
	cosines := make([][]float64, len(lengths))
	var first []float32
	err = e.States(ctx, texts, pooling, func(i int, state []float32) error {
		if progress != nil {
			progress(i+1, len(texts))
		}
		if i%2 == 0 {
			first = slices.Clone(state)
			return nil
		}
		for k, n := range lengths {
			c := cosine(unit(first, n), unit(state, n))
			if !Loss(c).Measured() {
				return errNoNumber(e.model.Path(), c)
			}
			cosines[k] = append(cosines[k], c)
		}
		return nil
	})
	if err != nil {
		return whole, nil, err
	}
	for _, c := range cosines {
		parts = append(parts, Correlation{len(pairs), pearson(ranks(c), ranks(scores)), pearson(c, scores)})
	}
	return parts[0], parts[1:], nil
}

// Embed returns the first dims numbers of a text's state, all for 0, as a vector of length 1.
func (e *Evaluator) Embed(ctx context.Context, tokens []int32, pooling classify.Pooling, dims int) (v []float32, err error) {
	err = e.States(ctx, [][]int32{tokens}, pooling, func(_ int, state []float32) error {
		v = unit(state, dims)
		for _, x := range v {
			if !Loss(x).Measured() {
				return errNoNumber(e.model.Path(), float64(x))
			}
		}
		return nil
	})
	return v, err
}

// cosine of two vectors of length 1.
func cosine(a, b []float32) (sum float64) {
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

// ranks returns the place of each value among all by size, from 1; those that are alike share the mean of theirs.
func ranks(values []float64) []float64 {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		switch {
		case values[i] < values[j]:
			return -1
		case values[i] > values[j]:
			return 1
		}
		return 0
	})
	places := make([]float64, len(values))
	for from := 0; from < len(order); {
		to := from + 1
		for to < len(order) && values[order[to]] == values[order[from]] {
			to++
		}
		for _, i := range order[from:to] {
			places[i] = float64(from+1+to) / 2
		}
		from = to
	}
	return places
}

// pearson returns the correlation of two lists, 0 where one of them does not vary.
func pearson(a, b []float64) float64 {
	n := float64(len(a))
	var meanA, meanB float64
	for i := range a {
		meanA, meanB = meanA+a[i]/n, meanB+b[i]/n
	}
	var both, varA, varB float64
	for i := range a {
		x, y := a[i]-meanA, b[i]-meanB
		both, varA, varB = both+x*y, varA+x*x, varB+y*y
	}
	return share(both, math.Sqrt(varA*varB))
}
