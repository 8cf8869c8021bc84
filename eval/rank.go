package eval

import (
	"cmp"
	"math"
	"slices"
)

// Ranking says how well a reranker puts the documents of queries in order. A document counts as relevant with a relevance above 0.
// Of those with the same score the less relevant come first.
type Ranking struct {
	Queries   int     `json:"queries"`
	Documents int     `json:"documents"`
	MRR       float64 `json:"mrr"`           // mean of 1/place of the first relevant document, over the queries that have one
	NDCG10    float64 `json:"ndcg_at_10"`    // Σ relevance/log2(1 + place) up to the tenth, as a share of the best order's; over the same queries
	Pairs     int     `json:"pairs"`         // of documents of one query whose relevances differ
	Right     float64 `json:"pair_accuracy"` // share of the pairs in which the more relevant one has the higher score
	StdErr    StdErr  `json:"stderr"`        // of Right
}

// rankedPlaces is how many documents nDCG looks at.
const rankedPlaces = 10

// ranked is a document that has a score.
type ranked struct{ score, relevance float32 }

// GradeRankings compares the scores of the documents of each query with their relevances.
func GradeRankings(scores, relevances [][]float32) *Ranking {
	r := &Ranking{Queries: len(scores)}
	judged, right := 0, 0
	for q, list := range scores {
		docs := make([]ranked, len(list))
		for i, s := range list {
			docs[i] = ranked{s, relevances[q][i]}
		}
		r.Documents += len(docs)
		pairs, hits := comparePairs(docs)
		r.Pairs, right = r.Pairs+pairs, right+hits
		slices.SortStableFunc(docs, func(a, b ranked) int {
			return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.relevance, b.relevance))
		})
		first := slices.IndexFunc(docs, func(d ranked) bool { return d.relevance > 0 })
		if first < 0 {
			continue
		}
		judged++
		r.MRR += 1 / float64(first+1)
		found := gain(docs)
		slices.SortFunc(docs, func(a, b ranked) int { return cmp.Compare(b.relevance, a.relevance) })
		r.NDCG10 += found / gain(docs)
	}
	r.MRR, r.NDCG10 = share(r.MRR, float64(judged)), share(r.NDCG10, float64(judged))
	if r.Pairs > 0 {
		r.Right, r.StdErr = shareOf(right, r.Pairs)
	}
	return r
}

// comparePairs counts the pairs of documents whose relevances differ, and those that the scores order likewise.
func comparePairs(docs []ranked) (pairs, right int) {
	for i, a := range docs {
		for _, b := range docs[:i] {
			switch {
			case a.relevance == b.relevance:
				continue
			case (a.relevance > b.relevance) == (a.score > b.score) && a.score != b.score:
				right++
			}
			pairs++
		}
	}
	return pairs, right
}

// gain is the discounted cumulative gain of documents in an order.
func gain(docs []ranked) (sum float64) {
	for i, d := range docs[:min(len(docs), rankedPlaces)] {
		sum += float64(d.relevance) / math.Log2(2+float64(i))
	}
	return sum
}
