package apps

import (
	"errors"
	"math"
	"strings"
	"testing"

	"finetune/eval"
	"finetune/model/native"

	gollama "github.com/go-skynet/go-llama.cpp"
	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// reference is our answer, with what each token's logit was ahead of the second by.
type reference struct {
	answer
	leads []float32
}

// lead is that of a token; of the end of the answer, the one that was not printed.
func (r reference) lead(i int) float32 { return r.leads[min(i, len(r.leads)-1)] }

// ours answers with llama.cpp, token by token, and checks that what finetune run prints is the same.
func ours(t *testing.T, r request) (all []reference) {
	t.Helper()
	m, err := native.Open(r.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, run := range r.Runs {
		all = append(all, oursWith(t, m, r, run)...)
	}
	return all
}

// evaluator returns one with the run's adapter, if it has one, and what closes it.
func evaluator(t *testing.T, m *llama.Model, r request, run asked) (e *eval.Evaluator, closeIt func()) {
	t.Helper()
	e, err := eval.NewEvaluator(m, r.Context, r.Threads)
	if err != nil {
		t.Fatal(err)
	}
	if run.Adapter == "" {
		return e, func() { e.Close() }
	}
	detach, err := e.Attach(run.Adapter, 1)
	if err != nil {
		e.Close()
		t.Fatal(err)
	}
	return e, func() {
		detach()
		e.Close()
	}
}

func oursWith(t *testing.T, m *llama.Model, r request, run asked) (all []reference) {
	t.Helper()
	e, closeIt := evaluator(t, m, r, run)
	defer closeIt()
	all = stepwise(t, m, r, run, llama.ContextParams{FlashAttn: llama.FlashAttnOff})
	for i, prompt := range r.Prompts {
		ref := all[i]
		var text strings.Builder
		if err := e.Generate(t.Context(), prompt, eval.Sampling{Tokens: r.Tokens, TopP: 1}, func(s string) { text.WriteString(s) }); err != nil {
			t.Fatal(err)
		}
		if text.String() != ref.Text {
			t.Errorf("%s: finetune run continues %q with\n%q, token by token it is\n%q", run.Name, prompt, text.String(), ref.Text)
		}
	}
	return all
}

// stepwise answers one run token by token, by llama.cpp's settings for a context.
func stepwise(t *testing.T, m *llama.Model, r request, run asked, p llama.ContextParams) (all []reference) {
	t.Helper()
	inContext(t, m, r, run, p, func(c *llama.Context) {
		for _, prompt := range r.Prompts {
			ref, err := greedy(c, prompt, r.Tokens)
			if err != nil {
				t.Fatal(err)
			}
			ref.Run = run.Name
			all = append(all, ref)
		}
	})
	return all
}

// inContext lends a context of the request's size with the adapter of a run.
func inContext(t *testing.T, m *llama.Model, r request, run asked, p llama.ContextParams, do func(*llama.Context)) {
	t.Helper()
	p.NCtx, p.Threads = r.Context, r.Threads
	c, err := llama.NewContext(m, p)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if run.Adapter != "" {
		a, err := llama.LoadAdapter(m, run.Adapter)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if err := c.SetAdapter(a, 1); err != nil {
			t.Fatal(err)
		}
		defer c.ClearAdapters()
	}
	do(c)
}

// greedy takes the likeliest token n times.
func greedy(c *llama.Context, prompt string, n int) (ref reference, err error) {
	v := c.Model().Vocab()
	if ref.Prompt, err = v.Tokenize(prompt, true, true); err != nil {
		return ref, err
	}
	c.ClearMemory()
	batch := llama.Batch{Tokens: ref.Prompt}
	for len(ref.Tokens) < n {
		if err := c.Decode(batch); err != nil {
			return ref, err
		}
		logits := c.Logits(len(batch.Tokens) - 1)
		if logits == nil {
			return ref, errors.New("no logits behind the last token")
		}
		id, lead := likeliest(logits)
		ref.leads = append(ref.leads, lead)
		if v.IsEOG(id) {
			break
		}
		ref.Tokens = append(ref.Tokens, id)
		ref.Text += v.Piece(id, false)
		batch = llama.Batch{Tokens: []int32{id}}
	}
	return ref, nil
}

// likeliest is the token with the largest logit, and how far it is ahead of the next.
func likeliest(logits []float32) (id int32, lead float32) {
	first, second := float32(math.Inf(-1)), float32(math.Inf(-1))
	for i, x := range logits {
		switch {
		case x > first:
			id, first, second = int32(i), x, first
		case x > second:
			second = x
		}
	}
	return id, first - second
}

// goLlama continues as an app does that was written for go-skynet/go-llama.cpp. It is the same build of llama.cpp, so the
// whole text has to be the same as token by token. Its cache is in F32, as that module always had it; a cache in F16 may
// end in other words where two are nearly as likely.
func goLlama(t *testing.T, r request) {
	m, err := native.Open(r.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	f32 := ggml.F32
	inF32 := llama.ContextParams{FlashAttn: llama.FlashAttnOff, TypeK: &f32, TypeV: &f32}
	for _, run := range r.Runs {
		options := []gollama.ModelOption{gollama.SetContext(r.Context)}
		if run.Adapter != "" {
			options = append(options, gollama.SetLoraAdapter(run.Adapter))
		}
		l, err := gollama.New(r.Model, options...)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Free()
		for i, want := range stepwise(t, m, r, run, inF32) {
			got, err := l.Predict(r.Prompts[i], gollama.SetTokens(r.Tokens), gollama.SetThreads(r.Threads), gollama.SetTemperature(0), gollama.SetPenalty(1))
			if err != nil {
				t.Fatal(err)
			}
			if got != want.Text {
				t.Errorf("%s, prompt %d:\ngot  %q\nwant %q", run.Name, i, got, want.Text)
			}
		}
	}
}
