package chunk

import (
	"unicode/utf8"

	"finetune/chat"
)

// pairs are the characters that stand side by side in some token of a vocabulary. A pair that is in none may be told to be in one,
// never the other way round.
type pairs struct {
	runes   [pairBits / 64]uint64  // bit hash(a, b): a token holds a and b, characters
	broken  [(1 << 16) / 64]uint64 // bit a<<8|b: a token that is not whole characters holds the bytes a and b, where b begins a character
	longest int                    // bytes of the longest token
}

const pairBits = 1 << 23 // so that the half million pairs of a large vocabulary leave most others alone

// newPairs reads all pieces of a vocabulary; nil if it does not tell how many there are.
func newPairs(tok chat.Tokenizer) *pairs {
	counted, ok := tok.(interface{ NTokens() int })
	if !ok {
		return nil
	}
	p := new(pairs)
	for id := range counted.NTokens() {
		p.add(tok.Piece(int32(id), true))
	}
	return p
}

func (p *pairs) add(piece string) {
	p.longest = max(p.longest, len(piece))
	if !utf8.ValidString(piece) {
		for i := range len(piece) - 1 {
			if utf8.RuneStart(piece[i+1]) {
				bit := uint(piece[i])<<8 | uint(piece[i+1])
				p.broken[bit/64] |= 1 << (bit % 64)
			}
		}
	}
	last := rune(-1)
	for _, r := range piece {
		if last >= 0 {
			bit := hash(last, r)
			p.runes[bit/64] |= 1 << (bit % 64)
		}
		last = r
	}
}

// cross reports whether a token may hold the characters a and b side by side.
func (p *pairs) cross(a, b []byte) bool {
	bytes := uint(a[len(a)-1])<<8 | uint(b[0])
	if p.broken[bytes/64]&(1<<(bytes%64)) != 0 {
		return true
	}
	before, _ := utf8.DecodeRune(a)
	behind, _ := utf8.DecodeRune(b)
	bit := hash(before, behind)
	return p.runes[bit/64]&(1<<(bit%64)) != 0
}

// hash spreads a pair (the finalizer of SplitMix64).
func hash(a, b rune) uint64 {
	x := uint64(uint32(a))<<32 | uint64(uint32(b))
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return (x ^ x>>31) % pairBits
}
