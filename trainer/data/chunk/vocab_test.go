//go:build cgo

package chunk

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/newmodel"
)

// handMade returns small vocabularies of the types that the models of tests do not have.
func handMade() map[string][]gguf.KV {
	return map[string][]gguf.KV{"wordpiece": wordPiece(), "unigram": unigram(), "spm with spaces": spaced()}
}

var someWords = strings.Fields("the a and to of in is it he she was that girl little went time once upon 1 12 123 3")

// list builds a vocabulary, token by token.
type list struct {
	tokens []string
	kinds  []int32
	scores []float32
	seen   map[string]bool
}

func (l *list) add(token string, kind int32, score float32) {
	if l.seen == nil {
		l.seen = map[string]bool{}
	}
	if l.seen[token] {
		return
	}
	l.seen[token] = true
	l.tokens, l.kinds, l.scores = append(l.tokens, token), append(l.kinds, kind), append(l.scores, score)
}

func (l *list) kvs(model string, more ...gguf.KV) []gguf.KV {
	return append([]gguf.KV{
		{Key: "tokenizer.ggml.model", Value: model}, {Key: "tokenizer.ggml.tokens", Value: l.tokens},
		{Key: "tokenizer.ggml.token_type", Value: l.kinds}, {Key: "tokenizer.ggml.scores", Value: l.scores},
	}, more...)
}

// wordPiece is like BERT's.
func wordPiece() []gguf.KV {
	var l list
	for _, name := range []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"} {
		l.add(name, newmodel.TokenControl, 0)
	}
	for c := '!'; c <= '~'; c++ {
		l.add("▁"+string(c), newmodel.TokenNormal, 0)
		l.add(string(c), newmodel.TokenNormal, 0)
	}
	for _, w := range someWords {
		l.add("▁"+w, newmodel.TokenNormal, 0)
		l.add(w, newmodel.TokenNormal, 0)
	}
	return l.kvs("bert", gguf.KV{Key: "tokenizer.ggml.unknown_token_id", Value: uint32(1)}, gguf.KV{Key: "tokenizer.ggml.cls_token_id", Value: uint32(2)},
		gguf.KV{Key: "tokenizer.ggml.seperator_token_id", Value: uint32(3)}, gguf.KV{Key: "tokenizer.ggml.padding_token_id", Value: uint32(0)})
}

// unigram is like T5's, without a table of normal forms.
func unigram() []gguf.KV {
	var l list
	l.add("<pad>", newmodel.TokenControl, 0)
	l.add("</s>", newmodel.TokenControl, 0)
	l.add("<unk>", newmodel.TokenUnknown, 0)
	l.add("▁", newmodel.TokenNormal, -2)
	for i, w := range someWords {
		l.add("▁"+w, newmodel.TokenNormal, -3-float32(i)/10)
		l.add(w, newmodel.TokenNormal, -4-float32(i)/10)
	}
	for c := '!'; c <= '~'; c++ {
		l.add(string(c), newmodel.TokenNormal, -6)
	}
	l.add("aaa", newmodel.TokenNormal, -5)
	return l.kvs("t5", gguf.KV{Key: "tokenizer.ggml.unknown_token_id", Value: uint32(2)}, gguf.KV{Key: "tokenizer.ggml.eos_token_id", Value: uint32(1)},
		gguf.KV{Key: "tokenizer.ggml.add_space_prefix", Value: true}, gguf.KV{Key: "tokenizer.ggml.remove_extra_whitespaces", Value: true})
}

// spaced is like Gemma's: runs of white space and names of tags are tokens that are found before anything else, and several words
// are one token.
func spaced() []gguf.KV {
	const userDefined = 4
	var l list
	l.add("<unk>", newmodel.TokenUnknown, 0)
	l.add("<s>", newmodel.TokenControl, 0)
	l.add("</s>", newmodel.TokenControl, 0)
	for i := range 256 {
		l.add(fmt.Sprintf("<0x%02X>", i), newmodel.TokenByte, 0)
	}
	for n := 2; n <= 16; n++ {
		l.add(strings.Repeat("▁", n), newmodel.TokenNormal, float32(-n))
		l.add(strings.Repeat("\n", n), userDefined, 0)
	}
	l.add("<tag>", userDefined, 0)
	l.add("girl went", userDefined, 0)
	score := float32(-20)
	piece := func(s string) { score--; l.add(s, newmodel.TokenNormal, score) }
	for _, w := range append(someWords, "e▁l", "little▁girl", "e▁little▁girl", "aa", "aaaa", "aaaaaaa") {
		runes := []rune("▁" + w)
		for i := range runes {
			piece(string(runes[:i+1]))
			piece(string(runes[min(1, i) : i+1]))
		}
	}
	for c := '!'; c <= '~'; c++ {
		piece(string(c))
	}
	return l.kvs("llama", gguf.KV{Key: "tokenizer.ggml.unknown_token_id", Value: uint32(0)}, gguf.KV{Key: "tokenizer.ggml.bos_token_id", Value: uint32(1)},
		gguf.KV{Key: "tokenizer.ggml.eos_token_id", Value: uint32(2)}, gguf.KV{Key: "tokenizer.ggml.add_space_prefix", Value: false})
}

// writeVocab writes a model of a vocabulary alone.
func writeVocab(t *testing.T, kvs []gguf.KV) string {
	t.Helper()
	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	b.Set("llama.context_length", uint32(512))
	b.Set("llama.embedding_length", uint32(64))
	b.Set("llama.block_count", uint32(1))
	b.Set("llama.feed_forward_length", uint32(64))
	b.Set("llama.attention.head_count", uint32(4))
	b.Set("llama.attention.layer_norm_rms_epsilon", float32(1e-5))
	b.SetAll(kvs)
	path := filepath.Join(t.TempDir(), "vocab.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}
