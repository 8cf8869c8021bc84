package eval

import (
	"encoding/json"
	"math"
	"testing"

	"finetune/internal/near"
	"finetune/trainer/data"
)

// chosen is a question with these choices, whose tokens are as many as their bytes.
func chosen(gold int, choices ...string) data.Question {
	q := data.Question{Choices: choices, Gold: gold}
	for _, c := range choices {
		q.Answers = append(q.Answers, data.Answer{Tokens: make([]int32, 3+len(c)), From: 3})
	}
	return q
}

// Worked out by hand.
func TestGrade(t *testing.T) {
	questions := []data.Question{
		chosen(0, "ab", "abcdefgh"), // right by the sum; −1 and −0.5 for each character: wrong
		chosen(1, "ab", "abcdefgh"), // wrong by the sum, right by characters
		chosen(1, "é", "aé"),        // −2 and −1.5 for each character, not for each byte (−1 and −1)
		chosen(2, "a", "b", "c"),    // a tie: the first counts
		chosen(0, "a", "b", "c"),    // likewise, and here that is right
	}
	logs := [][]float64{{-2, -4}, {-2, -4}, {-2, -3}, {-1, -1, -1}, {-1, -1, -1}}
	got := Grade(questions, logs)
	if got.Questions != 5 || got.Share != 2.0/5 || got.ShareNorm != 3.0/5 {
		t.Errorf("Grade = %+v, want 2 and 3 of 5", got)
	}
	// √(p(1−p)/(n−1)) of 2/5 and of 3/5: √(0.24/4)
	if want := math.Sqrt(0.06); !near.Within(float64(got.StdErr), want, sumTolerance) || !near.Within(float64(got.StdErrNorm), want, sumTolerance) {
		t.Errorf("standard errors %v and %v, want %v", got.StdErr, got.StdErrNorm, want)
	}
	if want := (2.0 + 4 + 3 + 1 + 1) / 15; got.Tokens != 2+8+3+1+1 || !near.Within(float64(got.Loss), want, sumTolerance) {
		t.Errorf("loss %v over %d tokens, want %v over 15", got.Loss, got.Tokens, want)
	}
	if want := math.Exp(11.0 / 15); !near.Within(got.Perplexity, want, sumTolerance) {
		t.Errorf("perplexity %v, want %v", got.Perplexity, want)
	}
}

// A single question has no standard error, which JSON cannot say.
func TestGradeOfOneQuestion(t *testing.T) {
	got, err := json.Marshal(Grade([]data.Question{chosen(0, "a", "b")}, [][]float64{{-1, -2}}))
	want := `{"questions":1,"accuracy":1,"stderr":null,"accuracy_norm":1,"stderr_norm":null,"loss":1,"perplexity":2.718281828459045,"tokens":1}`
	if err != nil || string(got) != want {
		t.Errorf("as JSON %s, %v, want %s", got, err, want)
	}
}

// Four questions, one of each kind: the differences are 0, 1, −1 and 0. Then three more that are fixed.
func TestChange(t *testing.T) {
	before := &Accuracy{right: []bool{true, false, true, false}}
	after := &Accuracy{right: []bool{true, true, false, false}}
	// their mean is 0, their variance 2/3, that of the mean 1/6
	want := Change{BothRight: 1, Fixed: 1, Broken: 1, BothWrong: 1, Difference: 0, StdErr: StdErr(math.Sqrt(1.0 / 6))}
	if got := *after.ChangeFrom(before); !sameChange(got, want) {
		t.Errorf("ChangeFrom = %+v, want %+v", got, want)
	}
	before.right = append(before.right, false, false, false)
	after.right = append(after.right, true, true, true)
	// 0 1 −1 0 1 1 1: mean 3/7, squares 5 − 9/7 = 26/7, variance 26/42, that of the mean 26/294
	want = Change{BothRight: 1, Fixed: 4, Broken: 1, BothWrong: 1, Difference: 3.0 / 7, StdErr: StdErr(math.Sqrt(26.0 / 294))}
	if got := *after.ChangeFrom(before); !sameChange(got, want) {
		t.Errorf("ChangeFrom = %+v, want %+v", got, want)
	}
}

func sameChange(a, b Change) bool {
	same := near.Within(float64(a.StdErr), float64(b.StdErr), sumTolerance)
	a.StdErr, b.StdErr = 0, 0
	return same && a == b
}
