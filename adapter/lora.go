package adapter

import (
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// LoRA is the plain low-rank change ΔW = s·B·A with s = Alpha/rank
// (arXiv 2106.09685), in the layout of PEFT and of a GGUF LoRA.
type LoRA struct {
	A     Mat     // [n_in, rank]
	B     Mat     // [rank, n_out]
	Alpha float32 // 0 = unscaled, as in llama.cpp; else s is Alpha/rank
}

var loraKind = fileKind{
	method: MethodLoRA, name: KindLoRA, alphaKey: KeyAlpha,
	factors: []stored{{"lora_a", [2]string{"n_in", "rank"}}, {"lora_b", [2]string{"rank", "n_out"}}},
	join:    func(m []Mat, alpha float32) Factors { return &LoRA{A: m[0], B: m[1], Alpha: alpha} },
}

func newLoRA(nIn, nOut, rank int, alpha float32) Factors {
	return &LoRA{A: NewMat(nIn, rank), B: NewMat(rank, nOut), Alpha: alpha}
}

// newRSLoRA returns a rank-stabilized LoRA (arXiv 2312.03732): one whose alpha is so
// much larger that alpha/rank is what the user's alpha over √rank is. So a file of it
// has the same effect for every reader of a GGUF LoRA.
func newRSLoRA(nIn, nOut, rank int, alpha float32) Factors {
	return newLoRA(nIn, nOut, rank, float32(float64(alpha)*math.Sqrt(float64(rank))))
}

// Method returns MethodLoRA.
func (l *LoRA) Method() Method { return MethodLoRA }

// Shape returns n_in, n_out of the weight.
func (l *LoRA) Shape() (int, int) { return l.A.NE[0], l.B.NE[1] }

// Rank returns r.
func (l *LoRA) Rank() int { return l.A.NE[1] }

// Scale returns s: Alpha/r, or 1 for an Alpha of 0.
func (l *LoRA) Scale() float32 { return scaleOf(l.Alpha, l.Rank()) }

// Matrices lists lora_a and lora_b.
func (l *LoRA) Matrices() []NamedFactor {
	return []NamedFactor{{Suffix: "lora_a", Mat: l.A}, {Suffix: "lora_b", Mat: l.B}}
}

// Init draws A and leaves B zero, so that ΔW = 0.
func (l *LoRA) Init(seed uint64, weight string) {
	kaiming(l.A, seed, weight+".lora_a")
	clear(l.B.Data)
}

// DeltaRows writes s·B·A for the rows row0 to row1-1 of B.
func (l *LoRA) DeltaRows(dst []float32, row0, row1 int) {
	nIn, _ := l.Shape()
	out := Mat{NE: [2]int{nIn, row1 - row0}, Data: dst}.rows(0, row1-row0)
	blas32.Gemm(blas.NoTrans, blas.NoTrans, l.Scale(), l.B.rows(row0, row1), l.A.rows(0, l.Rank()), 0, out)
}

func (l *LoRA) alpha() float32 { return l.Alpha }

func (l *LoRA) scaled(factor float32) (Factors, error) {
	alpha, err := alphaFor(l.Alpha, l.Rank(), factor)
	return &LoRA{A: l.A, B: l.B, Alpha: alpha}, err
}

func (l *LoRA) reference(Mat) []float64 {
	delta := product(l.A, l.B)
	for i := range delta {
		delta[i] *= float64(l.Scale())
	}
	return delta
}

// gradients: dM = s·G, then dA = Bᵀ·dM and dB = dM·Aᵀ.
func (l *LoRA) gradients(g []float64, _ Mat) []Mat {
	dm := make([]float64, len(g))
	for i := range g {
		dm[i] = float64(l.Scale()) * g[i]
	}
	da, db := productGradients(dm, l.A, l.B)
	return []Mat{da, db}
}
