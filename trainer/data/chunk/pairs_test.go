//go:build cgo

package chunk

import (
	"testing"
	"unicode/utf8"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// TestCharactersOfATokenMayNotBeCut: every place inside of every token is told to be crossed, those between the bytes of broken
// characters too; and most pairs of letters are not.
func TestCharactersOfATokenMayNotBeCut(t *testing.T) {
	eachVocab(t, func(t *testing.T, v *llama.Vocab) {
		p := newPairs(v)
		for id := range v.NTokens() {
			piece := []byte(v.Piece(int32(id), true))
			if len(piece) > p.longest {
				t.Errorf("token %d has %d bytes, the longest %d", id, len(piece), p.longest)
			}
			for at := 1; at < len(piece); at++ {
				if !utf8.RuneStart(piece[at]) {
					continue // where no text is cut
				}
				_, before := utf8.DecodeLastRune(piece[:at])
				_, behind := utf8.DecodeRune(piece[at:])
				if !p.cross(piece[at-before:at], piece[at:at+behind]) {
					t.Errorf("token %d, %q, may be cut at %d", id, piece, at)
				}
			}
		}
		free := 0
		for a := rune(0x4e00); a < 0x4e00+100; a++ {
			for b := rune(0x5e00); b < 0x5e00+100; b++ {
				if !p.cross([]byte(string(a)), []byte(string(b))) {
					free++
				}
			}
		}
		if free < 5000 {
			t.Errorf("%d of 10000 pairs of characters may be cut, want most", free)
		}
	})
	p := new(pairs)
	p.add("\x84\xe7") // the end of one character and the beginning of another
	if !p.cross([]byte("\x84"), []byte("\xe7\x8c\xab")) {
		t.Error("a token of parts of characters is not seen")
	}
}
