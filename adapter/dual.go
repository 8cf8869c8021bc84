package adapter

import (
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// Dual is Dual LoRA (arXiv 2512.03402): one low-rank product decides how far an
// entry of W moves, another which way.
//
//	M = B·A        the magnitude group
//	N = D·C        the direction group
//	ΔW = s · ReLU(M) ⊙ sign(N)    with s = Alpha/r1, sign(n) = +1 for n > 0, else −1
type Dual struct {
	A     Mat     // [n_in, r1]
	B     Mat     // [r1, n_out]
	C     Mat     // [n_in, r2]
	D     Mat     // [r2, n_out]
	Alpha float32 // 0 = unscaled; else s is Alpha/r1
	Limit float32 // of |N|, above which no gradient goes straight through the sign; 0 = none. For training only: no file has it
}

var dualKind = fileKind{
	method: MethodDual, name: "dual_lora", alphaKey: "adapter.dual_lora.alpha",
	factors: []stored{
		{"dual_a", [2]string{"n_in", "r1"}}, {"dual_b", [2]string{"r1", "n_out"}},
		{"dual_c", [2]string{"n_in", "r2"}}, {"dual_d", [2]string{"r2", "n_out"}},
	},
	join: func(m []Mat, alpha float32) Factors { return &Dual{A: m[0], B: m[1], C: m[2], D: m[3], Alpha: alpha} },
}

// newDual gives the odd one of the ranks to the magnitude group: r1 = ⌈rank/2⌉.
func newDual(nIn, nOut, rank int, alpha float32) Factors {
	return newDualOf(nIn, nOut, (rank+1)/2, rank, alpha)
}

// newDualOf gives r1 of the ranks to the magnitude group.
func newDualOf(nIn, nOut, r1, rank int, alpha float32) *Dual {
	return &Dual{
		A: NewMat(nIn, r1), B: NewMat(r1, nOut),
		C: NewMat(nIn, rank-r1), D: NewMat(rank-r1, nOut), Alpha: alpha,
	}
}

// Method returns MethodDual.
func (d *Dual) Method() Method { return MethodDual }

// Shape returns n_in, n_out of the weight.
func (d *Dual) Shape() (int, int) { return d.A.NE[0], d.B.NE[1] }

// Rank returns r1 + r2.
func (d *Dual) Rank() int { return d.A.NE[1] + d.C.NE[1] }

// Scale returns s: Alpha/r1, or 1 for an Alpha of 0.
func (d *Dual) Scale() float32 { return scaleOf(d.Alpha, d.A.NE[1]) }

// Matrices lists dual_a, dual_b, dual_c and dual_d.
func (d *Dual) Matrices() []NamedFactor {
	return []NamedFactor{{Suffix: "dual_a", Mat: d.A, Magnitude: true}, {Suffix: "dual_b", Mat: d.B, Magnitude: true, Warms: true},
		{Suffix: "dual_c", Mat: d.C}, {Suffix: "dual_d", Mat: d.D}}
}

// Init draws A, C and D and leaves B zero: ΔW = 0, and since ReLU'(0) counts as
// 1 the first step moves B.
func (d *Dual) Init(seed uint64, weight string) {
	kaiming(d.A, seed, weight+".dual_a")
	clear(d.B.Data)
	kaiming(d.C, seed, weight+".dual_c")
	kaiming(d.D, seed, weight+".dual_d")
}

// DeltaRows forms |s|·M in dst and N beside it, a tile at a time, and joins them. A
// negative s turns every change around, after the ReLU.
func (d *Dual) DeltaRows(dst []float32, row0, row1 int) {
	nIn, _ := d.Shape()
	scratch := NewMat(nIn, min(tileRows, row1-row0))
	scale := d.Scale()
	for row := row0; row < row1; row += tileRows {
		end := min(row+tileRows, row1)
		m := Mat{NE: [2]int{nIn, end - row}, Data: dst[(row-row0)*nIn : (end-row0)*nIn]}
		n := scratch.rows(0, end-row)
		blas32.Gemm(blas.NoTrans, blas.NoTrans, max(scale, -scale), d.B.rows(row, end), d.A.rows(0, d.A.NE[1]), 0, m.rows(0, end-row))
		blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, d.D.rows(row, end), d.C.rows(0, d.C.NE[1]), 0, n)
		join(m.Data, n.Data, scale < 0)
	}
}

// join replaces each m by ReLU(m)·sign(n), or by the opposite. A NaN stays one.
func join(m, n []float32, opposite bool) {
	for i, v := range m {
		switch {
		case v <= 0:
			m[i] = 0
		case !(n[i] > 0) != opposite:
			m[i] = -v
		}
	}
}

func (d *Dual) alpha() float32 { return d.Alpha }

func (d *Dual) scaled(factor float32) (Factors, error) {
	alpha, err := alphaFor(d.Alpha, d.A.NE[1], factor)
	return &Dual{A: d.A, B: d.B, C: d.C, D: d.D, Alpha: alpha, Limit: d.Limit}, err
}

func (d *Dual) reference(Mat) []float64 {
	m, n := product(d.A, d.B), product(d.C, d.D)
	for i := range m {
		m[i] = float64(d.Scale()) * relu(m[i]) * sign(n[i])
	}
	return m
}

// gradients, element-wise but for the last line:
//
//	dM = s · G ⊙ sign(N) ⊙ [M ≥ 0]    ReLU'(0) = 1, a valid subgradient
//	dN = s · G ⊙ ReLU(M)              straight through the sign, but where |N| is above the limit
//	dA = Bᵀ·dM, dB = dM·Aᵀ, dC = Dᵀ·dN, dD = dN·Cᵀ
func (d *Dual) gradients(g []float64, _ Mat) []Mat {
	m, n := product(d.A, d.B), product(d.C, d.D)
	s := float64(d.Scale())
	for i, gi := range g {
		dm, dn := 0.0, s*gi*relu(m[i])
		if m[i] >= 0 {
			dm = s * gi * sign(n[i])
		}
		if d.Limit > 0 && math.Abs(n[i]) > float64(d.Limit) {
			dn = 0
		}
		m[i], n[i] = dm, dn
	}
	da, db := productGradients(m, d.A, d.B)
	dc, dd := productGradients(n, d.C, d.D)
	return []Mat{da, db, dc, dd}
}

func relu(v float64) float64 { return max(v, 0) }

func sign(v float64) float64 {
	if v > 0 {
		return 1
	}
	return -1
}
