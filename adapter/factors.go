package adapter

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
)

// Factors are the trained matrices of one weight W [n_in, n_out]: [LoRA], [Dual] or
// [DoRA].
//
// The methods that only read may be called by several goroutines at once.
type Factors interface {
	// Method returns the method by whose formula ΔW is formed: MethodLoRA for an rsLoRA too, which
	// is a LoRA with another alpha.
	Method() Method
	// Shape returns the shape of the weight: n_in, n_out.
	Shape() (nIn, nOut int)
	// Rank returns the rank as the user gave it: r for LoRA, r1+r2 for Dual LoRA.
	// Equal ranks mean equally many parameters.
	Rank() int
	// Scale returns the s in ΔW, derived from alpha as llama.cpp does; alpha 0 is s = 1.
	Scale() float32
	// Matrices lists the factors in the order of their letters. The matrices share
	// their memory with the receiver: to write them is to change it.
	Matrices() []NamedFactor
	// Init starts the factors from seed so that ΔW = 0; factors that need their base
	// want Bind first. weight is the name of the base's tensor: each factor draws from
	// a stream of its own, so that neither the order nor the choice of weights changes
	// what one of them gets.
	Init(seed uint64, weight string)
	// DeltaRows writes rows row0 to row1-1 of ΔW into dst, (row1-row0)*n_in
	// long: a big ΔW can be formed a tile at a time. It panics for factors that
	// need their base before Bind.
	DeltaRows(dst []float32, row0, row1 int)

	// alpha returns the alpha of the file, from which Scale follows; 0 is none.
	alpha() float32
	// scaled returns the factors with ΔW times factor, in memory that both share.
	scaled(factor float32) (Factors, error)
	// reference returns ΔW [n_in, n_out] over the weight w, in plain Go and float64.
	reference(w Mat) []float64
	// gradients turns g = dL/d(ΔW) [n_in, n_out] into those of Matrices, in its order.
	gradients(g []float64, w Mat) []Mat
}

// NamedFactor is one factor with the suffix that it has in a file, such as "lora_a".
type NamedFactor struct {
	Suffix    string
	Mat       Mat
	Magnitude bool // one of the two that the magnitude of a Dual LoRA's ΔW is made of
	Warms     bool // ΔW grows in proportion to it: a warm-up of ΔW is one of this factor
	NoDecay   bool // the weight is unchanged at a value other than 0: a weight decay must not draw it to 0
}

// New returns zero factors of a method for a weight [n_in, n_out]; call Init
// before training. It returns an error for a method that there is not, and for a rank
// below [Method.MinRank].
func New(m Method, nIn, nOut, rank int, alpha float32) (Factors, error) {
	row, err := m.row()
	if err != nil {
		return nil, err
	}
	if rank < row.minRank {
		return nil, fmt.Errorf("adapter: rank %d: %s needs at least %d", rank, m, row.minRank)
	}
	return row.create(nIn, nOut, rank, alpha), nil
}

// Parameters returns the number of trainable parameters of f.
func Parameters(f Factors) int {
	n := 0
	for _, m := range f.Matrices() {
		n += len(m.Mat.Data)
	}
	return n
}

// tileRows is the height of the tiles in which a ΔW is formed: enough for the
// matrix product to be efficient, few enough for the scratch to stay in a cache.
const tileRows = 64

// Delta writes the dense ΔW [n_in, n_out] into dst, n_in*n_out long, with every
// core busy. Each row is computed alike however the work is divided.
func Delta(f Factors, dst []float32) { form(f, dst) }

func form(c change, dst []float32) {
	nIn, nOut := c.Shape()
	Mat{NE: [2]int{nIn, nOut}, Data: dst}.check("ΔW", nIn, nOut)
	tiles(nOut, func(row0, row1 int) {
		c.DeltaRows(dst[row0*nIn:row1*nIn], row0, row1)
	})
}

// tiles calls do for every tile of n rows, from as many goroutines as can run.
func tiles(n int, do func(row0, row1 int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (n+tileRows-1)/tileRows) {
		wg.Go(func() {
			for row0 := range next {
				do(row0, min(row0+tileRows, n))
			}
		})
	}
	for row0 := 0; row0 < n; row0 += tileRows {
		next <- row0
	}
	close(next)
	wg.Wait()
}

// scaleOf returns llama.cpp's rule: alpha over the rank, and 1 if there is no alpha.
func scaleOf(alpha float32, rank int) float32 {
	if alpha == 0 {
		return 1
	}
	return alpha / float32(rank)
}

// kaiming fills m as PEFT starts lora_A: Kaiming uniform with a = √5, whose
// bound √(6/((1+a²)·fan_in)) is 1/√fan_in, the fan-in being the row length.
// The stream is that of (seed, name).
func kaiming(m Mat, seed uint64, name string) {
	rng := stream(seed, name)
	bound := 1 / math.Sqrt(float64(m.NE[0]))
	for i := range m.Data {
		u := float64(rng.Uint64()>>11) / (1 << 53) // [0, 1)
		m.Data[i] = float32((2*u - 1) * bound)
	}
}

// normalNumbers fills m from a normal distribution around 0. The stream is that of (seed, name).
func normalNumbers(m Mat, seed uint64, name string, deviation float64) {
	rng := rand.New(stream(seed, name))
	for i := range m.Data {
		m.Data[i] = float32(deviation * rng.NormFloat64())
	}
}

func stream(seed uint64, name string) *rand.PCG {
	key := sha256.Sum256(append(binary.LittleEndian.AppendUint64(nil, seed), name...))
	return rand.NewPCG(binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:]))
}
