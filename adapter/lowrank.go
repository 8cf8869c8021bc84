package adapter

import (
	"fmt"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// This file computes with the factors of LoRAs in float64 and never forms a ΔW.

// coreLimit is the rank up to which a LoRA is decomposed by its factors: the singular values of a core of this size take a
// few seconds. Beyond it, as in an exact export, ΔW itself is the smaller matrix to search.
const coreLimit = 512

// weighted returns the LoRA whose change is diag(out)·ΔW·diag(in), nil being ones.
func (l *LoRA) weighted(in, out []float32) *LoRA {
	if in == nil && out == nil {
		return l
	}
	w := &LoRA{A: l.A.Clone(), B: l.B.Clone(), Alpha: l.Alpha}
	scaleColumns(w.A, in)
	scaleRows(w.B, out)
	return w
}

// svd returns all singular components of ΔW = s·B·A. With B = Qb·Rb and Aᵀ = Qa·Ra, both by columns, they are those of the
// small core s·Rb·Raᵀ, turned by Qb and Qa.
func (l *LoRA) svd() (svd, error) {
	qb, rb := qr(dense(l.B))
	qa, ra := qr(mat.DenseCopyOf(dense(l.A).T()))
	var core mat.Dense
	core.Mul(rb, ra.T())
	core.Scale(float64(l.Scale()), &core)
	var s mat.SVD
	if !s.Factorize(&core, mat.SVDThin) {
		return svd{}, fmt.Errorf("adapter: the singular values of a core of rank %d do not converge", l.Rank())
	}
	var uc, vc, u, v mat.Dense
	s.UTo(&uc)
	s.VTo(&vc)
	u.Mul(qb, &uc)
	v.Mul(qa, &vc)
	return newSVD(s.Values(nil), &u, &v), nil
}

// finite reports whether no factor holds a NaN or an infinity.
func (l *LoRA) finite() bool {
	_, badA := firstNotFinite(l.A.Data)
	_, badB := firstNotFinite(l.B.Data)
	return !badA && !badB && finite(l.Scale())
}

// inner returns ⟨ΔW, ΔV⟩, the sum of the products of their elements, by the small products of the factors:
// tr(ΔWᵀ·ΔV) = s·t·Σ_kl (Bᵀ·D)_kl·(A·Cᵀ)_kl for ΔW = s·B·A and ΔV = t·D·C.
func (l *LoRA) inner(m *LoRA) float64 {
	b := gram(blas.Trans, dense(l.B), blas.NoTrans, dense(m.B))
	a := gram(blas.NoTrans, dense(l.A), blas.Trans, dense(m.A))
	return float64(l.Scale()) * float64(m.Scale()) * blas64.Dot(vector(b), vector(a))
}

// gram returns op(x)·op(y), [rank × rank].
func gram(opX blas.Transpose, x *mat.Dense, opY blas.Transpose, y *mat.Dense) blas64.General {
	rows, cols := x.RawMatrix().Rows, y.RawMatrix().Cols
	if opX == blas.Trans {
		rows = x.RawMatrix().Cols
	}
	if opY == blas.Trans {
		cols = y.RawMatrix().Rows
	}
	g := blas64.General{Rows: rows, Cols: cols, Stride: cols, Data: make([]float64, rows*cols)}
	blas64.Gemm(opX, opY, 1, x.RawMatrix(), y.RawMatrix(), 0, g)
	return g
}

// vector returns all elements of a product.
func vector(g blas64.General) blas64.Vector {
	return blas64.Vector{N: len(g.Data), Inc: 1, Data: g.Data}
}
