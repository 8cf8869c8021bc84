package adapter

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
)

// DecomposeOptions say what [Decompose] has to keep.
type DecomposeOptions struct {
	// Budget is the parameters of the largest projection that will be asked for;
	// 0 is four times those of the adapter.
	Budget int
	// MaxRank bounds the rank of each weight; 0 is twice the rank that Budget
	// buys for all alike, and no bound for weights small enough to decompose whole.
	MaxRank int
	// Inputs and Outputs hold, by the weight's name, the root mean squares over the
	// training data of x, its n_in input channels, and of dL/dy, the derivatives of
	// the loss by its n_out outputs. With them the projection keeps what matters to
	// the loss, diag(g)·(ΔW − B·A)·diag(d), and ranks are worth the same in all
	// weights: the squares are the diagonal of the Kronecker-factored curvature
	// (K-FAC, arXiv 1503.05671). Nil treats all channels alike; otherwise every weight
	// has to be there.
	Inputs, Outputs map[string][]float32
	// Energy, if above 0, asks for as few components of each weight as carry that
	// share of ‖diag(g)·ΔW·diag(d)‖², 1 at most, instead of for a Budget;
	// [Decomposition.Whole] then are their ranks.
	Energy float64
	// Seed starts the random directions in which big weights are searched.
	Seed uint64
	// Progress, if not nil, is called after each weight.
	Progress func(done, total int)
}

// Decomposition holds the leading singular components of the ΔW of every weight,
// ready to be cut to any ranks. It may be read by several goroutines at once.
type Decomposition struct {
	source  *Adapter // whose identity a projection gets
	weights []named  // what is decomposed
	budget  int
	parts   []part // one for each weight
}

// named is the change of one weight.
type named struct {
	name string
	change
}

// changes returns the changes of the adapter's weights.
func (a *Adapter) changes() []named {
	var all []named
	for _, w := range a.Weights {
		all = append(all, named{w.Name, w.Factors})
	}
	return all
}

// part is one weight: ΔW ≈ B·A, row k of A and column k of B being the k-th
// component, its singular value shared evenly between the two.
type part struct {
	spectrum
	total float64 // the energy of the whole, ‖diag(g)·ΔW·diag(d)‖²
	a     Mat     // [n_in, k]
	b     Mat     // [k, n_out]
}

// channelFloor is the smallest d or g as a share of their root mean square. A channel
// that was never active on the training data must not be divided by zero, nor
// make its factor too large for F16.
const channelFloor = 1e-3

// roundingFloor is the singular value, as a share of the largest, below which
// there is only the rounding of a float32 ΔW.
const roundingFloor = 1e-6

// cancelled is ‖ΔW‖ of a LoRA as a share of s·‖A‖·‖B‖ below which its components
// cancel one another out, as those of an adapter and its opposite do, and what is
// left is rounding.
const cancelled = 1e-12

// Decompose finds the singular components of every ΔW. It forms one ΔW at a
// time, or of small ones one a core, and none of a LoRA, whose factors say it all. It keeps no more components
// than a projection within the budget can use, so that the memory is that of one
// weight and of a few times the result.
//
// It returns ctx's error when that is cancelled, and an error for a ΔW that is
// not finite, for a budget below rank 1 everywhere, for Inputs that are missing, of
// the wrong length, negative or not finite, and [ErrNeedsBase]. So it does for Outputs.
func Decompose(ctx context.Context, a *Adapter, o DecomposeOptions) (*Decomposition, error) {
	if o.Budget == 0 {
		o.Budget = 4 * a.Parameters()
	}
	return decompose(ctx, a, a.changes(), o)
}

func decompose(ctx context.Context, source *Adapter, weights []named, o DecomposeOptions) (*Decomposition, error) {
	d := &Decomposition{source: source, weights: weights, budget: o.Budget}
	if least := d.MinBudget(); d.budget < least && o.Energy == 0 {
		return nil, fmt.Errorf("adapter: budget %d: rank 1 for each of the %d weights takes %d parameters", d.budget, len(weights), least)
	}
	for rest := weights; len(rest) > 0; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := atOnce(rest)
		parts, err := d.decomposeAll(rest[:n], o)
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
		for _, p := range parts {
			d.parts = append(d.parts, p)
			if o.Energy == 0 {
				d.trim()
			}
			if o.Progress != nil {
				o.Progress(len(d.parts), len(weights))
			}
		}
	}
	return d, nil
}

// mostAtOnce bounds the numbers of the ΔW that are formed side by side: 64 MiB of them.
const mostAtOnce = 16 << 20

