//go:build cgo

package chunk

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"finetune/internal/need"
	"finetune/internal/testmodel"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// tokenizers that llama.cpp loads: those that tests make, of every type, the demo's, and real ones.
func eachVocab(t *testing.T, test func(t *testing.T, v *llama.Vocab)) {
	open := func(t *testing.T, path string) {
		m, err := llama.LoadModel(path, llama.ModelParams{VocabOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		test(t, m.Vocab())
	}
	for _, arch := range testmodel.Architectures() {
		t.Run(arch, func(t *testing.T) { open(t, testmodel.Path(t, testmodel.Spec{Arch: arch})) })
	}
	for name, kvs := range handMade() {
		t.Run(name, func(t *testing.T) { open(t, writeVocab(t, kvs)) })
	}
	need.Each(t, []string{"demo/base.gguf"}, []string{"tokenizers/ggml-vocab-gpt-2.gguf", "tokenizers/ggml-vocab-llama-spm.gguf", "tokenizers/ggml-vocab-phi-3.gguf"}, open)
}

// adversarial returns texts of n bytes or some more, in which a careless cut shows.
func adversarial(n int, seed uint64) map[string]string {
	r := rand.New(rand.NewPCG(seed, 1))
	build := func(part func() string) string {
		var b strings.Builder
		for b.Len() < n {
			b.WriteString(part())
		}
		return b.String()
	}
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	word := func() string {
		return pick("the", " little", " girl", " went", "Once", " upon", "  ", " x", " time", ",", "don't", " 12345", " 3", "é", " naïve", "ing", "<|im_end|>", "<s>", "\t")
	}
	runes := func(from, to rune) func() string { return func() string { return string(from + r.Int32N(to-from)) } }
	all := map[string]string{
		"prose":          build(func() string { return word() + pick("", "", "", ".\n", "\n\n", "\r\n") }),
		"no line end":    build(word),
		"spaces":         strings.Repeat(" ", n+r.IntN(17)),
		"line ends":      strings.Repeat("\n", n+r.IntN(17)),
		"one letter":     strings.Repeat("a", n+r.IntN(17)),
		"one word":       strings.Repeat("the", n/3+r.IntN(17)),
		"space and line": strings.Repeat(" \n", n/2+r.IntN(17)),
		"digits":         build(func() string { return fmt.Sprint(r.IntN(10)) }),
		"letters of DNA": build(func() string { return pick("A", "C", "G", "T") }),
		"small letters":  build(runes('a', 'z'+1)),
		"capitals":       build(runes('A', 'Z'+1)) + "a",
		"hexadecimal":    build(func() string { return fmt.Sprintf("%x", r.Uint32()) }),
		"CJK":            build(runes(0x4e00, 0x9fff)),
		"one CJK":        strings.Repeat("的", n/3),
		"CJK and marks":  build(func() string { return runes(0x4e00, 0x4e40)() + pick("", "", "", "。", ",") }),
		"emoji":          build(runes(0x1f600, 0x1f640)),
		"joined emoji":   strings.Repeat("👩‍👩‍👧‍👦🏽", n/29),
		"Hangul":         build(func() string { return runes(0xac00, 0xd7a3)() + pick("", "", " ") }),
		"Devanagari":     build(func() string { return runes(0x0900, 0x0960)() + pick("", "", "", " ") }),
		"long white": build(func() string {
			return "foo" + strings.Repeat(pick(" ", "\n", "\t", "\r\n"), r.IntN(3000)) + pick("bar", ".", "9")
		}),
		"special names": build(func() string {
			return pick("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<|end|>", " ", "a", "  b")
		}),
		"marks": build(func() string {
			return pick("!", "?", ".", ",", ";", "(", ")", "{", "}", "[", "]", `"`, "'", "\\", "/", "=", "-")
		}),
		"JSON":            build(func() string { return fmt.Sprintf(`{"k%d":[%d,"%s"]},`, r.IntN(9), r.IntN(1e6), word()) }),
		"zero and others": build(func() string { return pick("\x00", "\x01", "\ufeff", "\u00a0", "\u2028", "\u3000", "a", "é", " ") }),
	}
	// llama.cpp ends the process on some 20,000 marks in a row where a pattern is none that it has written out, as falcon's.
	all["marks"] = all["marks"][:min(n/5, 15_000)]
	all["everything"] = build(func() string {
		text := all[pick("prose", "spaces", "digits", "CJK", "emoji", "long white", "special names", "marks", "one letter", "zero and others")]
		from := runeStart([]byte(text), r.IntN(len(text)/2))
		to := runeStart([]byte(text), from+r.IntN(min(len(text)-from, 3000)))
		return text[from:to]
	})
	return all
}

// TestPartsHaveTheTokensOfTheWhole: in parts of some kilobytes, every text has the tokens that llama.cpp gives it in one piece.
func TestPartsHaveTheTokensOfTheWhole(t *testing.T) {
	const length, size = 24_000, 2500
	texts := adversarial(length, 1)
	eachVocab(t, func(t *testing.T, v *llama.Vocab) {
		for name, text := range texts {
			for _, special := range []bool{false, true} {
				sameTokens(t, v, name, text, special, size)
			}
		}
	})
}

// TestManySeeds looks for a text that the others do not have.
func TestManySeeds(t *testing.T) {
	need.Long(t, "texts of several seeds")
	const seeds = 3
	eachVocab(t, func(t *testing.T, v *llama.Vocab) {
		for seed := range uint64(seeds) {
			for name, text := range adversarial(40_000, seed+2) {
				sameTokens(t, v, name, text, seed%2 == 0, 3000+int(seed)*777)
			}
		}
	})
}

// TestMegabytes has parts of the size that is used.
func TestMegabytes(t *testing.T) {
	need.Long(t, "texts of a megabyte")
	texts := adversarial(1<<20, 7)
	need.Each(t, []string{"demo/base.gguf"}, []string{"tokenizers/ggml-vocab-gpt-2.gguf", "tokenizers/ggml-vocab-llama-spm.gguf"}, func(t *testing.T, path string) {
		m, err := llama.LoadModel(path, llama.ModelParams{VocabOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		for name, text := range texts {
			sameTokens(t, m.Vocab(), name, text, false, Size)
		}
	})
}

func sameTokens(t *testing.T, v *llama.Vocab, name, text string, special bool, size int) {
	t.Helper()
	want, err := v.Tokenize(text, false, special)
	if err != nil {
		t.Fatal(err)
	}
	e := New(v)
	e.size, e.whole = size, size
	var got []int32
	parts, longest := 0, 0
	err = e.Stream(iotest.HalfReader(strings.NewReader(text)), special, func(ids []int32) error {
		got, parts, longest = append(got, ids...), parts+1, max(longest, len(ids))
		return nil
	})
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if !slices.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Errorf("%s, special %v: %d tokens in %d parts, want %d; they differ from %d on: %v, want %v", name, special, len(got), parts, len(want), at,
			got[at:min(at+8, len(got))], want[at:min(at+8, len(want))])
	}
	if least := len(text) / (5 * size); parts < least && !strings.Contains(t.Name(), "unigram") { // in which the first token may depend on the last letter
		t.Errorf("%s, special %v: %d parts, want %d or more", name, special, parts, least)
	}
}

// TestTextsAreContinued: a long text behind tokens has the tokens that it has in one piece there.
func TestTextsAreContinued(t *testing.T) {
	need.Each(t, []string{"demo/base.gguf"}, []string{"tokenizers/ggml-vocab-llama-spm.gguf", "tokenizers/ggml-vocab-phi-3.gguf"}, func(t *testing.T, path string) {
		m, err := llama.LoadModel(path, llama.ModelParams{VocabOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		e := New(m.Vocab())
		e.size, e.whole = 2000, 2000
		text := strings.Repeat("Once upon a time, there was a little girl. ", 500)
		whole, err := m.Vocab().Tokenize(text, false, true)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.Tokenize(text, true); err != nil || !slices.Equal(got, whole) {
			t.Errorf("Tokenize gives %d tokens, %v, want %d", len(got), err, len(whole))
		}
		for _, before := range []string{"Hello", "</s>", "<|im_end|>"} {
			prev, err := m.Vocab().Tokenize(before, false, true)
			if err != nil {
				t.Fatal(err)
			}
			want, err := e.behindToken(prev[len(prev)-1], text, true)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := e.Continue(prev, text, true); err != nil || !slices.Equal(got, want) {
				t.Errorf("behind %q: %d tokens, %v, want %d", before, len(got), err, len(want))
			}
		}
	})
}

func TestErrorsPassThrough(t *testing.T) {
	m, err := llama.LoadModel(need.Own(t, "demo/base.gguf"), llama.ModelParams{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e := New(m.Vocab())
	e.size, e.whole = 1000, 1000
	mine := errors.New("mine")
	text := strings.Repeat("once upon a time ", 1000)
	if err := e.Stream(io.MultiReader(strings.NewReader(text), iotest.ErrReader(mine)), false, func([]int32) error { return nil }); err != mine {
		t.Errorf("error of the reader: %v", err)
	}
	if err := e.Stream(strings.NewReader(text), false, func([]int32) error { return mine }); err != mine {
		t.Errorf("error of emit: %v", err)
	}
}
