package testmodel

import (
	"fmt"
	"slices"
	"strings"

	"finetune/gguf"
	"finetune/newmodel"
)

// architecture is what a test model adds to an architecture of package base: a tokenizer
// like that of the models which are known by its name.
type architecture struct {
	pre       string   // tokenizer.ggml.pre of a BPE tokenizer; empty for a SentencePiece one
	chat      []string // control tokens of chat templates, the last one ends a turn
	neverTied bool
}

var (
	chatML = []string{"<|im_start|>", "<|im_end|>"}
	// llama.cpp asks for <|endoftext|> in every model whose general.name says phi3.
	chatPhi3  = []string{"<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"}
	chatGemma = []string{"<start_of_turn>", "<end_of_turn>"}
)

var architectures = func() map[string]architecture {
	all := map[string]architecture{
		"llama":      {chat: chatML},
		"qwen2":      {pre: "qwen2", chat: chatML},
		"qwen3":      {pre: "qwen2", chat: chatML},
		"phi3":       {chat: chatPhi3},
		"gemma":      {chat: chatGemma},
		"gemma2":     {chat: chatGemma},
		"gemma3":     {chat: chatGemma},
		"gpt2":       {pre: "gpt-2", chat: chatML},
		"phi2":       {pre: "phi-2", chat: chatML},
		"stablelm":   {pre: "stablelm2", chat: chatML},
		"falcon":     {pre: "falcon", chat: chatML},
		"starcoder2": {pre: "starcoder", chat: chatML},
	}
	for name, a := range all {
		a.neverTied = !newmodel.CanTie(name)
		all[name] = a
	}
	return all
}()

// Architectures returns the names that Spec.Arch may have.
func Architectures() []string { return newmodel.Architectures() }

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
	v.add("<unk>", newmodel.TokenUnknown, 0)
	v.bos = v.add("<s>", newmodel.TokenControl, 0)
	v.eos = v.add("</s>", newmodel.TokenControl, 0)
	for i := range 256 {
		v.add(fmt.Sprintf("<0x%02X>", i), newmodel.TokenByte, 0)
	}
	seen := map[string]bool{}
	piece := func(s string) {
		if !seen[s] {
			seen[s] = true
			v.add(s, newmodel.TokenNormal, -float32(len(seen)))
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
		v.eot = v.add(token, newmodel.TokenControl, 0)
	}
	return v
}

// bytePairs builds a tokenizer like that of GPT-2: a token for each byte, written as a
// printable character, then the pairs that the words are merged from, left to right.
func bytePairs(pre string, chat []string) *vocabulary {
	v := &vocabulary{pre: pre}
	for b := range 256 {
		v.add(string(newmodel.ByteRune(byte(b))), newmodel.TokenNormal, 0)
	}
	space := string(newmodel.ByteRune(' '))
	for _, word := range words {
		left := space
		for _, c := range word {
			joined := left + string(c)
			if !slices.Contains(v.tokens, joined) {
				v.add(joined, newmodel.TokenNormal, 0)
				v.merges = append(v.merges, left+" "+string(c))
			}
			left = joined
		}
	}
	v.eos = v.add("<|endoftext|>", newmodel.TokenControl, 0)
	v.bos = v.eos
	for _, token := range chat {
		v.eot = v.add(token, newmodel.TokenControl, 0)
	}
	return v
}

// build fills the tokenizer up to size tokens and puts it as a file has it.
func (v *vocabulary) build(size int, chatTemplate string) (*newmodel.Vocabulary, error) {
	for i := len(v.tokens); i < size; i++ {
		v.add(fmt.Sprintf("<unused%d>", i), newmodel.TokenUnused, 0)
	}
	var kvs []gguf.KV
	set := func(name string, value any) {
		kvs = append(kvs, gguf.KV{Key: "tokenizer." + name, Value: value})
	}
	if v.pre == "" {
		set("ggml.model", "llama")
		set("ggml.scores", v.scores)
		set("ggml.unknown_token_id", uint32(0))
	} else {
		set("ggml.model", "gpt2")
		set("ggml.pre", v.pre)
		set("ggml.merges", v.merges)
	}
	set("ggml.tokens", v.tokens)
	set("ggml.token_type", v.kinds)
	set("ggml.bos_token_id", uint32(v.bos))
	set("ggml.eos_token_id", uint32(v.eos))
	set("ggml.eot_token_id", uint32(v.eot))
	set("ggml.add_bos_token", v.pre == "")
	if chatTemplate != "" {
		set("chat_template", chatTemplate)
	}
	return newmodel.NewVocabulary(kvs)
}
