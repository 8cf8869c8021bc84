package adapter

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"
)

// svd is a truncated singular value decomposition of P [n, m]: P ≈ Σ σ_k·u_k·v_kᵀ,
// in the layout of factors.
type svd struct {
	sigma []float64 // falling, len k
	v     Mat       // [n, k], rows of unit length
	u     Mat       // [k, m], columns of unit length
}

const (
	// directLimit is the smaller dimension up to which the whole decomposition
	// costs less than a second.
	directLimit = 256
	// oversampling and powerSteps are Halko, Martinsson and Tropp's
	// (arXiv 0909.4061): so many more directions than wanted, and so many
	// multiplications with P·Pᵀ to part the large singular values from the rest.
	// ΔW of a Dual LoRA has a long flat tail, which takes the third.
	oversampling = 10
	powerSteps   = 3
)

// truncatedSVD returns the k largest singular values of p and their vectors. It
// overwrites nothing of p and is deterministic by seed.
func truncatedSVD(p Mat, k int, seed uint64) (svd, error) {
	small := min(p.NE[0], p.NE[1])
	k = min(k, small)
	if small <= directLimit || k+oversampling >= small/2 {
		return directSVD(p, k)
	}
	return randomSVD(p, k, seed)
}

func directSVD(p Mat, k int) (svd, error) {
	var d mat.SVD
	if !d.Factorize(dense(p), mat.SVDThin) {
		return svd{}, fmt.Errorf("adapter: the singular values of a %v matrix do not converge", p.NE)
	}
	var u, v mat.Dense
	d.UTo(&u)
	d.VTo(&v)
	return newSVD(d.Values(nil)[:k], &u, &v), nil
}

// randomSVD finds the leading singular components by randomized subspace iteration. The
// big products are in float32; the bases they yield are made orthonormal in float64
// after each one.
func randomSVD(p Mat, k int, seed uint64) (svd, error) {
	n, m, l := p.NE[0], p.NE[1], k+oversampling
	rng := rand.New(rand.NewPCG(seed, uint64(n)<<32|uint64(m)))
	z := NewMat(l, n)
	for i := range z.Data {
		z.Data[i] = float32(rng.NormFloat64())
	}
	y, q := NewMat(l, m), NewMat(l, n)
	var r *mat.Dense
	for range powerSteps {
		gemm(blas.NoTrans, p, z, y) // y = P·z
		orthonormal(y, y)
		gemm(blas.Trans, p, y, z) // z = Pᵀ·y
		r = orthonormal(z, q)
		copy(z.Data, q.Data)
	}
	// P ≈ y·yᵀ·P = y·(Pᵀ·y)ᵀ = y·(q·r)ᵀ: the decomposition of the small rᵀ is turned
	// back by y on the one side and by q on the other.
	var d mat.SVD
	if !d.Factorize(r.T(), mat.SVDThin) {
		return svd{}, fmt.Errorf("adapter: the singular values of a %v matrix do not converge", p.NE)
	}
	var ur, vr, u, v mat.Dense
	d.UTo(&ur)
	d.VTo(&vr)
	u.Mul(dense(y), ur.Slice(0, l, 0, k))
	v.Mul(dense(q), vr.Slice(0, l, 0, k))
	return newSVD(d.Values(nil)[:k], &u, &v), nil
}

// newSVD takes the first len(sigma) columns of u (m rows) and of v (n rows).
func newSVD(sigma []float64, u, v *mat.Dense) svd {
	k := len(sigma)
	n, _ := v.Dims()
	m, _ := u.Dims()
	s := svd{sigma: sigma, v: NewMat(n, k), u: NewMat(k, m)}
	for j := range k {
		for i := range n {
			s.v.Row(j)[i] = float32(v.At(i, j))
		}
		for i := range m {
			s.u.Row(i)[j] = float32(u.At(i, j))
		}
	}
	return s
}

// gemm sets c = op(a)·b, all in rows.
func gemm(op blas.Transpose, a, b, c Mat) {
	blas32.Gemm(op, blas.NoTrans, 1, a.rows(0, a.NE[1]), b.rows(0, b.NE[1]), 0, c.rows(0, c.NE[1]))
}

// orthonormal factors a [l, n], n ≥ l, as q·r: q gets the orthonormal columns (it
// may be a), and r, upper triangular, is returned.
func orthonormal(a, q Mat) *mat.Dense {
	columns, r := qr(dense(a))
	for i, v := range columns.RawMatrix().Data {
		q.Data[i] = float32(v)
	}
	return r
}

// qr factors a, of n rows and l columns, by Householder reflections. q has
// k = min(n, l) orthonormal columns and r is [k rows, l], zero below the diagonal.
// q lies in a's memory.
func qr(a *mat.Dense) (q, r *mat.Dense) {
	w := a.RawMatrix()
	k := min(w.Rows, w.Cols)
	tau := make([]float64, k)
	work := make([]float64, 1)
	lapack64.Geqrf(w, tau, work, -1)
	work = make([]float64, int(work[0]))
	lapack64.Geqrf(w, tau, work, len(work))
	r = mat.NewDense(k, w.Cols, nil)
	for i := range k {
		for j := i; j < w.Cols; j++ {
			r.Set(i, j, w.Data[i*w.Stride+j])
		}
	}
	orgqr(blas64.General{Rows: w.Rows, Cols: k, Stride: w.Stride, Data: w.Data}, tau)
	return a.Slice(0, w.Rows, 0, k).(*mat.Dense), r
}

// orgqr replaces reflections by the columns that they make.
func orgqr(w blas64.General, tau []float64) {
	work := make([]float64, 1)
	lapack64.Orgqr(w, tau, work, -1)
	work = make([]float64, int(work[0]))
	lapack64.Orgqr(w, tau, work, len(work))
}

// dense returns m in float64, rows as rows.
func dense(m Mat) *mat.Dense {
	data := make([]float64, len(m.Data))
	for i, v := range m.Data {
		data[i] = float64(v)
	}
	return mat.NewDense(m.NE[1], m.NE[0], data)
}

// norm returns the Frobenius norm.
func norm(vs []float32) float64 {
	sum := 0.0
	for _, v := range vs {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}
