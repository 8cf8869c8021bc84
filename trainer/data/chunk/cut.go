package chunk

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Where a cut is safe.
//
// SentencePiece and byte pair encoding join neighbours, always to a token of the vocabulary; unigram, WordPiece and RWKV choose
// tokens. So where no token holds the character in front of a place and the one behind it side by side, no token crosses it, nor
// anything that was joined on the way, and nothing that happens on one side of it is of any effect on the other.
//
// Before they join, byte pair encodings cut a text into words by patterns, which look ahead in white space and count digits. A
// letter and white space behind it are never in one word, and what a pattern does from white space on depends on what follows only:
// so the first choice is to cut between these. A text that has no such place, as one without spaces, is cut between two letters or
// two symbols. There a whole word that is a token may be taken as it is, without joining; the last check finds that out, for its
// texts are longer than any token.
//
// The last check asks the tokenizer: what stands around the cut must have the same tokens in one piece and in two. It also
// shows how the second part is to be tokenized, like the beginning of a text or like what is inside of one.
//
// Texts that are nothing but places where tokens may cross (a megabyte of spaces, of one letter, of digits) are cut by overlap:
// there a tokenizer that goes on from one token to the next divides what follows as it would if more stood behind it, and one
// that weighs the whole is found out by leaving the last characters off.

const (
	leastAround = 512 // bytes on each side of a cut that are compared, at least
	tries       = 24  // cuts of a kind that are compared
)

// cut finds a place to cut text, as far behind as there is one in its second half, with enough text behind it to see what follows.
func (s *stream) cut(text []byte) (at int, next border, ok bool, err error) {
	around := s.around()
	from, to := s.size/4, min(len(text)-around, s.size)
	for _, fits := range []func(before, behind rune) bool{betweenWords, insideWord} {
		tried := 0
		for at := runeStart(text, to); at > from && tried < tries; at = runeStart(text, at-1) {
			before, n := utf8.DecodeLastRune(text[:at])
			behind, k := utf8.DecodeRune(text[at:])
			if !fits(before, behind) || s.pairs().cross(text[at-n:at], text[at:at+k]) {
				continue
			}
			tried++
			if next, ok, err = s.compare(text, at, around); ok || err != nil {
				return at, next, ok, err
			}
		}
	}
	return 0, border{}, false, nil
}

// around is how many bytes on each side of a cut are compared.
func (s *stream) around() int { return max(leastAround, 4*s.pairs().longest) }

func betweenWords(before, behind rune) bool {
	return unicode.IsLetter(before) && (behind == ' ' || behind == '\n' || behind == '\t' || behind == '\r')
}

func insideWord(before, behind rune) bool {
	return unicode.IsLetter(before) && unicode.IsLetter(behind) || isSymbol(before) && isSymbol(behind)
}

// isSymbol reports whether r is of no class that patterns treat by itself: emoji, above all.
func isSymbol(r rune) bool {
	return r > unicode.MaxASCII && r != utf8.RuneError && unicode.In(r, unicode.So, unicode.Sm)
}

// compare holds what stands around a cut in one piece against the two.
func (s *stream) compare(text []byte, at, around int) (next border, ok bool, err error) {
	from, to := runeStart(text, at-around), runeStart(text, min(at+around, len(text)))
	whole, err := s.tok.Tokenize(string(text[from:to]), false, s.parse)
	if err != nil {
		return border{}, false, err
	}
	left, err := s.tok.Tokenize(string(text[from:at]), false, s.parse)
	if err != nil || len(left) == 0 || len(left) > len(whole) || !slices.Equal(whole[:len(left)], left) {
		return border{}, false, err
	}
	return s.behind(left[len(left)-1], text[at:to], whole[len(left):])
}

// behind finds out how text is to be tokenized behind a token to become those that are wanted.
func (s *stream) behind(last int32, text []byte, want []int32) (next border, ok bool, err error) {
	for _, joined := range []bool{true, false} {
		next = border{inside: true, joined: joined, last: last}
		right, err := s.tokens(next, text)
		if err != nil || slices.Equal(right, want) {
			return next, err == nil, err
		}
	}
	return border{}, false, nil
}

// overlap cuts a text in which tokens may cross everywhere: at the end of a token, behind which the rest of the part has the
// same tokens by itself, for a quarter of the part at least. at is 0 where there is no such place.
func (s *stream) overlap(text []byte) (at int, ids []int32, next border, err error) {
	all, err := s.tokens(s.next, text)
	if err != nil {
		return 0, nil, border{}, err
	}
	ends, ok := s.ends(all, text)
	if !ok {
		return 0, nil, border{}, nil
	}
	tried := 0
	for i := len(all) - 1; i > 0 && ends[i-1] > len(text)/4 && tried < tries; i-- {
		at := ends[i-1]
		if at > 3*len(text)/4 || !utf8.RuneStart(text[at]) {
			continue
		}
		tried++
		next, ok, err := s.behind(all[i-1], text[at:], all[i:])
		if ok && err == nil {
			ok, err = s.stable(all[:i], text)
		}
		if ok || err != nil {
			return at, all[:i], next, err
		}
	}
	return 0, nil, border{}, nil
}

// stable reports whether a text begins with the same tokens where its last characters are missing. Where one of them decides how
// all of it is divided, as unigram and patterns that count digits from behind do, what follows would decide too.
func (s *stream) stable(first []int32, text []byte) (bool, error) {
	const most = 3 // characters
	for range most {
		text = text[:runeStart(text, len(text)-1)]
		ids, err := s.tokens(s.next, text)
		if err != nil || len(ids) < len(first) || !slices.Equal(ids[:len(first)], first) {
			return false, err
		}
	}
	return true, nil
}

// ends returns where in text each token ends. ok is false for tokenizers whose pieces are not the text.
func (s *stream) ends(ids []int32, text []byte) (ends []int, ok bool) {
	at := 0
	for i, id := range ids {
		piece := s.tok.Piece(id, s.parse)
		if i == 0 && s.prefixes && !s.next.joined {
			piece = strings.TrimPrefix(piece, " ") // that the vocabulary puts in front
		}
		if at+len(piece) > len(text) || string(text[at:at+len(piece)]) != piece {
			return nil, false
		}
		at += len(piece)
		ends = append(ends, at)
	}
	return ends, at == len(text)
}
