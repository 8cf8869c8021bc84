package adapter

import (
	"math"
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// DoRA is weight-decomposed LoRA (arXiv 2402.09353) as PEFT computes it: a LoRA turns
// the rows of W, and a magnitude says how long each of them becomes.
//
//	V  = W + s·B·A                              with s = Alpha/rank
//	W' = M ⊙ V/‖V‖                              ‖V‖ [n_out], the length of each row
//	ΔW = W' − W = (g − 1) ⊙ W + g ⊙ s·B·A       with g = M/‖V‖
//
// ΔW depends on W: before it is formed, and before Init, [Adapter.Bind] has to give
// the factors their base.
type DoRA struct {
	A     Mat     // [n_in, rank]
	B     Mat     // [rank, n_out]
	M     Mat     // [n_out, 1], the magnitudes
	Alpha float32 // 0 = unscaled; else s is Alpha/rank

	weight  *boundWeight     // W; nil before Bind
	squares func() []float32 // of its rows, when they are first asked for
}

var doraKind = fileKind{
	method: MethodDoRA, name: "dora", alphaKey: "adapter.dora.alpha", needsBase: true,
	factors: []stored{{"dora_a", [2]string{"n_in", "rank"}}, {"dora_b", [2]string{"rank", "n_out"}}, {"dora_m", [2]string{"n_out", "1"}}},
	join:    func(m []Mat, alpha float32) Factors { return &DoRA{A: m[0], B: m[1], M: m[2], Alpha: alpha} },
}

func newDoRA(nIn, nOut, rank int, alpha float32) Factors {
	return &DoRA{A: NewMat(nIn, rank), B: NewMat(rank, nOut), M: NewMat(nOut, 1), Alpha: alpha}
}

// Method returns MethodDoRA.
func (d *DoRA) Method() Method { return MethodDoRA }

// Shape returns n_in, n_out of the weight.
func (d *DoRA) Shape() (int, int) { return d.A.NE[0], d.B.NE[1] }

// Rank returns the rank of B·A.
func (d *DoRA) Rank() int { return d.A.NE[1] }

// Scale returns s: Alpha/rank, or 1 for an Alpha of 0.
func (d *DoRA) Scale() float32 { return scaleOf(d.Alpha, d.Rank()) }

// Matrices lists dora_a, dora_b and dora_m.
func (d *DoRA) Matrices() []NamedFactor {
	return []NamedFactor{{Suffix: "dora_a", Mat: d.A}, {Suffix: "dora_b", Mat: d.B}, {Suffix: "dora_m", Mat: d.M, NoDecay: true}}
}

// Init draws A, leaves B zero and makes M the lengths of W's rows as they are computed
// for ‖V‖ too: g is 1 and ΔW is 0 to the last bit.
func (d *DoRA) Init(seed uint64, weight string) {
	kaiming(d.A, seed, weight+".dora_a")
	clear(d.B.Data)
	for i, sum := range d.BaseSquares() {
		d.M.Data[i] = rowLength(sum)
	}
}

// LengthFloor is the least square of a row's length: a row of zeros, which has none,
// must not make g a 0/0. It is far below the square of anything that a weight holds.
const LengthFloor = 1e-30

// rowLength returns the length of a row from Σ v².
func rowLength(squares float32) float32 {
	return float32(math.Sqrt(float64(max(squares, LengthFloor))))
}

// squaresOf returns Σ v² in float64, rounded at the end.
func squaresOf(row []float32) float32 {
	sum := 0.0
	for _, v := range row {
		sum += float64(v) * float64(v)
	}
	return float32(sum)
}

// BaseSquares returns Σ W² of each row, [n_out]. They are read from the base when they
// are first asked for, and the same slice from then on. It panics before Bind.
func (d *DoRA) BaseSquares() []float32 {
	if d.squares == nil {
		panic("adapter: internal error: a DoRA was asked for its base before Bind")
	}
	return d.squares()
}

func (d *DoRA) bind(w *boundWeight) {
	d.weight = w
	d.squares = sync.OnceValue(func() []float32 {
		nIn, nOut := d.Shape()
		sums := make([]float32, nOut)
		room := sync.Pool{New: func() any { return new(NewMat(nIn, tileRows)) }}
		tiles(nOut, func(row0, row1 int) {
			rows := room.Get().(*Mat)
			w.read(rows.Data[:(row1-row0)*nIn], row0, row1)
			for i := range row1 - row0 {
				sums[row0+i] = squaresOf(rows.Row(i))
			}
			room.Put(rows)
		})
		w.file.Forget()
		return sums
	})
}

func (d *DoRA) bound() bool { return d.weight != nil }

// DeltaRows forms s·B·A in dst and W beside it, a tile at a time, and joins them.
func (d *DoRA) DeltaRows(dst []float32, row0, row1 int) {
	nIn, _ := d.Shape()
	scratch := NewMat(nIn, min(tileRows, row1-row0))
	for row := row0; row < row1; row += tileRows {
		end := min(row+tileRows, row1)
		delta := Mat{NE: [2]int{nIn, end - row}, Data: dst[(row-row0)*nIn : (end-row0)*nIn]}
		w := Mat{NE: delta.NE, Data: scratch.Data[:len(delta.Data)]}
		blas32.Gemm(blas.NoTrans, blas.NoTrans, d.Scale(), d.B.rows(row, end), d.A.rows(0, d.Rank()), 0, delta.rows(0, end-row))
		d.weight.read(w.Data, row, end)
		for i := range end - row {
			turn(delta.Row(i), w.Row(i), d.M.Data[row+i])
		}
	}
}

// turn makes (g − 1) ⊙ w + g ⊙ delta of the row delta of s·B·A, for g = m/‖w + delta‖.
func turn(delta, w []float32, m float32) {
	sum := 0.0
	for i, v := range w {
		v := float64(v) + float64(delta[i])
		sum += v * v
	}
	g := float64(m / rowLength(float32(sum)))
	for i, v := range w {
		delta[i] = float32((g-1)*float64(v) + g*float64(delta[i]))
	}
}

func (d *DoRA) alpha() float32 { return d.Alpha }

func (d *DoRA) scaled(float32) (Factors, error) { return nil, errNoMultiple }

// directions returns V [n_in, n_out] and the length of each of its rows.
func (d *DoRA) directions(w Mat) (v, lengths []float64) {
	nIn, nOut := d.Shape()
	w.check("W", nIn, nOut)
	v, lengths = product(d.A, d.B), make([]float64, nOut)
	for i := range v {
		v[i] = float64(w.Data[i]) + float64(d.Scale())*v[i]
		lengths[i/nIn] += v[i] * v[i]
	}
	for o := range lengths {
		lengths[o] = math.Sqrt(max(lengths[o], LengthFloor))
	}
	return v, lengths
}

func (d *DoRA) reference(w Mat) []float64 {
	delta, lengths := d.directions(w)
	nIn, _ := d.Shape()
	for i, v := range delta {
		delta[i] = float64(d.M.Data[i/nIn])/lengths[i/nIn]*v - float64(w.Data[i])
	}
	return delta
}

// gradients, with G = dL/dΔW = dL/dW' and ‖V‖ as a constant, as section 4.3 of the
// paper has it and PEFT too:
//
//	dM = Σ_i G ⊙ V/‖V‖    dV = g ⊙ G
//	dA = s·Bᵀ·dV, dB = s·dV·Aᵀ
func (d *DoRA) gradients(g []float64, w Mat) []Mat {
	v, lengths := d.directions(w)
	nIn, nOut := d.Shape()
	dm := make([]float64, nOut)
	dv := make([]float64, len(g)) // times s
	for i, gi := range g {
		o := i / nIn
		dm[o] += gi * v[i] / lengths[o]
		dv[i] = float64(d.Scale()) * float64(d.M.Data[o]) / lengths[o] * gi
	}
	da, db := productGradients(dv, d.A, d.B)
	magnitudes := NewMat(nOut, 1)
	for o, x := range dm {
		magnitudes.Data[o] = float32(x)
	}
	return []Mat{da, db, magnitudes}
}
