package eval

import (
	"math"
	"slices"
	"testing"

	"finetune/internal/near"
)

// Rankings worked out by hand: of the first query the order found is 0, 2, 1, 0, of the second, whose scores are alike, 0, 1, and
// the third has nothing relevant.
func TestRankings(t *testing.T) {
	t.Parallel()
	r := GradeRankings([][]float32{{0.5, 3, 2, -1}, {1, 1}, {4, 5}}, [][]float32{{1, 0, 2, 0}, {1, 0}, {0, 0}})
	second, third := 1/math.Log2(3), 1/math.Log2(4)
	first := (2*second + third) / (2 + second) // 2 and 1 in the places 2 and 3, as a share of those in 1 and 2
	if want := (first + second) / 2; !near.Enough(r.NDCG10, want, roundingOfSums) {
		t.Errorf("nDCG@10 %v, want %v", r.NDCG10, want)
	}
	if want := (0.5 + 0.5) / 2; !near.Enough(r.MRR, want, roundingOfSums) {
		t.Errorf("MRR %v, want %v", r.MRR, want)
	}
	// Of the first query's pairs 2 > 1, 2 > the last 0 and 1 > the last 0 are right, those with the other 0 wrong; the tie is wrong too.
	if r.Queries != 3 || r.Documents != 8 || r.Pairs != 6 || !near.Enough(r.Right, 3./6, roundingOfSums) {
		t.Errorf("%+v, want 3 queries, 8 documents, 3 of 6 pairs right", r)
	}
}

// What lies beyond the tenth place counts for nothing.
func TestRankingsEndAtTheTenth(t *testing.T) {
	t.Parallel()
	scores, relevances := make([]float32, 11), make([]float32, 11)
	for i := range scores {
		scores[i] = float32(-i)
	}
	relevances[10] = 1
	if r := GradeRankings([][]float32{scores}, [][]float32{relevances}); r.NDCG10 != 0 || !near.Enough(r.MRR, 1./11, roundingOfSums) {
		t.Errorf("nDCG@10 %v, MRR %v, want 0 and 1/11", r.NDCG10, r.MRR)
	}
	relevances[10], relevances[9] = 0, 1
	slices.Reverse(scores)
	slices.Reverse(relevances)
	if r := GradeRankings([][]float32{scores}, [][]float32{relevances}); !near.Enough(r.NDCG10, 1/math.Log2(11), roundingOfSums) {
		t.Errorf("nDCG@10 %v, want 1/log2(11)", r.NDCG10)
	}
}
