package llama

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// LLama is a model with a context, as go-skynet/go-llama.cpp has it. Only SetTokenCallback may be called while another
// method runs.
type LLama struct {
	model    *llama.Model
	ctx      *llama.Context
	params   llama.ContextParams // of ctx, and of a negative prompt's
	adapter  *llama.Adapter
	callback atomic.Pointer[func(string) bool]

	embeddings bool
	past       []int32 // tokens in the context's memory
	restored   bool    // past was put there by LoadState or Eval, for a prediction to start from
}

var errFreed = errors.New("llama: the model was freed")

// errorf returns an error of the form that those of the package below have.
func errorf(op, format string, args ...any) error {
	return &llama.Error{Op: op, Msg: fmt.Sprintf(format, args...)}
}

// New loads the GGUF model at the path model, and the LoRA adapter if one is set. The caller frees it.
func New(model string, opts ...ModelOption) (*LLama, error) {
	mo := NewModelOptions(opts...)
	params, err := mo.modelParams()
	if err != nil {
		return nil, err
	}
	if mo.NUMA {
		llama.InitNUMA()
	}
	l := &LLama{embeddings: mo.Embeddings}
	if l.model, err = llama.LoadModel(model, params); err != nil {
		return nil, err
	}
	if err := l.open(mo); err != nil {
		l.Free()
		return nil, err
	}
	return l, nil
}

func (l *LLama) open(mo ModelOptions) (err error) {
	if mo.LoraAdapter != "" {
		if l.adapter, err = llama.LoadAdapter(l.model, mo.LoraAdapter); err != nil {
			return err
		}
	}
	l.params = mo.contextParams(l.model)
	l.ctx, err = l.newContext()
	return err
}

// newContext makes a context that computes with the adapter.
func (l *LLama) newContext() (*llama.Context, error) {
	ctx, err := llama.NewContext(l.model, l.params)
	if err != nil || l.adapter == nil {
		return ctx, err
	}
	if err := ctx.SetAdapter(l.adapter, 1); err != nil {
		ctx.Close()
		return nil, err
	}
	return ctx, nil
}

// Free releases the model. A second Free does nothing.
func (l *LLama) Free() {
	if l.ctx != nil {
		l.ctx.Close()
	}
	if l.adapter != nil {
		l.adapter.Close()
	}
	if l.model != nil {
		l.model.Close()
	}
	l.ctx, l.adapter, l.model, l.past = nil, nil, nil, nil
}

func (mo ModelOptions) modelParams() (llama.ModelParams, error) {
	p := llama.ModelParams{GPULayers: mo.NGPULayers, NoMmap: !mo.MMap, Mlock: mo.MLock, RepackWeights: true}
	if mo.MainGPU != "" {
		n, err := strconv.Atoi(mo.MainGPU)
		if err != nil || n < 0 {
			return p, errorf("main GPU", "%q, want the number of a device", mo.MainGPU)
		}
		p.MainGPU = n
	}
	split := func(r rune) bool { return r == ',' || r == '/' }
	for _, s := range strings.FieldsFunc(mo.TensorSplit, split) {
		f, err := strconv.ParseFloat(strings.TrimSpace(s), 32)
		if err != nil || f < 0 {
			return p, errorf("tensor split", "%q in %q, want proportions as in 3,1", s, mo.TensorSplit)
		}
		p.TensorSplit = append(p.TensorSplit, float32(f))
	}
	return p, nil
}

func (mo ModelOptions) contextParams(m *llama.Model) llama.ContextParams {
	p := llama.ContextParams{NCtx: cmp.Or(mo.ContextSize, m.NCtxTrain()), NBatch: mo.NBatch}
	if p.NBatch > p.NCtx {
		p.NBatch = p.NCtx
	}
	if mo.Embeddings {
		p.NUBatch = p.NBatch // models that attend both ways want a text in one piece
	}
	if !mo.F16Memory {
		f32 := ggml.F32
		p.TypeK, p.TypeV, p.FlashAttn = &f32, &f32, llama.FlashAttnOff
	}
	if mo.FreqRopeBase != defaultRopeFreqBase {
		p.RopeFreqBase = mo.FreqRopeBase
	}
	if mo.FreqRopeScale != defaultRopeFreqScale {
		p.RopeFreqScale = mo.FreqRopeScale
	}
	return p
}

// begin readies l for an evaluation with po.
func (l *LLama) begin(po PredictOptions) error {
	if l.ctx == nil {
		return errFreed
	}
	l.ctx.SetThreads(po.threads())
	return nil
}

// threads returns how many threads a prediction computes with.
func (po PredictOptions) threads() int { return min(max(po.Threads, 1), runtime.NumCPU()) }

// tokenize returns the form in which a text goes to the model: with BOS if the model wants it, and with the names of
// special tokens read as those tokens, since prompts carry the marks of a chat.
func (l *LLama) tokenize(text string) ([]int32, error) {
	return l.model.Vocab().Tokenize(text, true, true)
}

// TokenizeString returns how many tokens text has, and the tokens, at most SetTokens of them (128 by default, 4096 for 0).
func (l *LLama) TokenizeString(text string, opts ...PredictOption) (int32, []int32, error) {
	po := NewPredictOptions(opts...)
	if l.model == nil {
		return 0, []int32{}, errFreed
	}
	tokens, err := l.tokenize(text)
	if err != nil {
		return 0, []int32{}, err
	}
	return int32(len(tokens)), tokens[:min(len(tokens), max(cmp.Or(po.Tokens, 4096), 0))], nil
}

// Eval evaluates text from an empty context. A prediction whose prompt begins with text starts from there.
func (l *LLama) Eval(text string, opts ...PredictOption) error {
	po := NewPredictOptions(opts...)
	if err := l.begin(po); err != nil {
		return err
	}
	tokens, err := l.tokenize(text)
	if err != nil {
		return err
	}
	if n := l.ctx.NCtxSeq(); len(tokens) == 0 || len(tokens) > n {
		return errorf("eval", "%d tokens, want 1 to %d", len(tokens), n)
	}
	s := l.stream(po)
	s.reset(nil)
	l.past = nil
	if err := s.eval(tokens); err != nil {
		return err
	}
	l.past, l.restored = s.past, true
	return nil
}

// SaveState writes what the context remembers to the file dst.
func (l *LLama) SaveState(dst string) error {
	if l.ctx == nil {
		return errFreed
	}
	return l.ctx.SaveState(dst, l.past)
}

// LoadState restores what SaveState wrote. A prediction whose prompt begins with the text of that time starts from there.
func (l *LLama) LoadState(state string) error {
	if l.ctx == nil {
		return errFreed
	}
	l.past = nil
	tokens, err := l.ctx.LoadState(state)
	if err != nil {
		return err
	}
	l.past, l.restored = tokens, true
	return nil
}

// SetTokenCallback sets a function that Predict and SpeculativeSampling call with each token's text as it is chosen, not
// trimmed, and not always whole UTF-8. The prediction goes on as long as it returns true; the token it returns false for is
// not part of the result. Nil removes it. It may be called while a prediction is running.
func (l *LLama) SetTokenCallback(callback func(token string) bool) {
	if callback == nil {
		l.callback.Store(nil)
		return
	}
	l.callback.Store(&callback)
}
