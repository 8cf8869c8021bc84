package merge

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/quant"
)

// Sizes of what is worked on at a time: enough to keep all cores busy, little beside
// the 200 MiB that a merge may take.
const (
	tileElements = 1 << 20 // of a weight, 4 MiB in F32; one row if that is longer
	copyBytes    = 8 << 20 // of a tensor that is only copied
)

// room is the memory of a tile, used again for the next.
type room struct {
	weights []float32 // W, then W + ΔW
	delta   []float32 // ΔW, the sum over the adapters
	scratch []float32 // ΔW of one adapter, then what the encoded tile holds
}

// copy writes a tensor as it is.
func (m *merger) copy(w io.Writer, t gguf.Tensor) error {
	data, err := m.base.Data(t.Name)
	if err != nil {
		return err
	}
	for piece := range slices.Chunk(data, copyBytes) {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		m.base.Forget()
	}
	return nil
}

// merge writes an adapted tensor, tile by tile, and notes what became of it.
func (m *merger) merge(w io.Writer, c *change) error {
	data, err := m.base.Data(c.Name)
	if err != nil {
		return err
	}
	terms, err := m.terms(c)
	if err != nil {
		return err
	}
	nIn, nOut := int(c.Shape[0]), int(c.Shape[1])
	var f figures
	for row0, rows := 0, max(1, tileElements/nIn); row0 < nOut; row0 += rows {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		row1 := min(row0+rows, nOut)
		tile, err := m.tile(c, terms, data[row0*len(data)/nOut:row1*len(data)/nOut], row0, row1, &f)
		if err != nil {
			return fmt.Errorf("rows %d to %d: %w", row0, row1-1, err)
		}
		if _, err := w.Write(tile); err != nil {
			return err
		}
		m.base.Forget()
	}
	t := f.report(c)
	t.TypeError, err = m.typeError(c.to)
	m.tensors = append(m.tensors, t)
	return err
}

// term is scale·ΔW, with its factors in memory. A ΔW that depends on W reads it from the
// base, whatever other adapters add.
type term struct {
	adapter.Factors
	scale float32
}

func (m *merger) terms(c *change) (all []term, err error) {
	for _, d := range c.deltas {
		w, err := d.file.Weight(c.Name)
		if err == nil {
			err = w.Bind(m.base.File, quant.Decode)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, term{w, d.scale})
	}
	return all, nil
}

// tile encodes W + ΔW for the rows row0 to row1-1, whose bytes in the base are src.
func (m *merger) tile(c *change, terms []term, src []byte, row0, row1 int, f *figures) ([]byte, error) {
	nIn := int(c.Shape[0])
	r := m.room.of((row1 - row0) * nIn)
	if err := quant.Decode(c.Type, src, r.weights); err != nil {
		return nil, err
	}
	clear(r.delta)
	for _, t := range terms {
		t.DeltaRows(r.scratch, row0, row1)
		for i, v := range r.scratch {
			r.delta[i] += t.scale * v
		}
	}
	for i, v := range r.delta {
		r.weights[i] += v
	}
	data, err := quant.Encode(c.to, r.weights, nIn, c.importance)
	if err != nil {
		return nil, err
	}
	if c.to == c.Type {
		keepRows(data, src, r.delta, nIn)
	}
	if err := quant.Decode(c.to, data, r.scratch); err != nil {
		return nil, err
	}
	return data, f.add(c.to, r)
}

// of returns room for n elements, and keeps it for the next tile.
func (r *room) of(n int) room {
	if len(r.weights) < n {
		*r = room{make([]float32, n), make([]float32, n), make([]float32, n)}
	}
	return room{r.weights[:n], r.delta[:n], r.scratch[:n]}
}

// keepRows puts the base's bytes back where ΔW is zero: to encode decoded weights
// again does not always give the same ones.
func keepRows(data, src []byte, delta []float32, nIn int) {
	rows := len(delta) / nIn
	bytes := len(data) / rows
	for i := range rows {
		if !slices.ContainsFunc(delta[i*nIn:(i+1)*nIn], func(v float32) bool { return v != 0 }) {
			copy(data[i*bytes:(i+1)*bytes], src[i*bytes:])
		}
	}
}

// figures are sums over a tensor, of which its report is made.
type figures struct {
	base   float64 // ‖W‖²
	meant  float64 // ‖W'‖²
	change float64 // ‖ΔW‖²
	lost   float64 // ‖Q(W') − W'‖²
	along  float64 // ⟨Q(W') − W, ΔW⟩
}

// add takes a tile in: W' is in r.weights, Q(W') in r.scratch. A number that became
// infinite is an error: the type cannot hold it.
func (f *figures) add(t gguf.Type, r room) error {
	for i, got := range r.scratch {
		q, meant, delta := float64(got), float64(r.weights[i]), float64(r.delta[i])
		if math.IsInf(q, 0) || math.IsNaN(q) {
			return fmt.Errorf("element %d is %v, which type %s cannot hold", i, r.weights[i], t)
		}
		w := meant - delta
		f.base += w * w
		f.meant += meant * meant
		f.change += delta * delta
		f.lost += (q - meant) * (q - meant)
		f.along += (q - w) * delta
	}
	return nil
}

func (f *figures) report(c *change) Tensor {
	t := Tensor{Name: c.Name, BaseType: c.Type.String(), Type: c.to.String(), Weighted: c.importance != nil && c.to.BlockSize() > 1,
		Change: ratio(f.change, f.base), Error: ratio(f.lost, f.meant), Kept: 1}
	if f.change > 0 {
		t.Lost, t.Kept = ratio(f.lost, f.change), f.along/f.change
	}
	return t
}

// ratio returns √(a/b), and 0 if there is nothing to compare with.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return math.Sqrt(a / b)
}

// typeError returns the relative error of normally distributed numbers in type t, in
// rows of a block of 256 with all columns alike.
func (m *merger) typeError(t gguf.Type) (float64, error) {
	if known, ok := m.typeErrors[t]; ok {
		return known, nil
	}
	const rows, columns = 64, 256
	rng := rand.New(rand.NewPCG(1, 1))
	normal := make([]float32, rows*columns)
	for i := range normal {
		normal[i] = float32(rng.NormFloat64())
	}
	var alike []float32
	if quant.NeedsImportance(t) {
		alike = slices.Repeat([]float32{1}, columns)
	}
	a, err := quant.RoundTrip(t, normal, columns, alike)
	m.typeErrors[t] = a.Relative
	return a.Relative, err
}
