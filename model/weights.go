package model

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"

	"finetune/gguf"
	"finetune/internal/hint"
)

// piece is how many bytes of a tensor are looked at before their pages are given back.
const piece = 16 << 20

// CheckWeights looks at every number of F32, F16 and BF16 and at every scale of a quantized block: one that is infinite or no
// number is an error with the tensor and its element. A single such scale need not show in what a model computes: softmax
// passes over it, and the loss is a plausible one of another model. It reads the whole file, on all cores, and keeps no pages
// of it. llama.cpp's own check_tensors costs the same processor time, on the thread that waits for it, and writes to stderr.
func (b *Base) CheckWeights() error {
	type part struct {
		gguf.Tensor
		from, to int64
	}
	parts := make(chan part)
	errs := make(chan error, 1) // of one of the parts
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for p := range parts {
				if err := b.checkPart(p.Tensor, p.from, p.to); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for _, t := range b.Tensors() {
		if t.Type.BlockBytes() == 0 {
			continue
		}
		size := int64(piece / t.Type.BlockBytes() * t.Type.BlockBytes())
		for from := int64(0); from < t.Bytes(); from += size {
			parts <- part{t, from, min(from+size, t.Bytes())}
		}
	}
	close(parts)
	wg.Wait()
	b.Forget()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// checkPart looks at some whole blocks of a tensor.
func (b *Base) checkPart(t gguf.Tensor, from, to int64) error {
	data, err := b.Part(t.Name, from, to)
	if err != nil {
		return err
	}
	at := badBlock(t.Type, data)
	if to < t.Bytes() {
		b.Forget()
	}
	if at < 0 {
		return nil
	}
	element := (from/int64(t.Type.BlockBytes()) + int64(at)) * int64(t.Type.BlockSize())
	what := "a number"
	if t.Type.BlockSize() > 1 {
		what = "a number as the scale of the block"
	}
	return hint.With(fmt.Errorf("model %q: tensor %q: want %s at element %d, got NaN or infinity", b.Path(), t.Name, what, element),
		"the file is damaged: download it, or make it, again")
}

// scales are the places of a block's F16 scales, and of its minimum, by type.
var scales = map[gguf.Type][]int{
	gguf.TypeQ4_0: {0}, gguf.TypeQ4_1: {0, 2}, gguf.TypeQ5_0: {0}, gguf.TypeQ5_1: {0, 2}, gguf.TypeQ8_0: {0},
	gguf.TypeQ2_K: {80, 82}, gguf.TypeQ3_K: {108}, gguf.TypeQ4_K: {0, 2}, gguf.TypeQ5_K: {0, 2}, gguf.TypeQ6_K: {208},
	gguf.TypeIQ2_XXS: {0}, gguf.TypeIQ2_XS: {0}, gguf.TypeIQ2_S: {0}, gguf.TypeIQ3_XXS: {0}, gguf.TypeIQ3_S: {0},
	gguf.TypeIQ1_S: {0}, gguf.TypeIQ4_NL: {0}, gguf.TypeIQ4_XS: {0},
	gguf.TypeTQ1_0: {52}, gguf.TypeTQ2_0: {64}, gguf.TypeQ1_0: {0}, gguf.TypeQ2_0: {0},
}

// badBlock returns a block of data with a number or scale that is none, -1 where there is none. Every byte is a scale of
// nvfp4, and no pattern of bits of a whole number is bad.
func badBlock(typ gguf.Type, data []byte) int {
	switch typ {
	case gguf.TypeF32:
		return badLane(data, 0x7f800000_7f800000, 0x00000001_00000001, 4)
	case gguf.TypeF16:
		return badLane(data, 0x7c00_7c00_7c00_7c00, 0x0001_0001_0001_0001, 2)
	case gguf.TypeBF16:
		return badLane(data, 0x7f80_7f80_7f80_7f80, 0x0001_0001_0001_0001, 2)
	case gguf.TypeMXFP4: // E8M0
		return badBlocks(data, typ.BlockBytes(), func(block []byte) bool { return block[0] == 0xff })
	case gguf.TypeIQ1_M: // four bits of the scale in each of four words
		return badBlocks(data, typ.BlockBytes(), func(block []byte) bool {
			s := block[48:56]
			return badF16(uint16(s[1]>>4) | uint16(s[3]&0xf0) | uint16(s[5]&0xf0)<<4 | uint16(s[7]&0xf0)<<8)
		})
	}
	for _, at := range scales[typ] {
		if bad := badScale(data, typ.BlockBytes(), at); bad >= 0 {
			return bad
		}
	}
	return -1
}

// badScale returns the first block with a bad F16 at a place of it.
func badScale(data []byte, block, at int) int {
	for i := at + 1; i < len(data); i += block { // the upper byte holds the exponent
		if data[i]&0x7c == 0x7c {
			return i / block
		}
	}
	return -1
}

// badF16 reports whether the exponent is all ones.
func badF16(bits uint16) bool { return bits&0x7c00 == 0x7c00 }

func badBlocks(data []byte, size int, bad func(block []byte) bool) int {
	for i := 0; i+size <= len(data); i += size {
		if bad(data[i : i+size]) {
			return i / size
		}
	}
	return -1
}

// badLane returns the first number whose exponent is all ones, eight bytes at a time: exponent masks the exponents of the
// numbers in eight bytes, one has the lowest bit of each set. A number is bad where no bit of its exponent is missing, and a
// word has a zero among its numbers where one borrows from a number's highest bit.
func badLane(data []byte, exponent, one uint64, width int) int {
	high := one << (width*8 - 1)
	i := 0
	for ; i+8 <= len(data); i += 8 {
		missing := ^binary.LittleEndian.Uint64(data[i:]) & exponent
		if (missing-one)&^missing&high != 0 {
			break
		}
	}
	for ; i+width <= len(data); i += width {
		var word [8]byte
		copy(word[:], data[i:i+width])
		if ^binary.LittleEndian.Uint64(word[:])&exponent&(1<<(width*8)-1) == 0 {
			return i / width
		}
	}
	return -1
}
