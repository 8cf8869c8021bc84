package trainer

import (
	"math"
	"slices"
	"strings"
	"testing"

	"finetune/base"
	"finetune/internal/hint"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// sameSumTolerance is for sums of a few thousand terms in another order.
const sameSumTolerance = 1e-12

// cutByHand is a text as windows of nCtx targets, behind the BOS that tiny's vocabulary wants.
func cutByHand(t *testing.T, m *llama.Model, text string, nCtx int) (docs []base.Document) {
	t.Helper()
	ids, err := m.Vocab().Tokenize(text, false, false)
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(ids, nCtx) {
		tokens := append([]int32{m.Vocab().BOS()}, part...)
		docs = append(docs, base.Document{Tokens: tokens, Learned: slices.Repeat([]bool{true}, len(tokens))})
	}
	return docs
}

// windowsFor is what eval measures by a configuration.
func windowsFor(t *testing.T, m *llama.Model, c Config) *data.Windows {
	t.Helper()
	w, err := LoadWindows(m, c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestNGramLossIsOverTheModelsTokens(t *testing.T) {
	c := tiny(t)
	m := loaded(t, c)
	counted := strings.ToUpper(story(30)) + story(50)[100:]
	c.ValFraction = 0
	got, err := NGramLoss(m, c, write(t, "counted.txt", counted), 3, windowsFor(t, m, c))
	if err != nil {
		t.Fatal(err)
	}
	grams, err := base.CountNGrams(3, m.Vocab().NTokens(), slices.Values(cutByHand(t, m, counted, c.Ctx)))
	if err != nil {
		t.Fatal(err)
	}
	want, n := grams.Loss(slices.Values(cutByHand(t, m, story(40), c.Ctx)))
	if far(float64(got), want, sameSumTolerance) {
		t.Errorf("NGramLoss = %v, want %v", got, want)
	}
	if windows := windowsFor(t, m, c); n != windows.Stats().Trained {
		t.Errorf("%d tokens, the model is measured on %d", n, windows.Stats().Trained)
	}
	if guess := math.Log(float64(m.Vocab().NTokens())); !(want < guess/2) {
		t.Errorf("NGramLoss = %v, want far below the %v of guessing", want, guess)
	}
}

func TestNGramLossOfRecordsIsOverWhatIsLearned(t *testing.T) {
	c := packed(t)
	m := loaded(t, c)
	windows := windowsFor(t, m, c)
	more := write(t, "more.jsonl", records(80))
	loss, err := NGramLoss(m, c, more, 2, windows)
	if err != nil {
		t.Fatal(err)
	}
	var docs []base.Document
	for d := range documentsOf(windows) {
		docs = append(docs, d)
	}
	one := slices.IndexFunc(docs, func(d base.Document) bool { return !d.Learned[1] })
	if one < 0 || !loss.Measured() {
		t.Errorf("loss %v over %d documents, none of which has a prompt", loss, len(docs))
	}
}

func TestNGramLossOfTheSameFile(t *testing.T) {
	c := tiny(t)
	m := loaded(t, c)
	c.ValFraction = 0.25
	got, err := NGramLoss(m, c, c.Data, 3, windowsFor(t, m, c))
	if err != nil {
		t.Fatal(err)
	}
	// The same by two files: the held-out part begins with the line that 3/4 of the text fall into.
	text := story(40)
	at := strings.LastIndexByte(text[:len(text)-int(float64(len(text))*0.25+0.5)], '\n') + 1
	apart := c
	apart.Data, apart.ValFraction = write(t, "val.txt", text[at:]), 0
	want, err := NGramLoss(m, apart, write(t, "train.txt", text[:at]), 3, windowsFor(t, m, apart))
	if err != nil {
		t.Fatal(err)
	}
	if far(float64(got), float64(want), sameSumTolerance) {
		t.Errorf("NGramLoss with a part held out = %v, of two files %v", got, want)
	}

	c.ValFraction = 0
	if _, err := NGramLoss(m, c, c.Data, 3, windowsFor(t, m, c)); err == nil || len(hint.Of(err)) != 2 {
		t.Errorf("NGramLoss of what is measured = %v, hints %q, want a refusal", err, hint.Of(err))
	}
	if _, err := NGramLoss(m, c, "none.txt", 3, windowsFor(t, m, c)); err == nil {
		t.Error("NGramLoss of no file is no error")
	}
}
