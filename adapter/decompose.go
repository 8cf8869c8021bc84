package adapter

import (
	"context"
	"fmt"
	"math"
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
	// Seed starts the random directions in which big weights are searched.
	Seed uint64
	// Progress, if not nil, is called after each weight.
	Progress func(done, total int)
}

// Decomposition holds the leading singular components of the ΔW of every weight,
// ready to be cut to any ranks. It may be read by several goroutines at once.
type Decomposition struct {
	source *Adapter
	budget int
	parts  []part // one for each weight of source
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

// Decompose finds the singular components of every ΔW. It forms one ΔW at a
// time and keeps no more components than a projection within the budget can use,
// so that the memory is that of one weight and of a few times the result.
//
// It returns ctx's error when that is cancelled, and an error for a ΔW that is
// not finite, for a budget below rank 1 everywhere, and for Inputs that are
// missing, of the wrong length, negative or not finite. So it does for Outputs.
func Decompose(ctx context.Context, a *Adapter, o DecomposeOptions) (*Decomposition, error) {
	d := &Decomposition{source: a, budget: o.Budget}
	if d.budget == 0 {
		d.budget = 4 * a.Parameters()
	}
	least := d.MinBudget()
	if d.budget < least {
		return nil, fmt.Errorf("adapter: budget %d: rank 1 for each of the %d weights takes %d parameters", d.budget, len(a.Weights), least)
	}
	for i, w := range a.Weights {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p, err := d.decompose(w, o)
		if err != nil {
			return nil, err
		}
		d.parts = append(d.parts, p)
		d.trim()
		if o.Progress != nil {
			o.Progress(i+1, len(a.Weights))
		}
	}
	return d, nil
}

// MinBudget is the parameters of rank 1 everywhere.
func (d *Decomposition) MinBudget() int {
	sum := 0
	for _, w := range d.source.Weights {
		nIn, nOut := w.Shape()
		sum += nIn + nOut
	}
	return sum
}

func (d *Decomposition) decompose(w Weight, o DecomposeOptions) (part, error) {
	nIn, nOut := w.Shape()
	in, err := channels("input", o.Inputs, w.Name, nIn)
	if err != nil {
		return part{}, err
	}
	out, err := channels("output", o.Outputs, w.Name, nOut)
	if err != nil {
		return part{}, err
	}
	delta := NewMat(nIn, nOut)
	Delta(w, delta.Data)
	scaleColumns(delta, in)
	scaleRows(delta, out)
	whole := norm(delta.Data)
	if math.IsNaN(whole) || math.IsInf(whole, 0) {
		return part{}, fmt.Errorf("adapter: tensor %q: its ΔW is not finite", w.Name)
	}
	p := part{spectrum: spectrum{cost: nIn + nOut}, total: whole * whole, a: NewMat(nIn, 1), b: NewMat(1, nOut)}
	if whole == 0 {
		return p, nil
	}
	s, err := truncatedSVD(delta, d.maxRank(o, min(nIn, nOut)), o.Seed)
	if err != nil {
		return part{}, err
	}
	p.fill(s, in, out)
	return p, nil
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
	case o.MaxRank > 0:
		return min(o.MaxRank, small)
	case small <= directLimit:
		return small
	}
	return min(2*d.budget/d.MinBudget(), small)
}

// fill shares the singular values between both factors, and takes d out of A and g out of B.
func (p *part) fill(s svd, in, out []float32) {
	k := 1
	for k < len(s.sigma) && s.sigma[k] > roundingFloor*s.sigma[0] {
		k++
	}
	p.a, p.b = s.v.firstRows(k), s.u.firstColumns(k)
	p.energy = make([]float64, k)
	for j := range k {
		p.energy[j] = s.sigma[j] * s.sigma[j]
		root := float32(math.Sqrt(s.sigma[j]))
		for i, v := range p.a.Row(j) {
			if in != nil {
				v /= in[i]
			}
			p.a.Row(j)[i] = root * v
		}
		for i := range p.b.NE[1] {
			p.b.Row(i)[j] *= root
			if out != nil {
				p.b.Row(i)[j] /= out[i]
			}
		}
	}
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
	for _, w := range d.source.Weights {
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
