package newmodel

import (
	"container/heap"
	"fmt"
	"iter"
	"strings"

	"finetune/gguf"
)

// Control tokens of every tokenizer here, behind the 256 bytes and in front of the merges.
// <|endoftext|> ends a text, and fills; <|im_end|> ends a turn of a chat.
var controls = [...]string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"}

const (
	bytesCount = 256 // token b is byte b
	endOfText  = bytesCount
	endOfTurn  = bytesCount + 2
	firstMerge = bytesCount + int32(len(controls))

	// LeastTokens is the size of a vocabulary of bytes and control tokens alone.
	LeastTokens = int(firstMerge)
)

// pair is two tokens that stand side by side.
type pair struct{ left, right int32 }

// BPE is a byte-level tokenizer: 256 bytes, a few control tokens, and tokens that are merged
// from two earlier ones, in the order in which they are merged. It is never changed:
// goroutines may share it.
type BPE struct {
	merges []pair         // of token firstMerge+i
	merged map[pair]int32 // the token that a pair is merged to; the lower, the sooner
	pieces []string       // the bytes of each token; those of a control token are its name
}

func newBPE(merges []pair) *BPE {
	b := &BPE{merges: merges, merged: make(map[pair]int32, len(merges))}
	for i := range bytesCount {
		b.pieces = append(b.pieces, string([]byte{byte(i)}))
	}
	b.pieces = append(b.pieces, controls[:]...)
	for i, p := range merges {
		b.merged[p] = firstMerge + int32(i)
		b.pieces = append(b.pieces, b.pieces[p.left]+b.pieces[p.right])
	}
	return b
}

// Len returns the number of tokens.
func (b *BPE) Len() int { return len(b.pieces) }

// encode returns the tokens of a plain text, in which the names of control tokens are text
// like any other: those that llama.cpp makes of it. What is not UTF-8 comes back as U+FFFD,
// as there.
func (b *BPE) encode(text string) []int32 {
	var ids []int32
	known := map[string][]int32{}
	for word := range words(sanitize(text)) {
		tokens, ok := known[word]
		if !ok {
			tokens = b.word(word)
			known[word] = tokens
		}
		ids = append(ids, tokens...)
	}
	return ids
}

// decode returns the bytes that the tokens stand for, control tokens by their names. Ids that
// are not in the vocabulary are left out.
func (b *BPE) decode(ids []int32) string {
	var out strings.Builder
	for _, id := range ids {
		if id >= 0 && int(id) < len(b.pieces) {
			out.WriteString(b.pieces[id])
		}
	}
	return out.String()
}

// Count returns the number of bytes of texts, and of the tokens that encode makes of
// them. It is faster than encode, because it looks at every different word once.
func (b *BPE) Count(texts iter.Seq[string]) (bytes, tokens int64) {
	all := func(yield func(string) bool) {
		for text := range texts {
			bytes += int64(len(text))
			if !yield(text) {
				return
			}
		}
	}
	for word, n := range countWords(all) {
		tokens += n * int64(len(b.word(word)))
	}
	return bytes, tokens
}

// symbol is a part of a word that is being merged, in a list of them.
type symbol struct {
	id         int32 // gone when below 0
	prev, next int32 // −1 at the ends
}

// join is a pair of symbols that can be merged, at the time when it was found.
type join struct {
	at, with int32 // indices of the symbols
	of       pair
	to       int32 // the merged token
}

// joins are a heap: the token that was learned first comes first, and of the same one the
// leftmost.
type joins []join

func (j joins) Len() int { return len(j) }
func (j joins) Less(a, b int) bool {
	return j[a].to < j[b].to || j[a].to == j[b].to && j[a].at < j[b].at
}
func (j joins) Swap(a, b int) { j[a], j[b] = j[b], j[a] }
func (j *joins) Push(x any)   { *j = append(*j, x.(join)) }
func (j *joins) Pop() any {
	last := (*j)[len(*j)-1]
	*j = (*j)[:len(*j)-1]
	return last
}

// word merges the bytes of a word.
func (b *BPE) word(word string) []int32 {
	symbols := make([]symbol, len(word))
	for i := range symbols {
		symbols[i] = symbol{int32(word[i]), int32(i) - 1, int32(i) + 1}
	}
	symbols[len(word)-1].next = -1
	var queue joins
	look := func(at, with int32) {
		if at < 0 || with < 0 {
			return
		}
		p := pair{symbols[at].id, symbols[with].id}
		if to, ok := b.merged[p]; ok {
			heap.Push(&queue, join{at, with, p, to})
		}
	}
	for i := range symbols {
		look(int32(i), symbols[i].next)
	}
	for len(queue) > 0 {
		j := heap.Pop(&queue).(join)
		left, right := &symbols[j.at], &symbols[j.with]
		if left.id != j.of.left || right.id != j.of.right || left.next != j.with {
			continue // one of both has been merged since
		}
		left.id, right.id, left.next = j.to, -1, right.next
		if right.next >= 0 {
			symbols[right.next].prev = j.at
		}
		look(left.prev, j.at)
		look(j.at, left.next)
	}
	ids := make([]int32, 0, 4)
	for i := int32(0); i >= 0; i = symbols[i].next {
		ids = append(ids, symbols[i].id)
	}
	return ids
}

// Vocabulary returns the tokenizer as a GGUF file holds it, with ChatML as its chat
// template.
func (b *BPE) Vocabulary() *Vocabulary {
	tokens, kinds := make([]string, b.Len()), make([]int32, b.Len())
	for i, piece := range b.pieces {
		tokens[i], kinds[i] = visible(piece), TokenNormal
		if i >= bytesCount && int32(i) < firstMerge {
			tokens[i], kinds[i] = piece, TokenControl
		}
	}
	merges := make([]string, len(b.merges))
	for i, p := range b.merges {
		merges[i] = tokens[p.left] + " " + tokens[p.right]
	}
	key := func(name string) string { return tokenizerKeys + "ggml." + name }
	v, err := NewVocabulary([]gguf.KV{
		{Key: key("model"), Value: "gpt2"},
		{Key: key("pre"), Value: preTokenizer},
		{Key: key("tokens"), Value: tokens},
		{Key: key("token_type"), Value: kinds},
		{Key: key("merges"), Value: merges},
		{Key: key("bos_token_id"), Value: uint32(endOfText)},
		{Key: key("eos_token_id"), Value: uint32(endOfText)},
		{Key: key("eot_token_id"), Value: uint32(endOfTurn)},
		{Key: key("padding_token_id"), Value: uint32(endOfText)},
		{Key: key("add_bos_token"), Value: false},
		{Key: key("add_space_prefix"), Value: false},
		{Key: tokenizerKeys + "chat_template", Value: ChatML},
	})
	if err != nil {
		panic(fmt.Sprintf("newmodel: internal error: %v", err))
	}
	return v
}

// visible writes bytes as the tokens of a file have them.
func visible(piece string) string {
	var b strings.Builder
	for i := range len(piece) {
		b.WriteRune(ByteRune(piece[i]))
	}
	return b.String()
}

// ByteRune returns the character as which GPT-2's tokenizer writes a byte: Latin-1
// characters that can be seen stand for themselves, the others are counted off from
// U+0100 on.
func ByteRune(b byte) rune { return byteRunes[b] }

var byteRunes = func() (runes [bytesCount]rune) {
	hidden := rune(0x100)
	for c := range rune(bytesCount) {
		if c >= '!' && c <= '~' || c >= '¡' && c <= '¬' || c >= '®' && c <= 'ÿ' {
			runes[c] = c
		} else {
			runes[c] = hidden
			hidden++
		}
	}
	return runes
}()
