package llama

import (
	"errors"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Predict continues text. The result is the continuation, without a newline at its start and without the stop word.
func (l *LLama) Predict(text string, opts ...PredictOption) (string, error) {
	po := NewPredictOptions(opts...)
	if err := l.begin(po); err != nil {
		return "", err
	}
	defer l.callbackFor(po)()
	g, err := l.newGeneration(text, po)
	if err != nil {
		return "", err
	}
	defer g.close()
	if err := g.run(); err != nil {
		return "", err
	}
	return g.result(), nil
}

// callbackFor installs the callback of one prediction and returns what removes it.
func (l *LLama) callbackFor(po PredictOptions) func() {
	if po.TokenCallback == nil {
		return func() {}
	}
	l.SetTokenCallback(po.TokenCallback)
	return func() { l.SetTokenCallback(nil) }
}

// stream returns the sequence in l's context, as it is.
func (l *LLama) stream(po PredictOptions) *stream {
	batch := l.ctx.NBatch()
	if po.Batch > 0 {
		batch = min(batch, po.Batch)
	}
	return &stream{ctx: l.ctx, past: l.past, batch: batch}
}

// generation is one prediction on its way.
type generation struct {
	l        *LLama
	po       PredictOptions
	s        *stream
	sampler  *llama.Sampler
	guidance *stream // after the negative prompt; nil without one
	text     []byte  // what was predicted
	left     int     // tokens still wanted, below 0: no limit
	cache    string  // path of the prompt cache, "" without one
	cached   bool    // the prompt cache existed
	fresh    bool    // the prediction begins the text
}

// newGeneration evaluates the prompt.
func (l *LLama) newGeneration(text string, po PredictOptions) (*generation, error) {
	g := &generation{l: l, po: po, left: po.Tokens, cache: po.PathPromptCache}
	if po.Tokens == 0 {
		g.left = -1
	}
	if err := g.prepare(text); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (g *generation) prepare(text string) (err error) {
	if !g.l.ctx.HasMemory() || g.l.model.HasEncoder() {
		return errorf("predict", "the model does not continue texts: it has an encoder or does not predict left to right")
	}
	if err := g.restore(); err != nil {
		return err
	}
	prompt, err := g.prompt(text)
	if err != nil {
		return err
	}
	params, err := g.po.samplerParams(g.l)
	if err != nil {
		return err
	}
	if g.sampler, err = llama.NewSampler(g.l.model.Vocab(), params); err != nil {
		return err
	}
	if err := g.sampler.Seen(prompt...); err != nil {
		return err
	}
	if err := g.guide(); err != nil {
		return err
	}
	return g.evalPrompt(prompt)
}

// restore starts from the prompt cache, from what LoadState or Eval left, or from nothing.
func (g *generation) restore() error {
	l := g.l
	restored := l.restored
	l.restored = false
	if g.cache != "" {
		tokens, err := l.ctx.LoadState(g.cache)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.past = nil
			return err
		}
		if err == nil {
			l.past, restored, g.cached = tokens, true, true
		}
	}
	g.s = l.stream(g.po)
	if !restored {
		g.s.reset(nil)
	}
	return nil
}

// prompt returns the tokens that come before the prediction: text, or what was restored if there is no text. It is
// never empty.
func (g *generation) prompt(text string) ([]int32, error) {
	if text == "" && len(g.s.past) > 0 {
		return append([]int32(nil), g.s.past...), nil
	}
	prompt, err := g.l.tokenize(text)
	if err != nil {
		return nil, err
	}
	if len(prompt) == 0 {
		bos := g.l.model.Vocab().BOS()
		if bos < 0 {
			return nil, errorf("predict", "the prompt is empty and the model has no BOS token to begin with")
		}
		prompt = []int32{bos}
	}
	g.fresh = text == ""
	const room = 4 // tokens that a prediction has at least
	if most := g.l.ctx.NCtxSeq() - room; len(prompt) > most {
		return nil, errorf("predict", "prompt of %d tokens, the context has room for %d", len(prompt), most)
	}
	return prompt, nil
}

func (g *generation) evalPrompt(prompt []int32) error {
	g.s.keep = len(prompt)
	if g.po.NKeep >= 0 {
		g.s.keep = max(1, min(g.po.NKeep, len(prompt))) // BOS stays in any case
	}
	g.s.reset(prompt)
	known := len(g.s.past)
	if known == len(prompt) { // its last token has to be computed again for its logits
		g.s.cut(known - 1)
	}
	if err := g.s.eval(prompt[len(g.s.past):]); err != nil {
		return err
	}
	if g.cache == "" || g.po.PromptCacheRO || g.cached && known == len(prompt) {
		return nil
	}
	return g.l.ctx.SaveState(g.cache, prompt)
}

// guide evaluates the negative prompt in a context of its own.
func (g *generation) guide() error {
	if g.po.NegativePromptScale <= 1 {
		return nil
	}
	tokens, err := g.l.tokenize(g.po.NegativePrompt)
	if err != nil {
		return err
	}
	if len(tokens) == 0 {
		return errorf("predict", "the negative prompt is empty")
	}
	ctx, err := g.l.newContext()
	if err != nil {
		return err
	}
	ctx.SetThreads(g.po.threads())
	g.guidance = &stream{ctx: ctx, batch: g.s.batch, keep: len(tokens)}
	return g.guidance.eval(tokens)
}

func (g *generation) close() {
	g.l.past = nil
	if g.s != nil {
		g.l.past = g.s.past
		if g.s.moved { // the tokens are those in memory, but no text begins with them
			g.l.past = nil
			g.l.ctx.ClearMemory()
		}
	}
	if g.guidance != nil {
		g.guidance.ctx.Close()
	}
	if g.sampler != nil {
		g.sampler.Close()
	}
}

// run predicts token after token.
func (g *generation) run() error {
	for g.left != 0 {
		logits := g.s.logits()
		if g.guidance != nil {
			guideLogits(logits, g.guidance.logits(), g.po.NegativePromptScale)
		}
		id, err := g.sampler.Choose(logits)
		if err != nil {
			return err
		}
		more, err := g.emit(id)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if err := g.s.eval([]int32{id}); err != nil {
			return err
		}
		if g.guidance != nil {
			if err := g.guidance.eval([]int32{id}); err != nil {
				return err
			}
		}
	}
	if g.cache != "" && g.po.PromptCacheAll && !g.po.PromptCacheRO && !g.s.moved {
		return g.l.ctx.SaveState(g.cache, g.s.past)
	}
	return nil
}

// emit makes id part of the text, and tells whether the prediction goes on.
func (g *generation) emit(id int32) (more bool, err error) {
	if err := g.sampler.Accept(id); err != nil {
		return false, err
	}
	g.left--
	piece := g.l.model.Vocab().Piece(id, false)
	if f := g.l.callback.Load(); f != nil && !(*f)(piece) {
		return false, nil
	}
	g.text = append(g.text, piece...)
	if at := stopAt(g.text, len(piece), g.po.StopPrompts); at >= 0 {
		g.text = g.text[:at]
		return false, nil
	}
	return !g.l.model.Vocab().IsEOG(id) && g.left != 0, nil
}

// stopAt returns where the first of the stop words begins that ends within the last n bytes of text; -1: there is none.
func stopAt(text []byte, n int, stops []string) int {
	at := -1
	for _, stop := range stops {
		if stop == "" {
			continue
		}
		from := max(0, len(text)-n-len(stop)+1)
		if i := strings.Index(string(text[from:]), stop); i >= 0 && (at < 0 || from+i < at) {
			at = from + i
		}
	}
	return at
}

// result leaves out the newline after the prompt and, where there was no prompt, the space that begins a text's first word.
func (g *generation) result() string {
	text := string(g.text)
	if g.fresh {
		text = strings.TrimPrefix(text, " ")
	}
	return strings.TrimPrefix(text, "\n")
}

// guideLogits moves logits away from those after the negative prompt: in terms of log-probabilities,
// base ← negative + scale · (base − negative) (Sanchez et al., "Stay on topic with Classifier-Free Guidance").
func guideLogits(base, negative []float32, scale float32) {
	lb, ln := logSumExp(base), logSumExp(negative)
	for i := range base {
		n := negative[i] - ln
		base[i] = n + scale*(base[i]-lb-n)
	}
}

func logSumExp(x []float32) float32 {
	top, sum := x[0], 0.0
	for _, v := range x {
		top = max(top, v)
	}
	for _, v := range x {
		sum += math.Exp(float64(v - top))
	}
	return top + float32(math.Log(sum))
}

func (po PredictOptions) samplerParams(l *LLama) (p llama.SamplerParams, err error) {
	p = llama.SamplerParams{
		Temp: po.Temperature, TopK: po.TopK, TopP: po.TopP, TypicalP: po.TypicalP, Seed: uint32(po.Seed),
		PenaltyLast: po.Repeat, PenaltyRepeat: po.Penalty, PenaltyFreq: po.FrequencyPenalty, PenaltyPresent: po.PresencePenalty,
		SpareNewline: !po.PenalizeNL,
		Mirostat:     po.Mirostat, MirostatTau: po.MirostatTAU, MirostatEta: po.MirostatETA,
		Grammar: po.Grammar,
	}
	if p.PenaltyLast < 0 {
		p.PenaltyLast = l.ctx.NCtxSeq()
	}
	if po.LogitBias != "" {
		if p.LogitBias, err = parseLogitBias(po.LogitBias); err != nil {
			return p, err
		}
	}
	if po.IgnoreEOS {
		p.LogitBias = withoutEnd(l.model.Vocab(), p.LogitBias)
	}
	return p, nil
}

// parseLogitBias reads "15043+1.5,29871-inf".
func parseLogitBias(s string) (map[int32]float32, error) {
	bias := map[int32]float32{}
	for _, part := range strings.Split(s, ",") {
		part = strings.TrimSpace(part)
		i := strings.IndexAny(part, "+-")
		if i < 1 {
			return nil, errorf("logit bias", "%q, want a token id and a signed number as in 15043-1.5", part)
		}
		id, err := strconv.ParseInt(strings.TrimSpace(part[:i]), 10, 32)
		if err != nil {
			return nil, errorf("logit bias", "%q is not a token id", part[:i])
		}
		v, err := strconv.ParseFloat(strings.ReplaceAll(part[i:], " ", ""), 32)
		if err != nil || math.IsNaN(v) {
			return nil, errorf("logit bias", "%q is not a number", part[i:])
		}
		bias[int32(id)] = float32(v)
	}
	return bias, nil
}

// withoutEnd forbids every token that ends a text.
func withoutEnd(v *llama.Vocab, bias map[int32]float32) map[int32]float32 {
	if bias == nil {
		bias = map[int32]float32{}
	}
	for id := range int32(v.NTokens()) {
		if v.IsEOG(id) {
			bias[id] = float32(math.Inf(-1))
		}
	}
	return bias
}
