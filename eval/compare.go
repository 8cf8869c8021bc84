package eval

import (
	"context"
	"errors"
	"math"

	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Comparison says how differently two evaluators predict the same tokens, each with the adapters that are attached to it.
// Means are over the trained tokens, weighted by the loss mask, and taken from llama.cpp's own logits.
type Comparison struct {
	LossA          Loss    `json:"loss_a"`
	LossB          Loss    `json:"loss_b"`
	KL             float64 `json:"kl"`               // mean of KL(A‖B) = Σ p_A·(ln p_A − ln p_B), in nats a token
	Agreement      float64 `json:"agreement"`        // share of tokens for which both put the same token first
	MaxLogitChange float64 `json:"max_logit_change"` // largest |logit_A − logit_B|
	Tokens         int64   `json:"tokens"`
}

// Compare measures b against a, which have to be evaluators of one model, with contexts of one size. Both decode a few
// hundred tokens in turn, so that only the logits of those are held, twice. progress, if not nil, gets the number of
// windows that are done.
func Compare(ctx context.Context, a, b *Evaluator, windows []data.Window, progress func(done int)) (*Comparison, error) {
	if a.model != b.model || a.ctx.NBatch() != b.ctx.NBatch() {
		return nil, errors.New("eval: internal error: comparing evaluators of two models or contexts")
	}
	weight, err := trainedWeight(windows)
	if err != nil {
		return nil, err
	}
	var sum rowComparison
	var tokens int64
	err = a.groups(ctx, windows, progress, func(g *group) error {
		a.ctx.ClearMemory()
		b.ctx.ClearMemory()
		return g.parts(func(part llama.Batch, targets []int32, weights []float32) error {
			if err := errors.Join(a.decode(part, len(part.Tokens)), b.decode(part, len(part.Tokens))); err != nil {
				return err
			}
			rowsA, rowsB := a.logits(len(targets)), b.logits(len(targets))
			rows := make([]rowComparison, len(targets))
			a.eachRow(rowsA, func(i int) { rows[i] = compareRows(rowsA[i], rowsB[i], targets[i]) })
			for i, r := range rows {
				if rowsA[i] != nil {
					sum.add(r, float64(weights[i]))
					tokens++
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return &Comparison{LossA: Loss(sum.lossA / weight), LossB: Loss(sum.lossB / weight), KL: sum.kl / weight,
		Agreement: sum.agree / weight, MaxLogitChange: sum.change, Tokens: tokens}, nil
}

// rowComparison is one token's part, or the weighted sum over tokens.
type rowComparison struct {
	lossA, lossB, kl, agree float64
	change                  float64 // the largest
}

func (s *rowComparison) add(r rowComparison, weight float64) {
	s.lossA += weight * r.lossA
	s.lossB += weight * r.lossB
	s.kl += weight * r.kl
	s.agree += weight * r.agree
	s.change = max(s.change, r.change)
}

// compareRows takes the logits of one token. Rounding must not make a divergence of nothing negative.
func compareRows(a, b []float32, target int32) rowComparison {
	topA, zA := partition(a)
	topB, zB := partition(b)
	logA, logB := math.Log(zA), math.Log(zB)
	r := rowComparison{lossA: logA + float64(topA-a[target]), lossB: logB + float64(topB-b[target])}
	firstA, firstB := 0, 0
	for i := range a {
		pA, pB := float64(a[i]-topA)-logA, float64(b[i]-topB)-logB // their logarithms
		r.kl += math.Exp(pA) * (pA - pB)
		r.change = max(r.change, math.Abs(float64(a[i])-float64(b[i])))
		if a[i] > a[firstA] {
			firstA = i
		}
		if b[i] > b[firstB] {
			firstB = i
		}
	}
	r.kl = max(r.kl, 0)
	if firstA == firstB {
		r.agree = 1
	}
	return r
}
