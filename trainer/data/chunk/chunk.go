// Package chunk tokenizes texts of any length with a bounded memory: a part at a time, cut where the tokens of the parts,
// one behind the other, are those of the whole text.
//
// A tokenizer is asked for no more than texts and the pieces of its vocabulary, so that nothing here depends on its type.
// cut.go says where a cut is safe, and why.
package chunk

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"unicode/utf8"

	"finetune/chat"
)

const (
	// Size is how much of a long text is tokenized at once, in bytes. llama.cpp takes some forty times that for the moment; and
	// its patterns for some byte pair encodings end the process on more than some 20,000 punctuation marks in a row.
	Size = 16 << 10
	// Whole is the longest text that is tokenized in one piece.
	Whole = 256 << 10
	// maxSize is the longest part that is looked at for a place to cut.
	maxSize = 4 << 20
)

// ErrNoCut marks a text that has no place to cut in a part of maxSize bytes.
var ErrNoCut = errors.New("no place to cut")

// Encoder tokenizes long texts. Goroutines may share it if they may share the tokenizer.
type Encoder struct {
	tok      chat.Tokenizer
	size     int  // bytes a part
	whole    int  // bytes of the longest text that is not cut
	prefixes bool // the vocabulary puts a space in front of a text
	pairs    func() *pairs
}

// New returns an encoder for a tokenizer. One without NTokens() int, which tells how many tokens there are, gets each text whole.
func New(tok chat.Tokenizer) *Encoder {
	e := &Encoder{tok: tok, size: Size, whole: Whole, prefixes: addsSpace(tok)}
	e.pairs = sync.OnceValue(func() *pairs { return newPairs(tok) })
	return e
}

// Tokenize returns the tokens of a text, without those that a vocabulary puts around one. parseSpecial reads the names of
// special tokens as those tokens.
func (e *Encoder) Tokenize(text string, parseSpecial bool) (ids []int32, err error) {
	if len(text) <= e.whole {
		return e.tok.Tokenize(text, false, parseSpecial)
	}
	s := &stream{Encoder: e, parse: parseSpecial, text: []byte(text), ended: true}
	err = s.each(func(part []int32) error {
		ids = append(ids, part...)
		return nil
	})
	return ids, err
}

// Continue tokenizes text as it stands behind tokens that are there already. The border between the two is one between tokens.
func (e *Encoder) Continue(prev []int32, text string, parseSpecial bool) ([]int32, error) {
	if len(prev) == 0 || len(text) == 0 {
		return e.Tokenize(text, parseSpecial)
	}
	s := &stream{Encoder: e, parse: parseSpecial, text: []byte(text), ended: true, next: border{inside: true, joined: true, last: prev[len(prev)-1]}}
	var ids []int32
	err := s.each(func(part []int32) error {
		ids = append(ids, part...)
		return nil
	})
	return ids, err
}

// Stream hands the tokens of all that r has to emit, part by part; they are those of [Encoder.Tokenize]. The text must be UTF-8.
// It stops at the first error, of r, of the tokenizer or of emit.
func (e *Encoder) Stream(r io.Reader, parseSpecial bool, emit func(ids []int32) error) error {
	s := &stream{Encoder: e, parse: parseSpecial, from: r}
	return s.each(emit)
}

// stream is a text that is being tokenized.
type stream struct {
	*Encoder
	parse bool
	from  io.Reader // of the rest; nil if text is all
	text  []byte    // that is read and not tokenized
	ended bool      // text goes to the end
	next  border    // in front of text
}

// border is what stands in front of a part.
type border struct {
	inside bool  // of a text: there is something in front
	joined bool  // the part continues the last token, else it is tokenized like the beginning of a text
	last   int32 // token in front
}

func (s *stream) each(emit func([]int32) error) error {
	if err := s.fill(s.whole + 1); err != nil {
		return err
	}
	if s.ended && len(s.text) <= s.whole || s.pairs() == nil {
		return s.rest(emit)
	}
	for {
		if err := s.fill(s.size + 2*s.around()); err != nil {
			return err
		}
		if s.ended && len(s.text) <= s.size+2*s.around() {
			return s.rest(emit)
		}
		ids, err := s.part()
		if err != nil {
			return err
		}
		if err := emit(ids); err != nil {
			return err
		}
	}
}

