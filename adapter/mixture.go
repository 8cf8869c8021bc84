package adapter

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// mixture is the change that several adapters make together of one weight, each perhaps thinned out first: their sum, or
// with elect the mean of those that go the way that most mass goes (TIES, arXiv 2306.01708). Rows are formed as they are
// asked for, each alike however the work is divided.
type mixture struct {
	parts []thinned // one or more, of one shape
	elect bool
}

// thinned are factors of which not every element of ΔW may stay.
type thinned struct {
	weighted
	thin func(vs []float32, at int) // puts zeros into elements at and after of ΔW; nil keeps all
}

// Shape returns n_in, n_out of the weight.
func (m *mixture) Shape() (int, int) { return m.parts[0].Shape() }

// DeltaRows forms the rows of each part and joins them, element by element.
func (m *mixture) DeltaRows(dst []float32, row0, row1 int) {
	nIn, _ := m.Shape()
	rows := make([][]float32, len(m.parts))
	for i, p := range m.parts {
		rows[i] = make([]float32, (row1-row0)*nIn)
		p.DeltaRows(rows[i], row0, row1)
		if p.thin != nil {
			p.thin(rows[i], row0*nIn)
		}
	}
	for i := range dst {
		dst[i] = m.element(rows, i)
	}
}

// element returns Σ v_t over the parts t, v_t = w_t·ΔW_t; or with elect the mean of those v_t whose sign is that of the
// sum, which is 0 where nothing outweighs.
func (m *mixture) element(rows [][]float32, i int) float32 {
	sum := 0.0
	for t, p := range m.parts {
		sum += float64(p.weight) * float64(rows[t][i])
	}
	if !m.elect || sum == 0 || math.IsNaN(sum) {
		return float32(sum)
	}
	agreed, n := 0.0, 0.0
	for t, p := range m.parts {
		if v := float64(p.weight) * float64(rows[t][i]); v*sum > 0 {
			agreed += v
			n++
		}
	}
	return float32(agreed / n)
}

// largest keeps the share of the elements of ΔW that are largest by magnitude, at least one, and those that are equal to
// the least of them.
func largest(f Factors, density float64) func(vs []float32, at int) {
	if density == 1 {
		return nil
	}
	nIn, nOut := f.Shape()
	delta := make([]float32, nIn*nOut)
	Delta(f, delta)
	least := nthMagnitude(delta, max(1, int(density*float64(len(delta)))))
	return func(vs []float32, _ int) {
		for i, v := range vs {
			if max(v, -v) < least {
				vs[i] = 0
			}
		}
	}
}

// nthMagnitude returns the n-th largest |v|, n from 1. The bits of floats that are not negative are ordered as the
// floats are: so it is found by counting those of each upper half, and then within the half it falls into those of each
// lower one.
func nthMagnitude(vs []float32, n int) float32 {
	const halves = 1 << 16
	bitsOf := func(v float32) uint32 { return math.Float32bits(v) &^ (1 << 31) }
	counts := make([]int, halves)
	find := func() (half uint32) { // and takes those above it off n
		for half = halves - 1; counts[half] < n; half-- {
			n -= counts[half]
		}
		return half
	}
	for _, v := range vs {
		counts[bitsOf(v)>>16]++
	}
	upper := find()
	clear(counts)
	for _, v := range vs {
		if b := bitsOf(v); b>>16 == upper {
			counts[b&(halves-1)]++
		}
	}
	return math.Float32frombits(upper<<16 | find())
}

// dropped keeps each element with the probability density and divides it by that, so that its mean stays.
func dropped(density float64, key uint64) func(vs []float32, at int) {
	if density == 1 {
		return nil
	}
	return func(vs []float32, at int) {
		for i, v := range vs {
			if uniform(key, at+i) < density {
				vs[i] = float32(float64(v) / density)
			} else {
				vs[i] = 0
			}
		}
	}
}

// streamKey tells the random numbers of one adapter's weight from those of others.
func streamKey(seed uint64, ingredient int, weight string) uint64 {
	text := binary.LittleEndian.AppendUint64(nil, seed)
	text = binary.LittleEndian.AppendUint64(text, uint64(ingredient))
	sum := sha256.Sum256(append(text, weight...))
	return binary.LittleEndian.Uint64(sum[:])
}

// uniform returns number i of the SplitMix64 generator (Steele, Lea and Flood 2014) started at key, in [0, 1). Unlike
// those of math/rand it can be entered anywhere, so that rows need not be formed in order.
func uniform(key uint64, i int) float64 {
	z := key + (uint64(i)+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>11) / (1 << 53)
}
