package newmodel

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"
)

// fromHalf is the meaning of a half-precision number, sign, 5 bits of exponent, 10 of
// fraction, worked out by arithmetic.
func fromHalf(h uint16) float64 {
	fraction, exponent := float64(h&0x3ff), int(h>>10&31)
	x := math.Ldexp(fraction, -24)
	if exponent == 31 {
		x = math.Inf(1)
	} else if exponent > 0 {
		x = math.Ldexp(1024+fraction, exponent-25)
	}
	if h>>15 == 1 {
		return -x
	}
	return x
}

// TestHalfRoundsToNearestEven tries every finite half-precision number, and the middle
// between it and the next one, which must go to the even of both.
func TestHalfRoundsToNearestEven(t *testing.T) {
	for h := range uint16(0x7c00) {
		x := fromHalf(h)
		next := fromHalf(h + 1)
		if h == 0x7bff { // the next would be 2¹⁶, were there no infinity
			next = 1 << 16
		}
		even := h + h&1
		middle := float32((x + next) / 2)
		for in, want := range map[float32]uint16{
			float32(x):                   h,
			middle:                       even,
			math.Nextafter32(middle, -1): h,
			math.Nextafter32(middle, float32(math.Inf(1))): h + 1,
		} {
			if got := half(in); got != want {
				t.Fatalf("half(%v) = %#04x, want %#04x", in, got, want)
			}
			if got := half(-in); got != want|0x8000 {
				t.Fatalf("half(%v) = %#04x, want %#04x", -in, got, want|0x8000)
			}
		}
	}
	if got := half(float32(math.NaN())); got&0x7fff <= 0x7c00 {
		t.Errorf("half(NaN) = %#04x, want a NaN", got)
	}
}

func TestBrainRoundsToNearestEven(t *testing.T) {
	for in, want := range map[uint32]uint16{
		0x3f800000: 0x3f80, 0x3f808000: 0x3f80, 0x3f808001: 0x3f81, 0x3f818000: 0x3f82,
		0xbf818000: 0xbf82, 0x7f800000: 0x7f80, 0x7f800001: 0x7fc0, 0x00000001: 0,
	} {
		if got := brain(math.Float32frombits(in)); got != want {
			t.Errorf("brain(%#08x) = %#04x, want %#04x", in, got, want)
		}
	}
}

// TestBlocksDecodeToWhatWasEncoded decodes by the layout of the blocks. An element may be
// off by half a step d, for q4_0 by a whole one at the end that has no 8, and by what
// rounding d itself to half precision does to the largest q.
func TestBlocksDecodeToWhatWasEncoded(t *testing.T) {
	const halfRounding = 1.0 / (1 << 11)
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		x := make([]float32, 32)
		for i := range x {
			x[i] = float32(random.NormFloat64())
		}
		q8 := encode(nil, gguf.TypeQ8_0, x)
		d := fromHalf(binary.LittleEndian.Uint16(q8))
		for i, v := range x {
			got := d * float64(int8(q8[2+i]))
			if !near.Enough(got, v, d*(0.5+127*halfRounding)) {
				t.Fatalf("q8_0 element %d = %v, want %v within half of %v", i, got, v, d)
			}
		}
		q4 := encode(nil, gguf.TypeQ4_0, x)
		d = fromHalf(binary.LittleEndian.Uint16(q4))
		for i, v := range x {
			q := int(q4[2+i%16]>>(4*(i/16))&15) - 8
			most := math.Abs(d) * (0.5 + 8*halfRounding)
			if q == 7 {
				most *= 2
			}
			if !near.Enough(d*float64(q), v, most) {
				t.Fatalf("q4_0 element %d = %v, want %v within half of %v", i, d*float64(q), v, d)
			}
		}
	}
	zeros := make([]float32, 32)
	for typ, want := range map[gguf.Type][]byte{
		gguf.TypeQ8_0: make([]byte, 34),
		gguf.TypeQ4_0: append([]byte{0, 0x80}, slices.Repeat([]byte{0x88}, 16)...), // d is −0
	} {
		if got := encode(nil, typ, zeros); !bytes.Equal(got, want) {
			t.Errorf("%v of zeros = %x, want %x", typ, got, want)
		}
	}
}