// atOnce returns how many of the weights, from the first, are decomposed side by side.
func atOnce(weights []named) int {
	numbers := 0
	for i, w := range weights {
		nIn, nOut := w.Shape()
		if numbers += nIn * nOut; i > 0 && (numbers > mostAtOnce || i == runtime.GOMAXPROCS(0)) {
			return i
		}
	}
	return len(weights)
}

// decomposeAll decomposes weights side by side. The error is that of the first that has one.
func (d *Decomposition) decomposeAll(weights []named, o DecomposeOptions) ([]part, error) {
	parts, errs := make([]part, len(weights)), make([]error, len(weights))
	var wg sync.WaitGroup
	for i, w := range weights {
		wg.Go(func() { parts[i], errs[i] = d.decompose(w, o) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// MinBudget returns the number of parameters of rank 1 everywhere.
func (d *Decomposition) MinBudget() int {
	sum := 0
	for _, w := range d.weights {
		nIn, nOut := w.Shape()
		sum += nIn + nOut
	}
	return sum
}

func (d *Decomposition) decompose(w named, o DecomposeOptions) (part, error) {
	if err := checkBound(w.name, w.change); err != nil {
		return part{}, err
	}
	nIn, nOut := w.Shape()
	in, err := channels("input", o.Inputs, w.name, nIn)
	if err != nil {
		return part{}, err
	}
	out, err := channels("output", o.Outputs, w.name, nOut)
	if err != nil {
		return part{}, err
	}
	most := d.maxRank(o, min(nIn, nOut))
	s, total, err := w.components(in, out, most, o)
	if err != nil {
		return part{}, err
	}
	p := part{spectrum: spectrum{cost: nIn + nOut}, total: total, a: NewMat(nIn, 1), b: NewMat(1, nOut)}
	if total == 0 {
		return p, nil
	}
	s.sigma = s.sigma[:min(len(s.sigma), most)]
	if o.Energy > 0 {
		s.sigma = s.sigma[:enough(s.sigma, o.Energy*total)]
	}
	p.fill(s, in, out)
	return p, nil
}

// components finds the largest singular components of diag(out)·ΔW·diag(in), and the energy of all of them.
func (w named) components(in, out []float32, most int, o DecomposeOptions) (s svd, total float64, err error) {
	if l, ok := w.change.(*LoRA); ok && l.Rank() <= coreLimit {
		if !l.finite() {
			return svd{}, 0, w.notFinite()
		}
		l = l.weighted(in, out)
		if s, err = l.svd(); err != nil {
			return svd{}, 0, err
		}
		total = sumOfSquares(s.sigma)
		if math.Sqrt(total) <= cancelled*math.Abs(float64(l.Scale()))*norm(l.A.Data)*norm(l.B.Data) {
			return svd{}, 0, nil
		}
		if !(total <= math.MaxFloat32*math.MaxFloat32) {
			return svd{}, 0, w.notFinite()
		}
		return s, total, nil
	}
	nIn, nOut := w.Shape()
	delta := NewMat(nIn, nOut)
	form(w.change, delta.Data)
	scaleColumns(delta, in)
	scaleRows(delta, out)
	whole := norm(delta.Data)
	if !(whole <= math.MaxFloat32) {
		return svd{}, 0, w.notFinite()
	}
	if whole == 0 {
		return svd{}, 0, nil
	}
	s, err = search(delta, most, o.Energy*whole*whole, o.Seed)
	return s, whole * whole, err
}

func (w named) notFinite() error {
	return fmt.Errorf("adapter: tensor %q: its ΔW is not finite", w.name)
}

// search finds most components, or if an energy is wanted as many as carry it, more and more of them.
func search(delta Mat, most int, wanted float64, seed uint64) (svd, error) {
	if wanted == 0 {
		return truncatedSVD(delta, most, seed)
	}
	small := min(delta.NE[0], delta.NE[1])
	k := 64
	if small <= directLimit {
		k = small
	}
	for ; ; k *= 2 {
		s, err := truncatedSVD(delta, k, seed)
		if err != nil || len(s.sigma) == small || sumOfSquares(s.sigma) >= wanted {
			return s, err
		}
	}
}

// enough returns how many of the falling singular values carry an energy, and all if they do not.
func enough(sigma []float64, wanted float64) int {
	sum := 0.0
	for k, v := range sigma {
		if sum += v * v; sum >= wanted {
			return k + 1
		}
	}
	return len(sigma)
}

func sumOfSquares(vs []float64) float64 {
	sum := 0.0
	for _, v := range vs {
		sum += v * v
	}
	return sum
}

// channels returns d or g for one weight of n channels, none of it below the floor, or nil. side says which in errors.
func channels(side string, all map[string][]float32, name string, n int) ([]float32, error) {
	if all == nil {
		return nil, nil
	}
	rms := all[name]
	if len(rms) != n {
		return nil, fmt.Errorf("adapter: tensor %q: %ss of %d channels, want %d", name, side, len(rms), n)
	}
	for i, v := range rms {
		if v < 0 || !finite(v) {
			return nil, fmt.Errorf("adapter: tensor %q: %s channel %d has root mean square %v", name, side, i, v)
		}
	}
	floor := float32(channelFloor * norm(rms) / math.Sqrt(float64(n)))
	if floor == 0 {
		return nil, nil // no channel was ever active: all alike
	}
	d := make([]float32, n)
	for i, v := range rms {
		d[i] = max(v, floor)
	}
	return d, nil
}

func (d *Decomposition) maxRank(o DecomposeOptions, small int) int {
	switch {
	case o.Energy > 0:
		return small
	case o.MaxRank > 0:
		return min(o.MaxRank, small)
	case small <= directLimit:
		return small
	}
	return min(2*d.budget/d.MinBudget(), small)
}

// fill takes d out of A and g out of B, and shares the singular values between both factors so that row k of A and column k
// of B are equally long: whoever trains them on, with one learning rate, moves both alike, and both fit a type as well.
func (p *part) fill(s svd, in, out []float32) {
	k := 1
	for k < len(s.sigma) && s.sigma[k] > roundingFloor*s.sigma[0] {
		k++
	}
	p.a, p.b = s.v.firstRows(k), s.u.firstColumns(k)
	p.energy = make([]float64, k)
	for j := range k {
		p.energy[j] = s.sigma[j] * s.sigma[j]
		var a2, b2 float64 // squares of the lengths without d and g
		for i, v := range p.a.Row(j) {
			v = unweighted(v, in, i)
			p.a.Row(j)[i] = v
			a2 += float64(v) * float64(v)
		}
		for i := range p.b.NE[1] {
			v := unweighted(p.b.Row(i)[j], out, i)
			p.b.Row(i)[j] = v
			b2 += float64(v) * float64(v)
		}
		whole := s.sigma[j] * math.Sqrt(a2*b2) // the length of the component itself
		for i := range p.a.Row(j) {
			p.a.Row(j)[i] *= float32(math.Sqrt(whole / a2))
		}
		for i := range p.b.NE[1] {
			p.b.Row(i)[j] *= float32(math.Sqrt(whole / b2))
		}
	}
}

// unweighted takes the weight of channel i out of v; nil is ones.
func unweighted(v float32, weights []float32, i int) float32 {
	if weights == nil {
		return v
	}
	return v / weights[i]
}

// trim drops the components that no allocation within the budget can reach. More
// weights only make the competition harder, so what the greedy choice among the
// weights so far does not take, the one among all will not either, but for the
// few that fill the rest of the budget after the first that did not fit.
func (d *Decomposition) trim() {
	even, largest := d.budget/d.MinBudget(), 0
	spectra := make([]spectrum, len(d.parts))
	rest := d.budget - d.MinBudget() // the first components of the weights to come are spent
	for i, p := range d.parts {
		spectra[i] = p.spectrum
		rest += p.cost
	}
	for _, w := range d.weights {
		nIn, nOut := w.Shape()
		largest = max(largest, nIn+nOut)
	}
	ranks, err := allocate(spectra, rest)
	if err != nil {
		panic("adapter: internal error: " + err.Error())
	}
	for i := range d.parts {
		p := &d.parts[i]
		keep := max(even, ranks[i]+largest/p.cost+1)
		if keep < p.a.NE[1] {
			p.a, p.b, p.energy = p.a.firstRows(keep), p.b.firstColumns(keep), p.energy[:keep:keep]
		}
	}
}

// scaleColumns multiplies column i by d[i]; nil is ones.
func scaleColumns(m Mat, d []float32) {
	if d == nil {
		return
	}
	for j := range m.NE[1] {
		row := m.Row(j)
		for i := range row {
			row[i] *= d[i]
		}
	}
}

// scaleRows multiplies row j by g[j]; nil is ones.
func scaleRows(m Mat, g []float32) {
	if g == nil {
		return
	}
	for j := range m.NE[1] {
		row := m.Row(j)
		for i := range row {
			row[i] *= g[j]
		}
	}
}
