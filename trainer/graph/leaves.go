package graph

import (
	"fmt"

	"finetune/adapter"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// param is one trainable tensor: where the caller keeps it, where the graph reads it, where its gradient is summed.
type param struct {
	name   string
	weight string // of the base that it belongs to
	ne     []int64
	warms  bool            // a warm-up of the change is one of this factor
	data   []float32       // the caller's
	leaf   ggml.Tensor     // F32 [ne]
	total  ggml.Tensor     // F32 [ne], the gradient, summed over the calls of Step since Reset
	at     place           // of both
	sum    mirror[float32] // of total
}

// constant is a vector that an adapted product reads beside its factors and that nothing changes.
type constant struct {
	weight string      // that it belongs to
	data   []float32   // the caller's, [n]
	leaf   ggml.Tensor // F32 [n], where the graph reads it
}

// Master is the copy in F32 of a tensor of the base that is trained in its place.
type Master struct {
	Name  string    // of the base's tensor
	Shape []int64   // ggml's, fastest dimension first
	Data  []float32 // the caller's, in the order of the elements
}

// newLeaves makes the tensors of the params, of their gradients, of the constants and of the statistics that are gathered,
// in buffers that no allocator touches. Nothing is written to them yet.
func (e *Engine) newLeaves(gathered []target, o Options) (err error) {
	for i := range e.backends {
		if err := e.newStores(place(i), gathered); err != nil {
			return err
		}
	}
	e.statisticsLeaves, e.sums = map[string]ggml.Tensor{}, map[ggml.Tensor]*mirror[float32]{}
	for _, t := range gathered {
		from := e.stores[e.homeOf(t.name)].statistics
		e.statisticsLeaves[t.name+SuffixInputs] = e.fix(from.at, from.leaf(int64(t.nIn)))
		e.statisticsLeaves[t.name+SuffixOutputs] = e.fix(from.at, from.leaf(int64(t.nOut)))
	}
	for i := range e.params {
		p := &e.params[i]
		from := e.stores[p.at]
		p.leaf = e.fix(p.at, from.values.leaf(p.ne...)).SetName(p.name)
		p.total = e.fix(p.at, from.totals.leaf(p.ne...))
	}
	for i := range e.constants {
		c := &e.constants[i]
		home := e.homeOf(c.weight)
		c.leaf = e.fix(home, e.stores[home].ctx.NewTensor(ggml.F32, int64(len(c.data))))
	}
	if o.MagnitudeEvery > 1 {
		e.drawn.rows = e.fix(onCPU, e.stores[onCPU].ctx.NewTensor(ggml.I32, int64(max(1, e.shape.tokens()/o.MagnitudeEvery))))
	}
	e.ops = opSets{homes: e.homes}
	for at, backend := range e.backends {
		s, ops := &e.stores[at], &e.ops.at[at]
		if *ops = (opSet{native: place(at) == onCPU && !o.reference, exact: o.exact}); !ops.native {
			ops.counting = e.fix(place(at), s.ctx.NewTensor(ggml.I32, e.mostRows()))
			ops.device = backend.Device()
		}
		if s.ctx.Used() == 0 {
			continue
		}
		if s.memory, err = backend.AllocateAll(s.ctx); err != nil {
			return err
		}
	}
	return nil
}

// newStores makes the stores of one side.
func (e *Engine) newStores(at place, gathered []target) (err error) {
	s := &e.stores[at]
	if s.ctx, err = ggml.NewContext(2*(len(e.params)+len(gathered))+len(e.constants)+5, 0); err != nil {
		return err
	}
	var values, statistics []int64
	for i := range e.params {
		if p := &e.params[i]; e.homeOf(p.weight) == at {
			p.at = at
			values = append(values, elements(p.ne))
		}
	}
	for _, t := range gathered {
		if e.homeOf(t.name) == at {
			statistics = append(statistics, int64(t.nIn), int64(t.nOut))
		}
	}
	s.values, s.totals, s.statistics = newStore(s.ctx, at, values), newStore(s.ctx, at, values), newStore(s.ctx, at, statistics)
	for _, whole := range []ggml.Tensor{s.values.whole, s.totals.whole, s.statistics.whole} {
		e.fix(at, whole)
	}
	return nil
}

// fix notes where a leaf lies, and returns it.
func (e *Engine) fix(at place, leaf ggml.Tensor) ggml.Tensor {
	if !leaf.IsNil() {
		e.fixed[leaf] = at
	}
	return leaf
}

func elements(ne []int64) int64 {
	n := int64(1)
	for _, k := range ne {
		n *= k
	}
	return n
}

// mostRows returns the most rows that a matrix of the traced graph has.
func (e *Engine) mostRows() int64 {
	most := int64(1)
	for _, node := range e.trace.nodes {
		if w := node.Src(0); !w.IsNil() && isMatrix(w) {
			most = max(most, w.NE()[1])
		}
	}
	return most
}

// openMirrors finds what steps read and write in host memory, or makes room for what the device holds, and sets the statistics to
// zero.
func (e *Engine) openMirrors() {
	scaled := e.lossScale != 1
	for i := range e.backends {
		s := e.stores[i]
		s.values.open()
		s.totals.open()
		s.statistics.open()
		s.statistics.zero(&e.bus)
	}
	for i := range e.params {
		p := &e.params[i]
		p.sum = e.stores[p.at].totals.mirror(p.total, scaled)
	}
	for _, leaf := range e.statisticsLeaves {
		m := e.stores[e.fixed[leaf]].statistics.mirror(leaf, scaled)
		clear(m.data)
		m.push(&e.bus)
		e.sums[leaf] = &m
	}
	for _, ops := range e.ops.at {
		if !ops.counting.IsNil() {
			numbers := mirrorOf[int32](ops.counting, false)
			for i := range numbers.data {
				numbers.data[i] = int32(i)
			}
			numbers.push(&e.bus)
		}
	}
	if !e.drawn.rows.IsNil() {
		e.drawn.chosen = mirrorOf[int32](e.drawn.rows, false)
	}
	e.hiddenState = mirrorOf[float32](e.hidden, false)
	if !e.seed.IsNil() && e.seed.HasData() {
		e.seedState = mirrorOf[float32](e.seed, false)
	}
	for _, in := range e.inputs {
		if in.leaf.HasData() { // the allocator gives no memory to a leaf that no node reads
			in.open()
		}
	}
}

// newLinears returns the products with the adapted weights by name; e.params has their factors, e.constants the rest.
func (e *Engine) linears(weights []adapter.Weight) map[string]linear {
	linears, params, fixed := map[string]linear{}, e.params, e.constants
	for _, w := range weights {
		var mats, vectors []ggml.Tensor
		for range w.Factors.Matrices() {
			mats, params = append(mats, params[0].leaf), params[1:]
		}
		for range constantsOf(w.Factors) {
			vectors, fixed = append(vectors, fixed[0].leaf), fixed[1:]
		}
		linears[w.Name] = e.ops.at[e.homeOf(w.Name)].newLinear(w.Factors, mats, vectors, e.drawn.rows)
	}
	return linears
}

// masters returns the leaves of e.params by name.
func (e *Engine) masters() map[string]ggml.Tensor {
	masters := map[string]ggml.Tensor{}
	for _, p := range e.params {
		masters[p.name] = p.leaf
	}
	return masters
}

// Upload copies the trainable parameters from the caller's memory to where the graph reads them. Where a device fails at that, the
// next step does.
func (e *Engine) Upload() {
	for _, p := range e.params {
		to := e.uploaded(p)
		copy(to, p.data)
		if p.warms && e.lessChange > 0 {
			share := 1 - e.lessChange
			for i := range to {
				to[i] *= share
			}
		}
	}
	if e.homes != nil {
		e.stores[onDevice].values.host.push(&e.bus)
	}
}

// uploaded returns the host memory that Upload writes a parameter to: the leaf's own, or what goes to the device.
func (e *Engine) uploaded(p param) []float32 {
	if p.at == onDevice {
		return e.stores[onDevice].values.mirror(p.leaf, true).data
	}
	return p.leaf.Floats()
}

// SetChangeShare multiplies every ΔW by a share from 0 to 1 from the next Upload on, by way of a factor that ΔW is
// proportional to: ReLU(f·M) = f·ReLU(M) for f ≥ 0. The gradient of that factor becomes the one by what the graph reads:
// with y = f·x it is dL/dy, and f times that by x.
func (e *Engine) SetChangeShare(share float32) { e.lessChange = 1 - share }

// Gradient is the gradient of one trainable tensor, summed over the calls of Step since the last Reset.
type Gradient struct {
	Name string    // "<weight>.<suffix>" of a factor, the base's name of a master
	Data []float32 // in the order of the elements; the Engine's own memory, until Close, see Collect
}

// Collect brings the gradients, and the statistics, from where the graph has summed them to the memory that Gradients and Statistics
// return. Without a device they are there as soon as Step returns.
func (e *Engine) Collect() error {
	if e.homes == nil {
		return nil
	}
	e.stores[onDevice].totals.host.pull(&e.bus)
	e.stores[onDevice].statistics.host.pull(&e.bus)
	for i := range e.params {
		e.params[i].sum.pull(&e.bus)
		e.params[i].sum.multiply(1 / e.lossScale)
	}
	for name, leaf := range e.statisticsLeaves {
		e.sums[leaf].pull(&e.bus)
		e.sums[leaf].multiply(e.statisticsScale(name))
	}
	return e.failed
}

// Gradients returns the gradients of all factors, in the order of the weights and of their matrices, or of all masters.
// Every call returns the same memory.
func (e *Engine) Gradients() []Gradient {
	var all []Gradient
	for _, p := range e.params {
		all = append(all, Gradient{p.name, p.sum.data})
	}
	return all
}

// GradientsOf returns the data of Gradients by name, in the order asked. To ask for a name that is not trained, or not
// for all that are, is a mistake of the caller's and panics: its optimizer would move one tensor by another's gradient.
func (e *Engine) GradientsOf(names []string) [][]float32 {
	byName := map[string][]float32{}
	for _, g := range e.Gradients() {
		byName[g.Name] = g.Data
	}
	var all [][]float32
	for _, name := range names {
		data, ok := byName[name]
		if !ok {
			panic(fmt.Sprintf("internal error: graph: the gradient of %q is not there, or asked for twice", name))
		}
		delete(byName, name)
		all = append(all, data)
	}
	if len(byName) > 0 {
		panic(fmt.Sprintf("internal error: graph: the gradients of %d trained tensors are asked for, want those of all %d", len(names), len(e.params)))
	}
	return all
}

// Unreached lists the parameters that no gradient reaches: of weights that llama.cpp's graph does not adapt, or of tensors
// that it does not read.
func (e *Engine) Unreached() []string {
	var names []string
	for _, p := range e.params {
		if !e.body.reached[p.leaf] && !e.head.reached[p.leaf] {
			names = append(names, p.name)
		}
	}
	return names
}

// Reset sets the summed gradients to zero. Where a device fails at that, the next step does.
func (e *Engine) Reset() {
	e.drawn.passes = 0
	if e.homes != nil {
		e.stores[onDevice].totals.zero(&e.bus)
	}
	for i := range e.params {
		p := &e.params[i]
		clear(p.sum.data)
		p.sum.push(&e.bus)
	}
}
