package graph

import (
	"errors"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// sides are the backends of an Engine by place, and what lies where.
type sides struct {
	backends []*ggml.Backend
	fixed    map[ggml.Tensor]place // leaves that no allocator gives memory: parameters, their totals, constants, statistics
	homes    *homes                // of the base's weights; nil: everything is on the CPU
	bus
}

// deviceLossScale is the factor of derivatives on a device. Some multiply in half precision whatever is asked of them, Metal and
// Vulkan with matrix cores among them, and what a token adds to a gradient of a mean over thousands would be a subnormal there.
const deviceLossScale = 1 << 10

// openSides starts the backends.
func (e *Engine) openSides(o Options) (err error) {
	if e.backend, err = ggml.NewCPU(o.Threads); err != nil {
		return err
	}
	e.backends, e.fixed, e.lossScale = []*ggml.Backend{e.backend}, map[ggml.Tensor]place{}, 1
	if o.On.OnCPU() {
		return nil
	}
	started, err := startDevice(o)
	if err != nil {
		return err
	}
	e.backends, e.lossScale = append(e.backends, started), deviceLossScale
	return nil
}

// startDevice starts the backend of the device. The CPU may be one, in tests.
func startDevice(o Options) (*ggml.Backend, error) {
	if o.On.Device.Type() == ggml.DeviceCPU {
		return ggml.NewCPU(o.Threads)
	}
	return o.On.Device.NewBackend()
}

// openHomes decides where the traced weights are read.
func (e *Engine) openHomes(o Options) (err error) {
	if len(e.backends) > 1 {
		e.homes, err = newHomes(e.model.NLayer(), o.On.Layers, ggml.MaxSrc*len(e.trace.nodes))
	}
	return err
}

// homeOf returns where a weight is read, by its name.
func (s *sides) homeOf(name string) place {
	if s.homes == nil {
		return onCPU
	}
	home, _ := s.homes.of(name)
	return home
}

func (s *sides) close() (err error) {
	if s.homes != nil {
		s.homes.close()
	}
	for _, b := range s.backends {
		err = errors.Join(err, b.Close())
	}
	return err
}

// measure returns the memory in bytes that a graph takes on each side, beside its fixed leaves.
func (s *sides) measure(g placed) (bytes [2]int64) {
	if g.at == nil {
		return [2]int64{s.backends[onCPU].Measure(g.graph), 0}
	}
	return [2]int64(ggml.MeasurePlaced(s.backends, g.graph, g.at, g.leaves))
}

func (s *sides) allocate(g placed) (*ggml.Allocator, error) {
	if g.at == nil {
		return s.backends[onCPU].Allocate(g.graph)
	}
	return ggml.AllocatePlaced(s.backends, g.graph, g.at, g.leaves)
}

// compute computes runs in order. done is called behind each.
func (s *sides) compute(runs []run, done func(r run)) error {
	for _, r := range runs {
		for _, twin := range r.copies {
			s.bus.copy(twin)
		}
		if s.failed != nil {
			return s.failed
		}
		if s.note(0, s.backends[r.at].Compute(r.graph)); s.failed != nil {
			return s.failed
		}
		done(r)
	}
	return s.failed
}

// run is a section of a graph that is ready to compute on one side.
type run struct {
	ctx    *ggml.Context
	graph  ggml.Graph
	at     place
	copies []ggml.Tensor // twins of what lies on the other side, which are written before
	paged  []ggml.Tensor // weights that are paged out after it
}

func newRun(g placed, p section) (run, error) {
	r := run{at: p.at}
	from := p.from
	for ; from < p.to && isCopy(g.graph.Node(from)); from++ {
		r.copies = append(r.copies, g.graph.Node(from))
	}
	var err error
	if r.ctx, err = ggml.NewContext(max(1, p.to-from), 1); err == nil {
		r.graph = r.ctx.Part(g.graph, from, p.to)
	}
	return r, err
}

// newRuns makes the runs of sections.
func newRuns(g placed, sections []section) (runs []run, err error) {
	for _, p := range sections {
		r, err := newRun(g, p)
		if err != nil {
			closeRuns(runs)
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, nil
}

func closeRuns(runs []run) {
	for _, r := range runs {
		r.ctx.Close()
	}
}
