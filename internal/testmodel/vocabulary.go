package testmodel

import (
	"fmt"
	"slices"
	"strings"

	"finetune/gguf"
)

// Kinds of tokens, as tokenizer.ggml.token_type has them.
const (
	tokenNormal  int32 = 1
	tokenUnknown int32 = 2
	tokenControl int32 = 3
	tokenUnused  int32 = 5
	tokenByte    int32 = 6
)

// words become tokens of their own, with a space before them.
var words = strings.Fields(`
	the a and to of in is it he she was that you for on with as his her they at be this had not are
	but from or have an said so all there were one would time little day big very once upon named
	girl boy dog cat tree house friend mother father happy sad play went saw like good new old what
	who where when how why yes no thank please help user assistant system question answer`)

// vocabulary is a tokenizer as a GGUF file holds it.
type vocabulary struct {
	pre    string // of a BPE tokenizer, else empty
	tokens []string
	kinds  []int32
	scores []float32 // of SentencePiece: the higher, the earlier a piece is joined
	merges []string  // of BPE: "left right", the earlier, the sooner

	bos, eos, eot int
}

func (v *vocabulary) add(token string, kind int32, score float32) int {
	v.tokens = append(v.tokens, token)
	v.kinds = append(v.kinds, kind)
	v.scores = append(v.scores, score)
	return len(v.tokens) - 1
}

// vocabulary returns the tokenizer of the architecture.
func (a architecture) vocabulary() *vocabulary {
	if a.pre == "" {
		return sentencePiece(a.chat)
	}
	return bytePairs(a.pre, a.chat)
}

// sentencePiece builds a tokenizer like that of Llama 2: <unk>, <s>, </s>, a token for
// each byte, then pieces, in which "▁" is a space. A piece is joined from two others, so
// each beginning of a word is a piece too.
func sentencePiece(chat []string) *vocabulary {
	v := &vocabulary{}
	v.add("<unk>", tokenUnknown, 0)
	v.bos = v.add("<s>", tokenControl, 0)
	v.eos = v.add("</s>", tokenControl, 0)
	for i := range 256 {
		v.add(fmt.Sprintf("<0x%02X>", i), tokenByte, 0)
	}
	seen := map[string]bool{}
	piece := func(s string) {
		if !seen[s] {
			seen[s] = true
			v.add(s, tokenNormal, -float32(len(seen)))
		}
	}
	for _, word := range words {
		for i := range word {
			piece("▁" + word[:i+1])
		}
	}
	piece("▁")
	for c := '!'; c <= '~'; c++ {
		piece(string(c))
	}
	for _, token := range chat {
		v.eot = v.add(token, tokenControl, 0)
	}
	return v
}

// bytePairs builds a tokenizer like that of GPT-2: a token for each byte, written as a
// printable character, then the pairs that the words are merged from, left to right.
func bytePairs(pre string, chat []string) *vocabulary {
	v := &vocabulary{pre: pre}
	for b := range 256 {
		v.add(byteCharacter(byte(b)), tokenNormal, 0)
	}
	space := byteCharacter(' ')
	for _, word := range words {
		left := space
		for _, c := range word {
			joined := left + string(c)
			if !slices.Contains(v.tokens, joined) {
				v.add(joined, tokenNormal, 0)
				v.merges = append(v.merges, left+" "+string(c))
			}
			left = joined
		}
	}
	v.eos = v.add("<|endoftext|>", tokenControl, 0)
	v.bos = v.eos
	for _, token := range chat {
		v.eot = v.add(token, tokenControl, 0)
	}
	return v
}

// byteCharacter is how GPT-2's tokenizer writes a byte: Latin-1 characters that can be
// seen stand for themselves, the others are counted off from U+0100 on.
func byteCharacter(b byte) string {
	visible := func(c int) bool { return c >= '!' && c <= '~' || c >= '¡' && c <= '¬' || c >= '®' && c <= 'ÿ' }
	if visible(int(b)) {
		return string(rune(b))
	}
	n := 0
	for c := range int(b) {
		if !visible(c) {
			n++
		}
	}
	return string(rune(0x100 + n))
}

// setMetadata sets the keys of the tokenizer, filled up to size tokens.
func (v *vocabulary) setMetadata(b *gguf.Builder, size int) {
	for i := len(v.tokens); i < size; i++ {
		v.add(fmt.Sprintf("<unused%d>", i), tokenUnused, 0)
	}
	key := func(name string) string { return "tokenizer.ggml." + name }
	if v.pre == "" {
		b.Set(key("model"), "llama")
		b.Set(key("scores"), v.scores)
		b.Set(key("unknown_token_id"), uint32(0))
	} else {
		b.Set(key("model"), "gpt2")
		b.Set(key("pre"), v.pre)
		b.Set(key("merges"), v.merges)
	}
	b.Set(key("tokens"), v.tokens)
	b.Set(key("token_type"), v.kinds)
	b.Set(key("bos_token_id"), uint32(v.bos))
	b.Set(key("eos_token_id"), uint32(v.eos))
	b.Set(key("eot_token_id"), uint32(v.eot))
	b.Set(key("add_bos_token"), v.pre == "")
}
