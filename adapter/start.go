package adapter

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"finetune/gguf"
)

// Start names how the factors of a Dual LoRA are shaped and begin. Other methods have
// one way to start, which has no name.
type Start string

// The starts of a Dual LoRA.
const (
	// StartEven gives either group half of the ranks, draws A, C and D as PEFT draws A, and leaves B zero: ΔW = 0.
	StartEven Start = "even"
	// StartThin gives the magnitude one rank and the directions the others. M is the same everywhere, so large that
	// |ΔW| is the share ρ of what W's entries are, see [Recipe.Rho]; C is drawn, D is zero. ΔW is not 0: a warm-up of
	// it is a part of this start.
	StartThin Start = "thin"
	// StartGradient is StartThin with the rows of C along the directions in which the first gradients are largest, which
	// the caller finds, see [Dual.SetDirections].
	StartGradient Start = "gradient"
	// StartPaper is the paper's own: either group has half of the ranks, s is alpha/√(r1·r2), all four factors are drawn
	// from a normal distribution, and no gradient goes straight through the sign where |N| is above 1. ΔW is not 0: a
	// warm-up of it is a part of this start.
	StartPaper Start = "paper"
)

// Starts lists the starts of a method; none for a method that has one way only.
func (m Method) Starts() []Start {
	if m == MethodDual {
		return []Start{StartEven, StartThin, StartGradient, StartPaper}
	}
	return nil
}

// Thin reports whether ΔW begins at a constant magnitude.
func (s Start) Thin() bool { return s == StartThin || s == StartGradient }

// Recipe says what factors an adapter has and how they start.
type Recipe struct {
	Method        Method
	Rank          int     // budget of each weight
	Alpha         float32 // 0 is a scale of 1
	Start         Start   // "" is StartEven, and for other methods the only way there is
	MagnitudeRank int     // of a Dual LoRA, r1; 0 is what the start gives
	Rho           float64 // of StartThin and StartGradient: |ΔW| as a share of rms(W); 0 is by [AutoRho]
	MagnitudeRate float64 // of a Dual LoRA: learning rate of A and B as a share of that of C and D; 0 is the start's own
}

// check reports a start or a magnitude rank that the method does not have.
func (r Recipe) check() error {
	starts := r.Method.Starts()
	if r.Start != "" && !slices.Contains(starts, r.Start) {
		if len(starts) == 0 {
			return fmt.Errorf("adapter: start %q: %s has one way to start", r.Start, r.Method)
		}
		var names []string
		for _, s := range starts {
			names = append(names, string(s))
		}
		return fmt.Errorf("adapter: start %q: want %s", r.Start, strings.Join(names, ", "))
	}
	switch {
	case r.MagnitudeRank == 0:
	case r.Method != MethodDual:
		return fmt.Errorf("adapter: magnitude rank %d: %s has no magnitude group", r.MagnitudeRank, r.Method)
	case r.MagnitudeRank < 0 || r.MagnitudeRank >= r.Rank:
		return fmt.Errorf("adapter: magnitude rank %d: want 1 to %d, so that the directions keep a rank of %d", r.MagnitudeRank, r.Rank-1, r.Rank)
	}
	return nil
}

// MagnitudeRanks returns r1 of a Dual LoRA that r builds.
func (r Recipe) MagnitudeRanks() int {
	switch {
	case r.MagnitudeRank > 0:
		return r.MagnitudeRank
	case r.Start.Thin():
		return 1
	}
	return (r.Rank + 1) / 2 // the odd one goes to the magnitude
}

// Build returns an adapter with zero factors for the tensors, as [Build] does.
func (r Recipe) Build(tensors []gguf.Tensor) (*Adapter, error) {
	if err := CheckRank(r.Method, r.Rank, tensors); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	a := &Adapter{Meta: map[string]gguf.Value{KeyMethod: string(r.Method)}}
	for _, t := range tensors {
		f, err := r.factors(int(t.Shape[0]), int(t.Shape[1]))
		if err != nil {
			return nil, err
		}
		a.Weights = append(a.Weights, Weight{t.Name, f})
	}
	a.sort()
	return a, nil
}

func (r Recipe) factors(nIn, nOut int) (Factors, error) {
	if r.Method == MethodDual {
		d := newDualOf(nIn, nOut, r.MagnitudeRanks(), r.Rank, r.Alpha)
		if r.Start == StartPaper {
			d.followPaper()
		}
		return d, nil
	}
	return New(r.Method, nIn, nOut, r.Rank, r.Alpha)
}

