package plain

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"
)

func TestEveryHalfSurvivesTheWayThereAndBack(t *testing.T) {
	for h := range 1 << 16 {
		v := FromHalf(uint16(h))
		if math.IsNaN(float64(v)) {
			if back := ToHalf(v); !math.IsNaN(float64(FromHalf(back))) {
				t.Fatalf("half %#04x is a NaN and came back as %#04x", h, back)
			}
			continue
		}
		if back := ToHalf(v); back != uint16(h) {
			t.Fatalf("ToHalf(FromHalf(%#04x) = %v) = %#04x", h, v, back)
		}
	}
}

// halfValue is the definition: (-1)^s · 2^(e-15) · (1 + f/1024), without the 1 for e = 0.
func halfValue(h uint16) float64 {
	e, f := int(h>>10&0x1f), float64(h&0x3ff)/1024
	v := math.Ldexp(1+f, e-15)
	if e == 0 {
		v = math.Ldexp(f, -14)
	}
	if h>>15 == 1 {
		v = -v
	}
	return v
}

func TestFromHalfIsTheDefinition(t *testing.T) {
	for h := range 1 << 16 {
		if h>>10&0x1f == 0x1f {
			continue
		}
		if got, want := float64(FromHalf(uint16(h))), halfValue(uint16(h)); got != want {
			t.Fatalf("FromHalf(%#04x) = %v, want %v", h, got, want)
		}
	}
	if v := FromHalf(0xfc00); !math.IsInf(float64(v), -1) {
		t.Errorf("FromHalf(0xfc00) = %v, want -Inf", v)
	}
}

// Between two neighbours the nearer one wins, and half way the even one.
func TestToHalfRoundsToTheNearestAndEven(t *testing.T) {
	for h := range uint16(infHalf - 1) {
		low, high := halfValue(h), halfValue(h+1)
		middle := float32((low + high) / 2) // exact: one bit more than a half has
		even := h + h&1
		for _, c := range []struct {
			v    float32
			want uint16
		}{{middle, even}, {math.Nextafter32(middle, 0), h}, {math.Nextafter32(middle, 1e9), h + 1}} {
			if got := ToHalf(c.v); got != c.want {
				t.Fatalf("ToHalf(%v) = %#04x, want %#04x", c.v, got, c.want)
			}
			if got := ToHalf(-c.v); got != c.want|signHalf {
				t.Fatalf("ToHalf(%v) = %#04x, want %#04x", -c.v, got, c.want|signHalf)
			}
		}
	}
	if got := ToHalf(65519.99); got != 0x7bff {
		t.Errorf("ToHalf(65519.99) = %#04x, want the largest half", got)
	}
	if got := ToHalf(65520); got != infHalf {
		t.Errorf("ToHalf(65520) = %#04x, want infinity", got)
	}
}

func TestAppendGoldenBytes(t *testing.T) {
	block := make([]float32, 32)
	q8 := make([]byte, 34)
	block[0], block[1], block[31] = 127, -63.5, 0.5 // scale 1; halves round away from zero
	q8[0], q8[1], q8[2], q8[3], q8[33] = 0x00, 0x3c, 127, 0xc0, 1
	for _, c := range []struct {
		t    gguf.Type
		src  []float32
		want []byte
	}{
		{gguf.TypeF32, []float32{1, -2}, []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0}},
		{gguf.TypeF16, []float32{1, -2, 65504}, []byte{0, 0x3c, 0, 0xc0, 0xff, 0x7b}},
		{gguf.TypeBF16, []float32{1, 3.140625, 1.00390625}, []byte{0x80, 0x3f, 0x49, 0x40, 0x80, 0x3f}},
		{gguf.TypeQ8_0, block, q8},
		{gguf.TypeQ8_0, make([]float32, 32), make([]byte, 34)},
	} {
		got, err := Append([]byte{9}, c.t, c.src)
		if err != nil || got[0] != 9 || !bytes.Equal(got[1:], c.want) {
			t.Errorf("Append(%s, %v) = %x, %v, want 09%x", c.t, c.src, got, err, c.want)
		}
	}
}

func TestDecodeAfterAppendStaysWithinTheStep(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	src := make([]float32, 64*32)
	for i := range src {
		src[i] = float32(rng.NormFloat64())
	}
	for _, c := range []struct {
		t    gguf.Type
		step float64 // half the distance of neighbours, as a share of the block's largest value
	}{{gguf.TypeF32, 0}, {gguf.TypeF16, 1.0 / 2048}, {gguf.TypeBF16, 1.0 / 256}, {gguf.TypeQ8_0, 0.5/127 + 1.0/2048}} {
		data, err := Append(nil, c.t, src)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(src))
		if err := Decode(c.t, data, got); err != nil {
			t.Fatal(err)
		}
		block := c.t.BlockSize()
		for b := 0; b < len(src); b += block {
			if got, want := got[b:b+block], src[b:b+block]; near.Farthest(got, want) > c.step*near.Largest(want) {
				t.Fatalf("%s: %v came back as %v, want within %v of the largest", c.t, want, got, c.step)
			}
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"unknown type", Decode(gguf.TypeQ4_K, make([]byte, 144), make([]float32, 256)), "plain: type q4_K: want f32, f16, bf16 or q8_0"},
		{"short data", Decode(gguf.TypeF16, make([]byte, 5), make([]float32, 3)), "plain: 3 elements of f16 are 6 bytes, got 5"},
		{"half a block", Decode(gguf.TypeQ8_0, make([]byte, 17), make([]float32, 16)), "gguf: a row of 16 elements is no multiple of the 32 in a block of q8_0"},
		{"too large", second(Append(nil, gguf.TypeF16, []float32{1e5})), "plain: value 100000 does not fit f16"},
		{"too large a block", second(Append(nil, gguf.TypeQ8_0, append(make([]float32, 31), 1e8))), "plain: value 1e+08 does not fit q8_0"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("%s: error %v, want %s", c.name, c.err, c.want)
		}
	}
}

func second(_ []byte, err error) error { return err }
