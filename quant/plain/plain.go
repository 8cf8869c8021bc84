// Package plain converts between float32 and the few tensor types that adapters
// are stored in, F32, F16, BF16 and Q8_0, without native code and bit for bit as
// ggml's own reference routines do. Package quant has every type.
//
//	dst := make([]float32, t.Elements())
//	err := plain.Decode(t.Type, data, dst)
//
// All functions may be called by several goroutines at once.
package plain

import (
	"encoding/binary"
	"fmt"
	"math"

	"finetune/gguf"
)

// Supports reports whether the package converts type t.
func Supports(t gguf.Type) bool {
	switch t {
	case gguf.TypeF32, gguf.TypeF16, gguf.TypeBF16, gguf.TypeQ8_0:
		return true
	}
	return false
}

// Check reports a type that is not supported, or src and dst whose lengths, in
// bytes and elements, do not agree.
func Check(t gguf.Type, srcBytes, elements int) error {
	if !Supports(t) {
		return fmt.Errorf("plain: type %s: want f32, f16, bf16 or q8_0", t)
	}
	want, err := t.RowBytes(int64(elements))
	if err != nil {
		return err
	}
	if want != int64(srcBytes) {
		return fmt.Errorf("plain: %d elements of %s are %d bytes, got %d", elements, t, want, srcBytes)
	}
	return nil
}

// Decode reads len(dst) elements of type t from src, whose length has to agree.
func Decode(t gguf.Type, src []byte, dst []float32) error {
	if err := Check(t, len(src), len(dst)); err != nil {
		return err
	}
	switch t {
	case gguf.TypeF32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case gguf.TypeF16:
		for i := range dst {
			dst[i] = FromHalf(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case gguf.TypeBF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	case gguf.TypeQ8_0:
		decodeQ8(src, dst)
	}
	return nil
}

// Append encodes src as type t behind dst. src has to be whole blocks: a tensor
// may be encoded in as many pieces as it has rows. A finite value too large for
// the type is an error, since it would become infinite.
func Append(dst []byte, t gguf.Type, src []float32) ([]byte, error) {
	n, err := t.RowBytes(int64(len(src)))
	if err != nil {
		return nil, err
	}
	if err := Check(t, int(n), len(src)); err != nil {
		return nil, err
	}
	switch t {
	case gguf.TypeF32:
		for _, v := range src {
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
		}
		return dst, nil
	case gguf.TypeF16:
		return appendHalves(dst, src)
	case gguf.TypeBF16:
		for _, v := range src {
			dst = binary.LittleEndian.AppendUint16(dst, toBrain(v))
		}
		return dst, nil
	}
	return appendQ8(dst, src)
}

// A Q8_0 block is the scale as a half and 32 signed bytes: x = scale·q.
const (
	q8Block = 32
	q8Bytes = 2 + q8Block
)

func decodeQ8(src []byte, dst []float32) {
	for b := range len(dst) / q8Block {
		block := src[b*q8Bytes : (b+1)*q8Bytes]
		d := FromHalf(binary.LittleEndian.Uint16(block))
		for i, q := range block[2:] {
			dst[b*q8Block+i] = float32(int8(q)) * d
		}
	}
}

// appendQ8 gives the largest magnitude of a block the value 127, and divides by
// the scale before that is rounded to a half, as quantize_row_q8_0_ref does.
func appendQ8(dst []byte, src []float32) ([]byte, error) {
	for b := 0; b < len(src); b += q8Block {
		block := src[b : b+q8Block]
		largest := float32(0)
		for _, v := range block {
			largest = max(largest, float32(math.Abs(float64(v))))
		}
		d, inverse := largest/127, float32(0)
		if d != 0 {
			inverse = 1 / d
		}
		scale, err := appendHalves(dst, []float32{d})
		if err != nil {
			return nil, fmt.Errorf("plain: value %g does not fit q8_0", largest)
		}
		dst = scale
		for _, v := range block {
			dst = append(dst, byte(int8(math.Round(float64(v*inverse)))))
		}
	}
	return dst, nil
}

func appendHalves(dst []byte, src []float32) ([]byte, error) {
	for _, v := range src {
		h := ToHalf(v)
		if h&^signHalf == infHalf && !math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("plain: value %g does not fit f16", v)
		}
		dst = binary.LittleEndian.AppendUint16(dst, h)
	}
	return dst, nil
}

const (
	signHalf = 0x8000
	infHalf  = 0x7c00
)

// FromHalf returns the value of an IEEE 754 binary16.
func FromHalf(h uint16) float32 {
	sign, exp, frac := uint32(h&signHalf)<<16, uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exp {
	case 0: // zero or subnormal: frac · 2^-24, exact in a float32
		return math.Float32frombits(sign | math.Float32bits(float32(frac)/(1<<24)))
	case 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
}

// ToHalf rounds to the nearest binary16, ties to even; beyond 65520 to infinity.
func ToHalf(f float32) uint16 {
	bits := math.Float32bits(f)
	sign, abs := uint16(bits>>16&signHalf), bits&^(1<<31)
	switch {
	case abs > 0xff<<23: // NaN, kept quiet
		return sign | infHalf | 0x200
	case abs >= (127+16)<<23: // 65536 and above
		return sign | infHalf
	case abs < (127-14)<<23: // subnormal: the multiple of 2^-24, exact but for this rounding
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(abs))*(1<<24)))
	}
	// Drop 13 bits of the fraction; a carry runs on into the exponent as it should.
	abs += 0xfff + abs>>13&1
	return sign | uint16((abs-(127-15)<<23)>>13)
}

// toBrain rounds to the nearest bfloat16, ties to even.
func toBrain(f float32) uint16 {
	bits := math.Float32bits(f)
	if bits&^(1<<31) > 0xff<<23 {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}
