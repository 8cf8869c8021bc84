package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// asking is questions of tokens at random: each choice is so many tokens long.
func asking(vocab, prompt int, lengths ...int) data.Question {
	rng := rand.New(rand.NewPCG(uint64(prompt), uint64(len(lengths))))
	draw := func(n int) (tokens []int32) {
		for range n {
			tokens = append(tokens, int32(3+rng.IntN(vocab-3)))
		}
		return tokens
	}
	var q data.Question
	before := draw(prompt)
	for i, n := range lengths {
		q.Choices = append(q.Choices, fmt.Sprint(i))
		q.Answers = append(q.Answers, data.Answer{Tokens: append(append([]int32(nil), before...), draw(n)...), From: prompt})
	}
	return q
}

// edgeQuestions are of every kind that is divided or shared in its own way by a context of 256 tokens.
func edgeQuestions(vocab int) []data.Question {
	letters := asking(vocab, 20, 1, 1, 1, 1) // no choice has a token that is decoded by itself
	alike := asking(vocab, 9, 3, 4)
	copy(alike.Answers[1].Tokens[9:], alike.Answers[0].Tokens[9:11]) // two tokens of the choices as well
	beginning := asking(vocab, 5, 2, 2)
	beginning.Answers[0].Tokens = beginning.Answers[0].Tokens[:6]
	copy(beginning.Answers[1].Tokens, beginning.Answers[0].Tokens) // one choice begins with the other
	unlike := asking(vocab, 8, 3, 3)
	unlike.Answers[1].Tokens[2]++ // a prompt whose tokens depend on what follows
	return []data.Question{letters, alike, beginning, unlike, asking(vocab, 1, 2, 3), asking(vocab, 12, 1, 5, 2),
		asking(vocab, 30, upTo(40, 3)...), // more choices than sequences
		asking(vocab, 100, 60, 90, 70, 1), // more tokens than the memory has cells
		asking(vocab, 200, 50, 56),        // hardly one choice at a time
		asking(vocab, 3, 1, 2)}
}

// upTo is n lengths, from 1 to most over and over.
func upTo(n, most int) (lengths []int) {
	for i := range n {
		lengths = append(lengths, 1+i%most)
	}
	return lengths
}

// plainLogLikelihoods decodes each choice by itself from its first token, and does the sums in plain loops.
func plainLogLikelihoods(t *testing.T, e *Evaluator, questions []data.Question) (all [][]float64) {
	t.Helper()
	for _, q := range questions {
		var sums []float64
		for _, a := range q.Answers {
			output := make([]bool, len(a.Tokens))
			for i := range output {
				output[i] = true
			}
			e.ctx.ClearMemory()
			if err := e.ctx.Decode(llama.Batch{Tokens: a.Tokens, Output: output}); err != nil {
				t.Fatal(err)
			}
			sum := 0.0
			for i := a.From; i < len(a.Tokens); i++ {
				sum += math.Log(softmax(e.ctx.Logits(i - 1))[a.Tokens[i]])
			}
			sums = append(sums, sum)
		}
		all = append(all, sums)
	}
	return all
}

func TestLogLikelihoodsAreWhatPlainLoopsFind(t *testing.T) {
	paths := map[string]string{}
	for _, arch := range []string{"llama", "qwen2", "gemma2"} {
		paths[arch] = testmodel.Path(t, testmodel.Spec{Arch: arch, Layers: 2, Embd: 32, FF: 48, Ctx: 300})
	}
	for _, v := range testmodel.Variants() {
		if v.Name == "qwen35" || v.Name == "lfm2" { // whose states are copied for the choices
			paths[v.Name] = filepath.Join(t.TempDir(), "model.gguf")
			if err := v.Write(paths[v.Name]); err != nil {
				t.Fatal(err)
			}
		}
	}
	for arch, path := range paths {
		c := testrun.Tiny(t)
		c.Model = path
		m := testrun.Model(t, c)
		questions := edgeQuestions(m.Vocab().NTokens())
		adapters := []string{randomLoRA(t, path, 3, 3, 6)}
		e, plain := withAdapters(t, m, 256, adapters, []float32{1}), withAdapters(t, m, 257, adapters, []float32{1})
		var told []int
		got, err := e.LogLikelihoods(context.Background(), questions, func(done int) { told = append(told, done) })
		if err != nil {
			t.Fatal(err)
		}
		base, err := evaluator(t, m, 256).LogLikelihoods(context.Background(), questions, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := plainLogLikelihoods(t, plain, questions)
		for i := range questions {
			for k := range want[i] {
				if !near.Within(got[i][k], want[i][k], sameLossTolerance) {
					t.Errorf("%s: question %d, choice %d: log-likelihood %v, want %v", arch, i, k, got[i][k], want[i][k])
				}
			}
			if !near.Apart(base[i][0], got[i][0], 2*sameLossTolerance) {
				t.Errorf("%s: question %d: log-likelihood %v with the adapter, %v without: too little to tell", arch, i, got[i][0], base[i][0])
			}
		}
		if fmt.Sprint(told) != fmt.Sprint(countTo(len(questions))) {
			t.Errorf("progress %v, want 1 to %d", told, len(questions))
		}
	}
}

// The prompt is decoded once, not once a choice: what is decoded is counted in tokens.
func TestSharedTokensAreDecodedOnce(t *testing.T) {
	q := asking(300, 100, 2, 2, 2, 2)
	all := branches(q, make([]float64, 4), 256)
	if len(all) != 1 || all[0].cells() != 100+4 || all[0].sequences() != 4 {
		t.Errorf("%d parts, of %d tokens in %d sequences, want one of 104 in 4", len(all), all[0].cells(), all[0].sequences())
	}
	q = asking(300, 30, upTo(40, 3)...)
	tokens := 0
	for _, b := range branches(q, make([]float64, 40), 256) {
		if b.sequences() > maxSequences || b.cells() > 256 {
			t.Errorf("a part of %d tokens in %d sequences", b.cells(), b.sequences())
		}
		tokens += b.cells()
	}
	if most := 2*30 + 40; tokens > most { // 13 choices end with the prompt, 27 others need two parts
		t.Errorf("%d tokens decoded for 40 choices, want at most %d", tokens, most)
	}
}

func TestLogLikelihoodsCancelled(t *testing.T) {
	c := testrun.Tiny(t)
	m := testrun.Model(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := evaluator(t, m, 64).LogLikelihoods(ctx, edgeQuestions(300)[:1], nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