// fill reads until there are n bytes.
func (s *stream) fill(n int) error {
	for !s.ended && len(s.text) < n {
		if cap(s.text) < n {
			s.text = append(make([]byte, 0, n+s.whole), s.text...)
		}
		k, err := s.from.Read(s.text[len(s.text):cap(s.text)])
		s.text = s.text[:len(s.text)+k]
		if err == io.EOF {
			s.ended = true
		} else if err != nil {
			return err
		}
	}
	return nil
}

// rest tokenizes all that is left.
func (s *stream) rest(emit func([]int32) error) error {
	if !s.ended {
		all, err := io.ReadAll(s.from)
		if err != nil {
			return err
		}
		s.text, s.ended = append(s.text, all...), true
	}
	ids, err := s.tokens(s.next, s.text)
	if err != nil {
		return err
	}
	return emit(ids)
}

// part takes the first part off the text.
func (s *stream) part() ([]int32, error) {
	if at, next, ok, err := s.cut(s.text); ok || err != nil {
		if err != nil {
			return nil, err
		}
		ids, err := s.tokens(s.next, s.text[:at])
		s.drop(at, next)
		return ids, err
	}
	for look := s.size; ; {
		at, ids, next, err := s.overlap(s.text[:runeStart(s.text, look)])
		if err != nil || at > 0 {
			s.drop(at, next)
			return ids, err
		}
		switch {
		case s.ended && look == len(s.text):
			ids, err := s.tokens(s.next, s.text)
			s.drop(len(s.text), s.next)
			return ids, err
		case look >= maxSize:
			return nil, fmt.Errorf("%w: %d MiB of text that the tokenizer takes as one word", ErrNoCut, maxSize>>20)
		}
		if err := s.fill(4*look + utf8.UTFMax); err != nil {
			return nil, err
		}
		look = min(4*look, len(s.text))
	}
}

func (s *stream) drop(n int, next border) {
	s.text = s.text[n:]
	s.next = next
}

// tokens tokenizes a part behind a border.
func (s *stream) tokens(b border, text []byte) ([]int32, error) {
	if b.inside && b.joined {
		return s.behindToken(b.last, string(text), s.parse)
	}
	return s.tok.Tokenize(string(text), false, s.parse)
}

// behindToken tokenizes text as it stands behind a token. Only vocabularies that put a space in front of a text
// need care: inside a text there is none, except behind a special token, where llama.cpp adds one too. A byte that joins no
// other token is put in front and its tokens are taken off again.
func (e *Encoder) behindToken(last int32, text string, parseSpecial bool) ([]int32, error) {
	const first = "\x01"
	if text == "" || !e.prefixes || isSpecial(e.tok, last) {
		return e.tok.Tokenize(text, false, parseSpecial)
	}
	head, err := e.tok.Tokenize(first, false, parseSpecial)
	if err != nil {
		return nil, err
	}
	ids, err := e.tok.Tokenize(first+text, false, parseSpecial)
	if err != nil {
		return nil, err
	}
	if len(ids) < len(head) || !slices.Equal(ids[:len(head)], head) {
		return e.tok.Tokenize(text, false, parseSpecial)
	}
	return ids[len(head):], nil
}

// isSpecial reports whether the tokenizer reads a token's name as that token: any other
// token of a vocabulary with a leading space comes back with one space more.
func isSpecial(tok chat.Tokenizer, id int32) bool {
	ids, err := tok.Tokenize(tok.Piece(id, true), false, true)
	return err == nil && len(ids) == 1 && ids[0] == id
}

// addsSpace finds out whether a text's first token gets a space it does not have, as
// SentencePiece vocabularies do.
func addsSpace(tok chat.Tokenizer) bool {
	ids, err := tok.Tokenize("a", false, false)
	return err == nil && len(ids) > 0 && len(tok.Piece(ids[0], false)) > 0 && tok.Piece(ids[0], false)[0] == ' '
}

// runeStart returns the last offset at or before i where a character of b begins.
func runeStart(b []byte, i int) int {
	for i > 0 && i < len(b) && !utf8.RuneStart(b[i]) {
		i--
	}
	return max(i, 0)
}
