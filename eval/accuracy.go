package eval

import (
	"encoding/json"
	"math"
	"unicode/utf8"

	"finetune/trainer/data"
)

// Accuracy says how a model does on questions with choices, as lm-evaluation-harness counts: its answer is the choice with
// the largest log-likelihood (acc), or with the largest for each character of the choice (acc_norm); of several that are
// alike, the first.
type Accuracy struct {
	Questions  int     `json:"questions"`
	Share      float64 `json:"accuracy"`
	StdErr     StdErr  `json:"stderr"`
	ShareNorm  float64 `json:"accuracy_norm"`
	StdErrNorm StdErr  `json:"stderr_norm"`

	Loss       Loss    `json:"loss"` // of the tokens of the right choices
	Perplexity float64 `json:"perplexity"`
	Tokens     int64   `json:"tokens"` // of the right choices

	right []bool // question by question, by the sum
}

// StdErr is the standard error of a mean. Of one question alone there is none: NaN, in JSON null.
type StdErr float64

// MarshalJSON writes a number, or null.
func (s StdErr) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(s)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(s))
}

// Grade counts the right answers by the log-likelihoods of one question or more.
func Grade(questions []data.Question, logs [][]float64) *Accuracy {
	a := &Accuracy{Questions: len(questions), right: make([]bool, len(questions))}
	var right, rightNorm int
	var loss float64
	for i, q := range questions {
		perChar := make([]float64, len(logs[i]))
		for k, sum := range logs[i] {
			perChar[k] = sum / float64(utf8.RuneCountInString(q.Choices[k]))
		}
		if a.right[i] = best(logs[i]) == q.Gold; a.right[i] {
			right++
		}
		if best(perChar) == q.Gold {
			rightNorm++
		}
		loss -= logs[i][q.Gold]
		gold := q.Answers[q.Gold]
		a.Tokens += int64(len(gold.Tokens) - gold.From)
	}
	a.Share, a.StdErr = shareOf(right, len(questions))
	a.ShareNorm, a.StdErrNorm = shareOf(rightNorm, len(questions))
	a.Loss = Loss(loss / float64(a.Tokens))
	a.Perplexity = a.Loss.Perplexity()
	return a
}

// best is the index of the largest.
func best(x []float64) (at int) {
	for i, v := range x {
		if v > x[at] {
			at = i
		}
	}
	return at
}

// shareOf is k of n with the standard error of a mean of n zeros and ones, √(p(1−p)/(n−1)).
func shareOf(k, n int) (float64, StdErr) {
	p := float64(k) / float64(n)
	return p, StdErr(math.Sqrt(p * (1 - p) / float64(n-1)))
}

// Change is what became of the same questions' answers, by the sum.
type Change struct {
	BothRight  int     `json:"both_right"`
	Fixed      int     `json:"fixed"`  // wrong before, right after
	Broken     int     `json:"broken"` // right before, wrong after
	BothWrong  int     `json:"both_wrong"`
	Difference float64 `json:"difference"` // of the accuracies
	StdErr     StdErr  `json:"stderr"`     // of the difference, question by question
}

// ChangeFrom compares the accuracy on the same questions with that before.
func (a *Accuracy) ChangeFrom(before *Accuracy) *Change {
	var c Change
	for i, after := range a.right {
		switch {
		case before.right[i] && after:
			c.BothRight++
		case after:
			c.Fixed++
		case before.right[i]:
			c.Broken++
		default:
			c.BothWrong++
		}
	}
	n := float64(len(a.right))
	c.Difference = float64(c.Fixed-c.Broken) / n
	squares := float64(c.Fixed+c.Broken)/n - c.Difference*c.Difference // mean square of the differences' own deviation
	c.StdErr = StdErr(math.Sqrt(squares / (n - 1)))
	return &c
}
