package apps

import (
	"slices"
	"testing"
)

// Every app continues every prompt by newTokens, or to the end of the answer. An app with another llama.cpp adds its sums
// in another order and may choose another token in the end; the first sameTokens have to be the same.
const (
	newTokens  = 48
	sameTokens = 20
	context    = 256
	threads    = 1
)

// sentences of the demo's task that the base continues without a tie: of the first sameTokens, each is ahead of the next
// likeliest by a third in the logits, where builds of llama.cpp differ by some hundredths.
var sentences = []string{
	"Lucy found 13 candles in the park.",
	"Grace carries 11 letters home.",
	"Peter packed 10 boxes into a bag.",
	"Yesterday Eva bought 7 toys.",
}

// prompt is raw text, special tokens by name: the apps' own chat templates stay out of it.
func prompt(sentence string) string {
	return "<|im_start|>user\n" + sentence + "<|im_end|>\n<|im_start|>assistant\n"
}

// request is what an app is asked, on its standard input.
type request struct {
	Model   string   `json:"model"`
	Runs    []asked  `json:"runs"`
	Prompts []string `json:"prompts"`
	Text    string   `json:"text,omitempty"` // whose loss is asked too
	Tokens  int      `json:"tokens"`
	Context int      `json:"context"`
	Threads int      `json:"threads"`
}

// asked is the base with an adapter, or alone.
type asked struct {
	Name    string `json:"name"`
	Adapter string `json:"adapter"`
}

// answer is an app's to one prompt in one run. Requests and answers go by JSON.
type answer struct {
	Run    string  `json:"run"`
	Prompt []int32 `json:"prompt"` // tokens
	Tokens []int32 `json:"tokens"` // without the one that ends the answer
	Text   string  `json:"text"`
}

// reply is what an app says to a request.
type reply struct {
	Version string               `json:"version"`
	Answers []answer             `json:"answers"`
	Losses  map[string][]float64 `json:"losses"` // of each token of the text but the first, in nats, by run
}

func TestAppsContinueAlike(t *testing.T) {
	r := request{Tokens: newTokens, Context: context, Threads: threads}
	r.Model, r.Runs = material(t)
	for _, s := range sentences {
		r.Prompts = append(r.Prompts, prompt(s))
	}
	want := ours(t, r)
	noTies(t, want)
	adapterMatters(t, want)
	t.Run("go-llama.cpp", func(t *testing.T) { goLlama(t, r) })
	t.Run("node-llama-cpp", func(t *testing.T) { compare(t, want, node(t, r).Answers) })
	t.Run("llama-cpp-python", func(t *testing.T) { compare(t, want, python(t, r).Answers) })
}

// leastLead is half of what the base's prompts were chosen by, and far above what builds differ by.
const leastLead = 0.15

// noTies fails where a token that has to be the same might be another by rounding alone.
func noTies(t *testing.T, all []reference) {
	t.Helper()
	for i, a := range all {
		least := slices.Min(a.leads[:min(len(a.leads), sameTokens)])
		if !(least >= leastLead) {
			t.Errorf("%s, prompt %d: a token is ahead by %.4f only; want another prompt", a.Run, i%len(sentences), least)
		}
	}
}

// adapterMatters fails where the base alone says what it says with an adapter.
func adapterMatters(t *testing.T, all []reference) {
	t.Helper()
	for i, a := range all[len(sentences):] {
		if base := all[i%len(sentences)]; slices.Equal(a.Tokens, base.Tokens) {
			t.Errorf("%s, prompt %d: the base alone continues it alike: %q", a.Run, i%len(sentences), base.Text)
		}
	}
}

// compare holds the answers of an app with another llama.cpp against ours.
func compare(t *testing.T, want []reference, got []answer) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d answers, want %d", len(got), len(want))
	}
	alike := 0
	for i, w := range want {
		g := got[i]
		if g.Run != w.Run || !slices.Equal(g.Prompt, w.Prompt) {
			t.Errorf("%s reads the prompt as %v, want %s and %v", g.Run, g.Prompt, w.Run, w.Prompt)
			continue
		}
		n := agreement(w.Tokens, g.Tokens)
		switch {
		case n == len(w.Tokens) && n == len(g.Tokens):
			alike++
		case n < sameTokens:
			t.Errorf("%s, prompt %d: token %d differs, where ours was %.4f ahead of the next\ngot  %q\nwant %q",
				w.Run, i%len(sentences), n, w.lead(n), g.Text, w.Text)
		default:
			t.Logf("%s, prompt %d: the same for %d tokens, then ours was %.4f ahead", w.Run, i%len(sentences), n, w.lead(n))
		}
	}
	t.Logf("%d of %d continuations are the same to the end", alike, len(want))
}

// agreement is how many tokens two answers begin with alike.
func agreement(a, b []int32) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
