package adapter

import (
	"cmp"
	"context"
	"math"
)

// change is what has a ΔW [n_in, n_out]: factors, or a [mixture] of those of several adapters.
type change interface {
	Shape() (nIn, nOut int)
	DeltaRows(dst []float32, row0, row1 int)
}

// products are what two changes of one weight have to say of each other.
type products struct {
	ww, vv     float64 // ‖ΔW‖², ‖ΔV‖²
	wv         float64 // ⟨ΔW, ΔV⟩
	difference float64 // ‖ΔW − ΔV‖²
}

// compare takes two LoRAs by their factors, in float64: what is left of a difference below 1e-8 of ‖ΔW‖ is rounding.
// Others are formed a tile at a time.
func compare(w, v change) products {
	l, isLoRA := w.(*LoRA)
	m, both := v.(*LoRA)
	if isLoRA && both {
		p := products{ww: max(l.inner(l), 0), vv: max(m.inner(m), 0), wv: l.inner(m)}
		p.difference = max(p.ww+p.vv-2*p.wv, 0)
		return p
	}
	return compareTiles(w, v)
}

func compareTiles(w, v change) products {
	nIn, nOut := w.Shape()
	sums := make([]products, (nOut+tileRows-1)/tileRows) // one a tile, so that their order is fixed
	tiles(nOut, func(row0, row1 int) {
		dw, dv := make([]float32, (row1-row0)*nIn), make([]float32, (row1-row0)*nIn)
		w.DeltaRows(dw, row0, row1)
		v.DeltaRows(dv, row0, row1)
		s := &sums[row0/tileRows]
		for i := range dw {
			x, y := float64(dw[i]), float64(dv[i])
			s.ww += x * x
			s.vv += y * y
			s.wv += x * y
			s.difference += (x - y) * (x - y)
		}
	})
	var all products
	for _, s := range sums {
		all.ww += s.ww
		all.vv += s.vv
		all.wv += s.wv
		all.difference += s.difference
	}
	return all
}

// Distance returns ‖ΔW − ΔV‖ and ‖ΔW‖, Frobenius norms, for the changes w and v of one weight. Two LoRAs are compared by
// their factors, others formed a tile at a time.
func Distance(w, v Factors) (difference, whole float64) { return distance(w, v) }

func distance(w, v change) (difference, whole float64) {
	p := compare(bare(w), bare(v))
	return math.Sqrt(p.difference), math.Sqrt(p.ww)
}

// Norm returns ‖ΔW‖, the Frobenius norm: of a LoRA by its factors, of others a tile at a time. A ΔW that is not finite
// is an error.
func Norm(w Weight) (float64, error) {
	if err := checkBound(w.Name, w.Factors); err != nil {
		return 0, err
	}
	n := math.Sqrt(squaredNorm(w.Factors))
	if !(n <= math.MaxFloat32) {
		return 0, named{name: w.Name}.notFinite()
	}
	return n, nil
}

// squaredNorm returns ‖ΔW‖².
func squaredNorm(c change) float64 {
	if l, ok := c.(*LoRA); ok {
		return max(l.inner(l), 0)
	}
	nIn, nOut := c.Shape()
	sums := make([]float64, (nOut+tileRows-1)/tileRows)
	tiles(nOut, func(row0, row1 int) {
		rows := make([]float32, (row1-row0)*nIn)
		c.DeltaRows(rows, row0, row1)
		n := norm(rows)
		sums[row0/tileRows] = n * n
	})
	total := 0.0
	for _, s := range sums {
		total += s
	}
	return total
}

// bare takes the factors out of a [Weight].
func bare(c change) change {
	if w, ok := c.(Weight); ok {
		return w.Factors
	}
	return c
}

// A Difference tells how two adapters change one weight. One that has no factors there changes nothing: its rank and norm
// are 0.
type Difference struct {
	Name     string
	RankA    int
	RankB    int
	NormA    float64 // ‖ΔW‖ of the first, Frobenius
	NormB    float64
	Distance float64 // ‖ΔW₁ − ΔW₂‖
	Inner    float64 // ⟨ΔW₁, ΔW₂⟩, the sum of the products of their elements
}

// Diff compares the changes of two adapters, weight by weight in the order of an adapter. LoRAs are compared by their
// factors, in float64, where a difference below 1e-8 of the change is lost in rounding; others are formed a tile at a time.
// Adapters of different architectures or shapes are an error, and so is a ΔW that is not finite.
func Diff(ctx context.Context, a, b *Adapter) ([]Difference, error) {
	both := []*Adapter{a, b}
	if err := checkShapes(both); err != nil {
		return nil, err
	}
	if err := cmp.Or(a.checkBound(), b.checkBound()); err != nil {
		return nil, err
	}
	var all []Difference
	for _, name := range names(both) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d := differenceOf(a, b, name)
		if !(max(d.Distance, d.NormA, d.NormB) <= math.MaxFloat32) {
			return nil, named{name: name}.notFinite()
		}
		all = append(all, d)
	}
	return all, nil
}

func differenceOf(a, b *Adapter, name string) Difference {
	d := Difference{Name: name}
	w, inA := a.Weight(name)
	v, inB := b.Weight(name)
	switch {
	case inA && inB:
		p := compare(w.Factors, v.Factors)
		d.RankA, d.RankB = w.Rank(), v.Rank()
		d.NormA, d.NormB, d.Distance, d.Inner = math.Sqrt(p.ww), math.Sqrt(p.vv), math.Sqrt(p.difference), p.wv
	case inA:
		d.RankA, d.NormA = w.Rank(), math.Sqrt(squaredNorm(w.Factors))
		d.Distance = d.NormA
	default:
		d.RankB, d.NormB = v.Rank(), math.Sqrt(squaredNorm(v.Factors))
		d.Distance = d.NormB
	}
	return d
}

// Cosine returns the cosine of the angle between the two changes, and NaN where one of them is zero.
func (d Difference) Cosine() float64 {
	if d.NormA == 0 || d.NormB == 0 {
		return math.NaN()
	}
	return max(-1, min(d.Inner/(d.NormA*d.NormB), 1))
}

// Sum adds the differences up to that of the adapters as a whole; its ranks are the largest.
func Sum(all []Difference) Difference {
	var a2, b2, d2 float64
	sum := Difference{}
	for _, d := range all {
		sum.RankA, sum.RankB = max(sum.RankA, d.RankA), max(sum.RankB, d.RankB)
		a2 += d.NormA * d.NormA
		b2 += d.NormB * d.NormB
		d2 += d.Distance * d.Distance
		sum.Inner += d.Inner
	}
	sum.NormA, sum.NormB, sum.Distance = math.Sqrt(a2), math.Sqrt(b2), math.Sqrt(d2)
	return sum
}
