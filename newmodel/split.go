package newmodel

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// preTokenizer is the name of the pre-tokenizer, tokenizer.ggml.pre, that the words here are cut by.
//
// It is the one of SmolLM: GPT-2's words, but every digit by itself, which is how a small
// model learns to reckon. Of llama.cpp's it is the simplest that gives every text back byte
// for byte: for "gpt-2" and "llama-bpe" its detokenizer drops spaces in front of punctuation.
const preTokenizer = "smollm"

// class is what the pre-tokenizer tells characters apart by.
type class uint8

const (
	letter class = iota // \p{L}
	number              // \p{N}
	space               // \s
	other
)

// newLetters are letters since Unicode 15.1, which llama.cpp's tables know and Go's do not yet.
var newLetters = &unicode.RangeTable{R32: []unicode.Range32{{Lo: 0x2ebf0, Hi: 0x2ee5d, Stride: 1}}}

func classOf(c rune) class {
	switch {
	case c < utf8.RuneSelf && (c|0x20 >= 'a' && c|0x20 <= 'z'):
		return letter
	case unicode.IsSpace(c):
		return space
	case unicode.IsLetter(c), unicode.Is(newLetters, c):
		return letter
	case unicode.IsNumber(c):
		return number
	}
	return other
}

// first returns the class and the length in bytes of the character that s begins with. A byte
// that is no character is a character of its own.
func first(s string) (class, int) {
	c, n := utf8.DecodeRuneInString(s)
	if c == utf8.RuneError && n == 1 && isSurrogate(s) {
		n = len(surrogate)
	}
	return classOf(c), n
}

// run returns the length in bytes of the characters of a class that s begins with, and of the last
// of them.
func run(s string, of class) (all, last int) {
	for all < len(s) {
		c, n := first(s[all:])
		if c != of {
			break
		}
		all, last = all+n, n
	}
	return all, last
}

// words cuts a text into the words that are merged each for itself; joined they are the text.
//
//	\p{N}                                        first, then in what is between:
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func words(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for text != "" {
			part := text[:toNumber(text)]
			text = text[len(part):]
			for part != "" {
				n := firstWord(part)
				if !yield(part[:n]) {
					return
				}
				part = part[n:]
			}
			if text != "" {
				_, n := first(text)
				if !yield(text[:n]) {
					return
				}
				text = text[n:]
			}
		}
	}
}

// toNumber returns the length in bytes of what stands in front of the first number.
func toNumber(s string) int {
	at := 0
	for at < len(s) {
		c, n := first(s[at:])
		if c == number {
			break
		}
		at += n
	}
	return at
}

// firstWord returns the length of the first word of a part without numbers.
func firstWord(part string) int {
	if n := contraction(part); n > 0 {
		return n
	}
	start := 0
	if part[0] == ' ' && len(part) > 1 {
		start = 1
	}
	if c, _ := first(part[start:]); c != space {
		n, _ := run(part[start:], c)
		return start + n
	}
	all, last := run(part, space)
	if all < len(part) && all > last {
		return all - last // the last one belongs to the word behind it, or stands by itself
	}
	return all
}

// contraction returns the length of the English ending that s begins with, 0 if there is none.
func contraction(s string) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	switch s[1] {
	case 's', 't', 'm', 'd':
		return 2
	}
	for _, end := range [...]string{"'re", "'ve", "'ll"} {
		if strings.HasPrefix(s, end) {
			return len(end)
		}
	}
	return 0
}

// surrogate is how the first of the surrogates would be written in UTF-8, had it them.
const surrogate = "\xed\xa0\x80"

func isSurrogate(s string) bool {
	return len(s) >= len(surrogate) && s[0] == 0xed && s[1]&0xe0 == 0xa0 && isContinuation(s[2])
}

func isContinuation(b byte) bool { return b&0xc0 == 0x80 }

// sanitize returns the text as llama.cpp reads it. Of UTF-8 that is the text itself. Of the
// rest, a character that is written with too many bytes is written with as few as it needs,
// a surrogate stays, and every other byte that begins no character becomes U+FFFD.
func sanitize(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for text != "" {
		n := 1
		switch c := text[0]; {
		case c < utf8.RuneSelf:
			b.WriteByte(c)
		case isSurrogate(text):
			n = len(surrogate)
			b.WriteString(text[:n])
		default:
			var r rune
			r, n = lax(text)
			b.WriteRune(r) // U+FFFD for what is beyond Unicode, which llama.cpp refuses
		}
		text = text[n:]
	}
	return b.String()
}

// lax decodes a character of two bytes or more by its first byte's count alone.
func lax(s string) (r rune, n int) {
	switch c := s[0]; {
	case c < 0xc0 || c >= 0xf8:
		return utf8.RuneError, 1
	case c < 0xe0:
		r, n = rune(c&0x1f), 2
	case c < 0xf0:
		r, n = rune(c&0x0f), 3
	default:
		r, n = rune(c&0x07), 4
	}
	for i := 1; i < n; i++ {
		if i >= len(s) || !isContinuation(s[i]) {
			return utf8.RuneError, 1
		}
		r = r<<6 | rune(s[i]&0x3f)
	}
	return r, n
}
