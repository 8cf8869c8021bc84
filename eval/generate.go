package eval

import (
	"context"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"finetune/internal/hint"
	"finetune/internal/setting"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Sampling says how the next token is chosen.
type Sampling struct {
	Tokens int     // at most so many
	Temp   float32 // 0 takes the likeliest
	TopK   int     // 0 = all
	TopP   float32 // above 0; 1 = all
	Seed   uint32
}

// The temperatures that are taken beside 0. Below, logits divided by one overflow a float32; above, all tokens are alike.
const (
	minTemp = 1e-3
	maxTemp = 1e3
)

// maxTokens is the most that a text may be asked to have, and top-k the most of.
const maxTokens = 1 << 30

// Validate returns the first setting, by the names of the flags, that is none.
func (s Sampling) Validate() error {
	temp, topP := float64(s.Temp), float64(s.TopP)
	return setting.Check(
		setting.Between("n", s.Tokens, 0, maxTokens),
		setting.Number("temp", temp, temp == 0 || temp >= minTemp && temp <= maxTemp, fmt.Sprintf("0 or %g to %g", minTemp, maxTemp)),
		setting.Between("top-k", s.TopK, 0, maxTokens),
		setting.Number("top-p", topP, topP > 0 && topP <= 1, "a probability above 0 up to 1"),
	)
}

// Generate continues a prompt with what is attached to the evaluator and gives the pieces of text to emit as they come.
// The prompt is tokenized as an app does: with BOS where the vocabulary wants one, special tokens read by name. It stops
// at an end-of-generation token, after s.Tokens, at the end of the context, or when ctx is cancelled.
func (e *Evaluator) Generate(ctx context.Context, prompt string, s Sampling, emit func(string)) error {
	if err := s.Validate(); err != nil {
		return err
	}
	vocab := e.model.Vocab()
	tokens, err := vocab.Tokenize(prompt, true, true)
	if err != nil {
		return err
	}
	if len(tokens) == 0 {
		tokens = []int32{max(vocab.BOS(), 0)}
	}
	if most := max(e.nCtx-1, 1); len(tokens) > most {
		tokens = tokens[len(tokens)-most:] // the end of a long prompt is what the answer follows
	}
	sampler, err := llama.NewSampler(vocab, llama.SamplerParams{Temp: s.Temp, TopK: s.TopK, TopP: s.TopP, Seed: s.Seed})
	if err != nil {
		return err
	}
	defer sampler.Close()
	e.ctx.ClearMemory()
	out := textStream{emit: emit}
	defer out.flush()
	batch := llama.Batch{Tokens: tokens}
	for pos := len(tokens); ; pos++ {
		if err := e.decode(batch, 1); err != nil {
			return err
		}
		if ctx.Err() != nil || s.Tokens == 0 {
			return ctx.Err()
		}
		if err := e.checkLogits(len(batch.Tokens) - 1); err != nil {
			return err
		}
		next, err := sampler.Sample(e.ctx, len(batch.Tokens)-1)
		if err != nil {
			return err
		}
		if vocab.IsEOG(next) {
			return nil
		}
		out.add(vocab.Piece(next, false))
		if s.Tokens--; s.Tokens == 0 || pos >= e.nCtx {
			return nil
		}
		batch = llama.Batch{Tokens: []int32{next}}
	}
}

// checkLogits refuses those behind row i of the last batch when a sampler could not choose by them. Minus infinity is a token
// that the model never says.
func (e *Evaluator) checkLogits(i int) error {
	for id, v := range e.ctx.Logits(i) {
		if v != v || v > math.MaxFloat32 {
			return hint.With(fmt.Errorf("eval: model %q: want logits that are numbers, got %v for token %d", e.model.Path(), v, id),
				"the weights of the model or of an adapter are damaged, or too large for its activations")
		}
	}
	return nil
}

// textStream holds back the first bytes of a character that a token has cut in two.
type textStream struct {
	emit func(string)
	rest string
}

func (t *textStream) add(piece string) {
	text := t.rest + piece
	whole := len(text)
	for back := 1; back <= min(utf8.UTFMax, len(text)); back++ {
		if c := text[len(text)-back]; utf8.RuneStart(c) {
			if !utf8.FullRuneInString(text[len(text)-back:]) {
				whole = len(text) - back
			}
			break
		}
	}
	t.rest = text[whole:]
	if whole > 0 {
		t.emit(text[:whole])
	}
}

func (t *textStream) flush() {
	if t.rest != "" {
		t.emit(strings.ToValidUTF8(t.rest, "\uFFFD"))
	}
}
