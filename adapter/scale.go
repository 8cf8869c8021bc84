package adapter

import (
	"fmt"
	"math"

	"finetune/gguf"
	"finetune/quant/plain"
)

// Scaled returns the adapter with factor times its effect: alpha is multiplied, or where there is none set to factor times
// the rank, and the factors stay as they are, in memory that both share. A power of two loses nothing; with another factor
// alpha is rounded to a float32.
//
// Refused are factors of 0, which llama.cpp would take for no scale at all, or not finite, and an alpha out of float32's
// normal range.
func (a *Adapter) Scaled(factor float32) (*Adapter, error) {
	if factor == 0 || !finite(factor) {
		return nil, fmt.Errorf("adapter: factor %v: want a number other than 0", factor)
	}
	scaled := *a
	scaled.Weights = nil
	scaled.Meta = derivedMeta(a.Meta)
	for _, w := range a.Weights {
		f, err := w.scaled(factor)
		if err != nil {
			return nil, fmt.Errorf("adapter: tensor %q: %w", w.Name, err)
		}
		scaled.Weights = append(scaled.Weights, Weight{w.Name, f})
	}
	return &scaled, nil
}

// alphaFor returns the alpha that makes the scale factor times what it is.
func alphaFor(alpha float32, rank int, factor float32) (float32, error) {
	if alpha == 0 {
		alpha = float32(rank)
	}
	return normal(float64(alpha) * float64(factor))
}

// normal refuses an alpha that a float32 cannot hold to full precision.
func normal(alpha float64) (float32, error) {
	const least = 0x1p-126
	if size := math.Abs(alpha); !(size >= least && size <= math.MaxFloat32) {
		return 0, fmt.Errorf("alpha would be %.3g, which float32 cannot hold", alpha)
	}
	return float32(alpha), nil
}

// Holds reports whether a file of type t keeps every factor to the last bit.
func (a *Adapter) Holds(t gguf.Type) bool {
	_, folded := a.commonAlpha()
	for _, w := range a.Weights {
		for _, m := range w.Matrices() {
			scale := float32(1)
			if folded && m.Suffix == "lora_b" {
				scale = w.Scale()
			}
			if !m.Mat.holds(typeFor(t, m.Mat.NE[0]), scale) {
				return false
			}
		}
	}
	return true
}

// holds reports whether scale·m comes back from type t, and whether the product itself is exact.
func (m Mat) holds(t gguf.Type, scale float32) bool {
	row, back := make([]float32, m.NE[0]), make([]float32, m.NE[0])
	var data []byte
	for i := range m.NE[1] {
		for j, v := range m.Row(i) {
			row[j] = scale * v
			if float64(row[j]) != float64(scale)*float64(v) {
				return false
			}
		}
		var err error
		if data, err = plain.Append(data[:0], t, row); err != nil {
			return false
		}
		if plain.Decode(t, data, back) != nil {
			return false
		}
		for j := range row {
			if row[j] != back[j] {
				return false
			}
		}
	}
	return true
}
