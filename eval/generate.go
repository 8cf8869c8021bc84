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

// Sampling says how the next token is chosen, and when there is none.
type Sampling struct {
	Tokens int     // at most so many
	Temp   float32 // 0 takes the likeliest
	TopK   int     // 0 = all
	TopP   float32 // above 0; 1 = all
	Seed   uint32
	Stop   []string // texts that end it, which are not given out; an empty one is none
}

// Generated says what became of a prompt.
type Generated struct {
	Prompt int  // its tokens
	Tokens int  // that were generated, without the one by which the model ends
	Ended  bool // by the model or by a text of Sampling.Stop; else by Sampling.Tokens, the context, or an error
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

// Prompt returns the tokens of a text as an app makes them: with BOS where the vocabulary wants one, special tokens read by
// name, and one token where there would be none. Of a text that leaves no room in the context these are the last, behind which
// an answer still fits; total is how many there were.
func (e *Evaluator) Prompt(text string) (tokens []int32, total int, err error) {
	vocab := e.model.Vocab()
	if tokens, err = vocab.Tokenize(text, true, true); err != nil {
		return nil, 0, err
	}
	if len(tokens) == 0 {
		tokens = []int32{max(vocab.BOS(), 0)}
	}
	total = len(tokens)
	return tokens[max(0, total-max(e.nCtx-1, 1)):], total, nil
}

// Vocab returns the model's vocabulary.
func (e *Evaluator) Vocab() *llama.Vocab { return e.model.Vocab() }

// NCtx returns the tokens that a text may have, prompt and answer.
func (e *Evaluator) NCtx() int { return e.nCtx }

// Generate continues a prompt, or the end of one that is longer than the context, as Continue does.
func (e *Evaluator) Generate(ctx context.Context, prompt string, s Sampling, emit func(string)) error {
	tokens, _, err := e.Prompt(prompt)
	if err != nil {
		return err
	}
	_, err = e.Continue(ctx, tokens, s, emit)
	return err
}

// Continue continues the tokens of a prompt with the adapters in use, and gives the pieces of text to emit as they come, in whole
// characters. It stops at an end-of-generation token, at a text of s.Stop, after s.Tokens, at the end of the context, or when ctx
// is cancelled. The result is also that of an answer that an error cut off.
func (e *Evaluator) Continue(ctx context.Context, prompt []int32, s Sampling, emit func(string)) (g Generated, err error) {
	g.Prompt = len(prompt)
	if err := s.Validate(); err != nil {
		return g, err
	}
	vocab := e.model.Vocab()
	sampler, err := llama.NewSampler(vocab, llama.SamplerParams{Temp: s.Temp, TopK: s.TopK, TopP: s.TopP, Seed: s.Seed})
	if err != nil {
		return g, err
	}
	defer sampler.Close()
	e.ctx.ClearMemory()
	out := textStream{emit: emit, stops: s.Stop}
	defer out.flush()
	last, err := e.read(ctx, prompt)
	if err != nil {
		return g, err
	}
	for pos := len(prompt); ; pos++ {
		if ctx.Err() != nil || s.Tokens == 0 {
			return g, ctx.Err()
		}
		if err := e.checkLogits(last); err != nil {
			return g, err
		}
		next, err := sampler.Sample(e.ctx, last)
		if err != nil {
			return g, err
		}
		if vocab.IsEOG(next) {
			g.Ended = true
			return g, nil
		}
		g.Tokens++
		if g.Ended = out.add(vocab.Piece(next, false)); g.Ended || g.Tokens == s.Tokens || pos >= e.nCtx {
			return g, nil
		}
		if err := e.advance(next); err != nil {
			return g, err
		}
		last = 0
	}
}

// read decodes a prompt, in parts that llama.cpp computes at once, so that a long one can be cancelled between them. last is the
// place of its last token in the last of them.
func (e *Evaluator) read(ctx context.Context, prompt []int32) (last int, err error) {
	part := maxUBatch
	if e.model.HasEncoder() || e.model.IsDiffusion() || !e.ctx.HasMemory() {
		part = len(prompt) // these attend in both directions
	}
	for from := 0; from < len(prompt); from += part {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		tokens := prompt[from:min(from+part, len(prompt))]
		if err := e.advance(tokens...); err != nil {
			return 0, err
		}
		last = len(tokens) - 1
	}
	return last, nil
}

// advance decodes the next tokens of a text. ggml's fused attention shares the keys of a single token out among the threads, and
// its sum depends on how many these are (by up to 0.04 in a logit, behind 1,500 tokens of a tiny model): where it is used the number
// is fixed, or the same seed would give another text when the machine is busy.
func (e *Evaluator) advance(tokens ...int32) error {
	b := llama.Batch{Tokens: tokens}
	if e.nCtx <= shortContext {
		return e.decode(b, 1)
	}
	e.ctx.SetThreads(e.threads)
	return e.ctx.Decode(b)
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

// textStream holds back the first bytes of a character that a token has cut in two, and what may become a text that ends the
// answer.
type textStream struct {
	emit  func(string)
	stops []string
	rest  string
}

// add reports whether the text has come to one of the stops. What stands in front of it is left to flush.
func (t *textStream) add(piece string) (stopped bool) {
	text := t.rest + piece
	if at := firstOf(text, t.stops); at >= 0 {
		t.rest = text[:at]
		return true
	}
	whole := len(text) - max(cutCharacter(text), begun(text, t.stops))
	t.rest = text[whole:]
	if whole > 0 {
		t.emit(text[:whole])
	}
	return false
}

func (t *textStream) flush() {
	if t.rest != "" {
		t.emit(strings.ToValidUTF8(t.rest, "\uFFFD"))
	}
}

// cutCharacter returns how many bytes at the end of a text are the beginning of a character.
func cutCharacter(text string) int {
	for back := 1; back <= min(utf8.UTFMax, len(text)); back++ {
		if utf8.RuneStart(text[len(text)-back]) {
			if !utf8.FullRuneInString(text[len(text)-back:]) {
				return back
			}
			break
		}
	}
	return 0
}

// firstOf returns where the first of the stops in a text begins, -1 for none.
func firstOf(text string, stops []string) int {
	first := -1
	for _, stop := range stops {
		if at := strings.Index(text, stop); stop != "" && at >= 0 && (first < 0 || at < first) {
			first = at
		}
	}
	return first
}

// begun returns how many bytes at the end of a text may be the beginning of a stop.
func begun(text string, stops []string) int {
	most := 0
	for _, stop := range stops {
		for n := min(len(stop)-1, len(text)); n > most; n-- {
			if strings.HasSuffix(text, stop[:n]) {
				most = n
			}
		}
	}
	return most
}
