package eval

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"finetune/internal/hint"
	"finetune/internal/near"
	"finetune/internal/testrun"
	"finetune/ngram"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// sameSumTolerance is for sums of a few thousand terms in another order.
const sameSumTolerance = 1e-12

// cutByHand is a text as windows of nCtx targets, behind the BOS that tiny's vocabulary wants.
func cutByHand(t *testing.T, m *llama.Model, text string, nCtx int) (docs []ngram.Document) {
	t.Helper()
	ids, err := m.Vocab().Tokenize(text, false, false)
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(ids, nCtx) {
		tokens := append([]int32{m.Vocab().BOS()}, part...)
		docs = append(docs, ngram.Document{Tokens: tokens, LossMask: slices.Repeat([]bool{true}, len(tokens))})
	}
	return docs
}

func TestNGramLossIsOverTheModelsTokens(t *testing.T) {
	c := testrun.Tiny(t)
	m := testrun.Model(t, c)
	counted := strings.ToUpper(testrun.Story(30)) + testrun.Story(50)[100:]
	c.ValFraction = 0
	got, err := NGramLoss(context.Background(), m, c, testrun.Write(t, "counted.txt", counted), 3, windowsFor(t, m, c))
	if err != nil {
		t.Fatal(err)
	}
	grams, err := ngram.Count(3, m.Vocab().NTokens(), slices.Values(cutByHand(t, m, counted, c.Ctx)))
	if err != nil {
		t.Fatal(err)
	}
	want, n := grams.Loss(slices.Values(cutByHand(t, m, testrun.Story(40), c.Ctx)))
	if !near.Within(float64(got), want, sameSumTolerance) {
		t.Errorf("NGramLoss = %v, want %v", got, want)
	}
	if windows := windowsFor(t, m, c); n != windows.Stats().TrainedTokens {
		t.Errorf("%d tokens, the model is measured on %d", n, windows.Stats().TrainedTokens)
	}
	if guess := math.Log(float64(m.Vocab().NTokens())); !(want < guess/2) {
		t.Errorf("NGramLoss = %v, want far below the %v of guessing", want, guess)
	}
}

func TestNGramLossOfRecordsIsOverWhatIsLossMask(t *testing.T) {
	c := testrun.Packed(t)
	m := testrun.Model(t, c)
	windows := windowsFor(t, m, c)
	more := testrun.Write(t, "more.jsonl", testrun.Records(80))
	loss, err := NGramLoss(context.Background(), m, c, more, 2, windows)
	if err != nil {
		t.Fatal(err)
	}
	var docs []ngram.Document
	for d := range documentsOf(windows) {
		docs = append(docs, d)
	}
	one := slices.IndexFunc(docs, func(d ngram.Document) bool { return !d.LossMask[1] })
	if one < 0 || !loss.Measured() {
		t.Errorf("loss %v over %d documents, none of which has a prompt", loss, len(docs))
	}
}

func TestNGramLossOfTheSameFile(t *testing.T) {
	c := testrun.Tiny(t)
	m := testrun.Model(t, c)
	c.ValFraction = 0.25
	got, err := NGramLoss(context.Background(), m, c, c.Data, 3, windowsFor(t, m, c))
	if err != nil {
		t.Fatal(err)
	}
	// The same by two files: the held-out part begins with the line that 3/4 of the text fall into.
	text := testrun.Story(40)
	at := strings.LastIndexByte(text[:len(text)-int(float64(len(text))*0.25+0.5)], '\n') + 1
	apart := c
	apart.Data, apart.ValFraction = testrun.Write(t, "val.txt", text[at:]), 0
	want, err := NGramLoss(context.Background(), m, apart, testrun.Write(t, "train.txt", text[:at]), 3, windowsFor(t, m, apart))
	if err != nil {
		t.Fatal(err)
	}
	if !near.Within(got, want, sameSumTolerance) {
		t.Errorf("NGramLoss with a part held out = %v, of two files %v", got, want)
	}

	c.ValFraction = 0
	if _, err := NGramLoss(context.Background(), m, c, c.Data, 3, windowsFor(t, m, c)); err == nil || len(hint.Of(err)) != 2 {
		t.Errorf("NGramLoss of what is measured = %v, hints %q, want a refusal", err, hint.Of(err))
	}
	if _, err := NGramLoss(context.Background(), m, c, "none.txt", 3, windowsFor(t, m, c)); err == nil {
		t.Error("NGramLoss of no file is no error")
	}
}
