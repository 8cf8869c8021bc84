package newmodel

import (
	"encoding/binary"
	"io"
	"math"

	"finetune/gguf"
)

// writable are the types that weights are encoded in here, in pure Go.
var writable = []gguf.Type{gguf.TypeF32, gguf.TypeF16, gguf.TypeBF16, gguf.TypeQ8_0, gguf.TypeQ4_0}

// fileTypes is llama.cpp's general.file_type of a model whose matrices are of a type.
var fileTypes = map[gguf.Type]uint32{
	gguf.TypeF32: 0, gguf.TypeF16: 1, gguf.TypeQ4_0: 2, gguf.TypeQ8_0: 7, gguf.TypeBF16: 32,
}

// write writes the tensor's numbers from source, row by row.
func (t Tensor) write(w io.Writer, source func() float64) error {
	row := make([]float32, t.Shape[0])
	var b []byte
	for range t.Elements() / t.Shape[0] {
		for i := range row {
			row[i] = float32(source())
		}
		b = encode(b[:0], t.Type, row)
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// encode appends a row, a whole number of blocks, in one of the writable types.
func encode(b []byte, typ gguf.Type, row []float32) []byte {
	le := binary.LittleEndian
	switch typ {
	case gguf.TypeF32:
		for _, x := range row {
			b = le.AppendUint32(b, math.Float32bits(x))
		}
	case gguf.TypeF16:
		for _, x := range row {
			b = le.AppendUint16(b, half(x))
		}
	case gguf.TypeBF16:
		for _, x := range row {
			b = le.AppendUint16(b, brain(x))
		}
	case gguf.TypeQ8_0:
		for ; len(row) > 0; row = row[32:] {
			b = appendQ8_0(b, row[:32])
		}
	case gguf.TypeQ4_0:
		for ; len(row) > 0; row = row[32:] {
			b = appendQ4_0(b, row[:32])
		}
	default:
		panic("newmodel: internal error: no encoder for type " + typ.String())
	}
	return b
}

// appendQ8_0 appends a block: half-precision d, then 32 signed bytes q with x ≈ d·q.
func appendQ8_0(b []byte, x []float32) []byte {
	d := float32(math.Abs(float64(farthest(x)))) / 127
	b = binary.LittleEndian.AppendUint16(b, half(d))
	for _, v := range x {
		b = append(b, byte(int8(math.Round(float64(v*inverse(d))))))
	}
	return b
}

// appendQ4_0 appends a block: half-precision d, then 16 bytes that hold q of element i
// in the lower and q of element i+16 in the upper half, with x ≈ d·(q−8). d has the sign
// that gives the element farthest from 0 the value −8.
func appendQ4_0(b []byte, x []float32) []byte {
	d := farthest(x) / -8
	b = binary.LittleEndian.AppendUint16(b, half(d))
	q := func(v float32) byte { return byte(min(15, int(float32(v*inverse(d))+8.5))) }
	for i := range 16 {
		b = append(b, q(x[i])|q(x[i+16])<<4)
	}
	return b
}

// farthest returns the element farthest from 0, with its sign.
func farthest(x []float32) float32 {
	var far float32
	for _, v := range x {
		if math.Abs(float64(v)) > math.Abs(float64(far)) {
			far = v
		}
	}
	return far
}

func inverse(d float32) float32 {
	if d == 0 {
		return 0
	}
	return 1 / d
}

// half rounds x to the nearest half-precision number, ties to even.
func half(x float32) uint16 {
	bits := math.Float32bits(x)
	sign, abs := uint16(bits>>16&0x8000), bits&0x7fffffff
	switch {
	case abs > 0x7f800000: // not a number
		return sign | 0x7e00
	case abs >= 0x477ff000: // 65520 and above round to infinity
		return sign | 0x7c00
	case abs < 0x38800000: // below 2⁻¹⁴: a multiple of 2⁻²⁴
		return sign | uint16(math.RoundToEven(math.Abs(float64(x))*(1<<24)))
	}
	abs += 0xfff + abs>>13&1 // half of the last bit that stays, less one if that is even
	return sign | uint16(abs>>13-(127-15)<<10)
}

// brain rounds x to the nearest bfloat16 number, ties to even.
func brain(x float32) uint16 {
	bits := math.Float32bits(x)
	if bits&0x7fffffff > 0x7f800000 {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}
