package eval

import (
	"context"
	"fmt"
	"iter"
	"os"

	"finetune/chat"
	"finetune/internal/hint"
	"finetune/ngram"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// NGramLoss returns the mean loss over the windows' trained tokens of a model that has only counted which token of text
// follows which: an n-gram model of the given order over m's vocabulary. Text is cut and masked as training would by c.
// Where it is c.Data itself, the part of it that c holds out is not counted.
func NGramLoss(ctx context.Context, m *llama.Model, c run.Config, text string, order int, windows *data.Windows) (Loss, error) {
	counted, err := loadCounted(ctx, m, c, text)
	if err != nil {
		return NotMeasured, err
	}
	grams, err := ngram.Count(order, m.Vocab().NTokens(), documentsOf(counted))
	if err != nil {
		return NotMeasured, err
	}
	loss, tokens := grams.Loss(documentsOf(windows))
	if want := windows.Stats().TrainedTokens; tokens != want {
		panic(fmt.Sprintf("eval: internal error: %d tokens by the n-grams, %d by the model", tokens, want))
	}
	return Loss(loss), nil
}

// loadCounted reads what is counted.
func loadCounted(ctx context.Context, m *llama.Model, c run.Config, text string) (*data.Windows, error) {
	switch same, err := oneFile(text, c.Data); {
	case err != nil:
		return nil, err
	case same && c.ValFraction == 0:
		err := fmt.Errorf("eval: %q: the text to count is the one that is measured, want another", text)
		return nil, hint.With(err, "give the text that the model was trained on",
			"or --val-fraction, to measure only the part that training holds out of it")
	case !same:
		c.Data, c.Val, c.ValFraction = text, "", 0
	}
	train, _, err := data.LoadRun(ctx, c, m.Vocab(), chat.SourceOf(m), nil)
	return train, err
}

// oneFile reports whether both paths lead to the same file.
func oneFile(a, b string) (bool, error) {
	if a == b {
		return true, nil
	}
	one, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other), nil // more than one file is another
}

// documentsOf yields what the windows are packed from.
func documentsOf(w *data.Windows) iter.Seq[ngram.Document] {
	return func(yield func(ngram.Document) bool) {
		for i := range w.Len() {
			for _, x := range w.Examples(i) {
				if !yield(ngram.Document{Tokens: x.Tokens, LossMask: x.LossMask}) {
					return
				}
			}
		}
	}
}