// Init starts the factors of an adapter that r has built, from a seed. A thin start reads rows of the weights from f, the
// base.
func (r Recipe) Init(a *Adapter, seed uint64, f *gguf.File, decode Decoder) error {
	a.Init(seed)
	if r.Start == StartPaper {
		for _, w := range a.Weights {
			w.Factors.(*Dual).startPaper(seed, w.Name)
		}
	}
	if !r.Start.Thin() {
		return nil
	}
	rho := r.Rho
	if rho == 0 {
		rho = AutoRho(len(a.Weights))
	}
	for _, w := range a.Weights {
		size, err := w.rms(f, decode)
		if err != nil {
			return err
		}
		w.Factors.(*Dual).startThin(rho * size)
	}
	f.Forget()
	return nil
}

// The rule of AutoRho, found on two bases (docs/learning.md): 0.05 was best on 42 matrices, 0.01 on 126 and 210. What starts
// too large harms the base, since the magnitude moves little; what starts too small learns little.
const (
	rhoAll = 2.1  // over the number of matrices
	maxRho = 0.05 // however few they are
)

// AutoRho returns ρ, what |ΔW| begins with as a share of rms(W), for an adapter on so many matrices.
func AutoRho(matrices int) float64 {
	return math.Min(maxRho, rhoAll/float64(max(1, matrices)))
}

// sampledRows is how many rows of a weight its size is estimated by.
const sampledRows = 256

// rms returns the root mean square of W's entries, over at most sampledRows rows that lie evenly.
func (w Weight) rms(f *gguf.File, decode Decoder) (float64, error) {
	bound, err := w.in(f, decode)
	if err != nil {
		return 0, err
	}
	nIn, nOut := w.Shape()
	row, step, sum, rows := make([]float32, nIn), max(1, nOut/sampledRows), 0.0, 0
	for o := 0; o < nOut; o += step {
		if err := bound.try(row, o, o+1); err != nil {
			return 0, fmt.Errorf("adapter: tensor %q: %w", w.Name, err)
		}
		for _, v := range row {
			sum += float64(v) * float64(v)
		}
		rows++
	}
	return math.Sqrt(sum / float64(rows*nIn)), nil
}

// thinA is what every entry of A begins with. A and B share a magnitude of M between them; a small A lets B, whose gradient
// it scales, move slowly at first.
const thinA = 0.02

// startThin makes every entry of |ΔW| size, once the directions are anything but zero: A and B constant, D zero.
func (d *Dual) startThin(size float64) {
	b := size / (math.Abs(float64(d.Scale())) * thinA * float64(d.A.NE[1]))
	for i := range d.A.Data {
		d.A.Data[i] = thinA
	}
	for i := range d.B.Data {
		d.B.Data[i] = float32(b)
	}
	clear(d.D.Data)
}

// The paper's own settings. It does not say how wide its normal distribution is; 0.02 is what transformers start with.
const (
	paperDeviation = 0.02
	paperLimit     = 1
)

// followPaper makes s alpha/√(r1·r2) where it was alpha/r1, which is what readers of a file divide its alpha to, and limits the
// estimator.
func (d *Dual) followPaper() {
	d.Alpha *= float32(math.Sqrt(float64(d.A.NE[1]) / float64(d.C.NE[1])))
	d.Limit = paperLimit
}

// startPaper draws all factors.
func (d *Dual) startPaper(seed uint64, weight string) {
	for _, m := range d.Matrices() {
		normalNumbers(m.Mat, seed, weight+"."+m.Suffix, paperDeviation)
	}
}

// SetDirections makes C's rows those of basis, [n_in, k] with k >= r2 orthonormal rows, the most important first, each of
// the length that a drawn row has.
func (d *Dual) SetDirections(basis Mat) {
	length := float32(math.Sqrt(1. / 3)) // of a row of uniform numbers within ±1/√n_in
	for k := range d.C.NE[1] {
		row := d.C.Row(k)
		for i, v := range basis.Row(k) {
			row[i] = length * v
		}
	}
}

// thinMagnitudeRate is the learning rate of A and B after a thin start, as a share of that of C and D: at the same rate
// |ΔW| grows to some per cent of |W|, and the model forgets.
const thinMagnitudeRate = 0.3

// RateOf returns what the learning rate of a factor, by its suffix, is multiplied by.
func (r Recipe) RateOf(suffix string) float64 {
	switch {
	case suffix != "dual_a" && suffix != "dual_b":
		return 1
	case r.MagnitudeRate != 0:
		return r.MagnitudeRate
	case r.Start.Thin():
		return thinMagnitudeRate
	}
	return 1
}

// RowSpace returns an orthonormal basis of the rows of m [n, k], the directions of the largest singular values first, as
// rows [n, k]; a direction in which m has nothing is some unit vector.
func RowSpace(m Mat) (Mat, error) {
	s, err := directSVD(m, min(m.NE[0], m.NE[1]))
	return s.v, err
}
