package eval_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"finetune/eval"
	"finetune/internal/testmodel"
	"finetune/model/native"
)

// A model with a table of positions has none behind its last: a text ends there, as a prompt that is longer begins where it
// fits.
func TestGenerateStaysInTheContext(t *testing.T) {
	m, err := native.Open(testmodel.Path(t, testmodel.Spec{Arch: "gpt2", HeadsKV: 4, Ctx: 16}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e, err := eval.NewEvaluator(m, 16, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, prompt := range []string{"once", strings.Repeat("once upon a time ", 20)} {
		pieces := 0
		if err := e.Generate(context.Background(), prompt, eval.Sampling{Tokens: 100, Temp: 1, TopP: 1, Seed: 1}, func(string) { pieces++ }); err != nil {
			t.Fatal(err)
		}
		if pieces > 16 {
			t.Errorf("a prompt of %d bytes is continued by %d pieces, want at most 16", len(prompt), pieces)
		}
	}
}

// What may become a stop is held back until it is known, a stop is never given out, and characters are whole.
func TestStreamedText(t *testing.T) {
	for _, tt := range []struct {
		pieces, stops, want []string
		stopped             bool
	}{
		{[]string{"a", "b"}, nil, []string{"a", "b"}, false},
		{[]string{"a", "\xc3", "\xa9b"}, nil, []string{"a", "éb"}, false},
		{[]string{"a", "\xc3"}, nil, []string{"a", "\uFFFD"}, false},
		{[]string{"a", "END", "b"}, []string{"END"}, []string{"a"}, true},
		{[]string{"aE", "N", "Db"}, []string{"END"}, []string{"a"}, true},
		{[]string{"aE", "N", "b"}, []string{"END"}, []string{"a", "ENb"}, false},
		{[]string{"aEN"}, []string{"END"}, []string{"a", "EN"}, false},
		{[]string{"aab"}, []string{"ab", "aa"}, nil, true},
		{[]string{"xa", "ab"}, []string{"ab"}, []string{"x", "a"}, true},
		{[]string{"é", "\xc3", "\xa9"}, []string{"éé"}, nil, true},
		{[]string{"a"}, []string{""}, []string{"a"}, false},
	} {
		if got, stopped := eval.Streamed(tt.pieces, tt.stops); !slices.Equal(got, tt.want) || stopped != tt.stopped {
			t.Errorf("Streamed(%q, %q) = %q, %v, want %q, %v", tt.pieces, tt.stops, got, stopped, tt.want, tt.stopped)
		}
	}
}

// A prompt is read in parts of what llama.cpp computes at once: what follows is what follows it as a whole, and a cancelled one is
// left between two parts.
func TestLongPromptIsReadInParts(t *testing.T) {
	const nCtx = 2048
	m, err := native.Open(testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: nCtx}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e, err := eval.NewEvaluator(m, nCtx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	tokens, total, err := e.Prompt(strings.Repeat("once upon a time ", 1000))
	if err != nil || total <= nCtx || len(tokens) != nCtx-1 {
		t.Fatalf("Prompt() = %d of %d tokens, %v, want the last %d", len(tokens), total, err, nCtx-1)
	}
	greedy := eval.Sampling{Tokens: 20, TopP: 1}
	var parts strings.Builder
	g, err := e.Continue(context.Background(), tokens[:1500], greedy, func(s string) { parts.WriteString(s) })
	if err != nil || g.Prompt != 1500 || g.Tokens != 20 || g.Ended {
		t.Fatalf("Continue() = %+v, %v", g, err)
	}
	if want := eval.GreedyInOne(t, m, tokens[:1500], 20); parts.String() != want {
		t.Errorf("in parts %q, in one %q", parts.String(), want)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if g, err := e.Continue(ctx, tokens, greedy, nil); err != context.Canceled || g.Tokens != 0 {
		t.Errorf("cancelled: %+v, %v", g, err)
	}
}
