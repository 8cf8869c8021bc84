package graph

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// A graph is computed by the CPU alone, or by the CPU and a device with memory of its own. A product runs where its weight
// lies, and what comes behind it there too, until a weight lies elsewhere; so the last layers of a base may be on the device
// and the first ones on the CPU. What the device cannot compute, and our kernels, run on the CPU. Where a node reads what lies
// on the other side, a copy is made first: the nodes are a list of runs, each on one side, and copies stand before a run.

// place is the index of a backend of an Engine.
type place int32

const (
	onCPU    place = 0
	onDevice place = 1
)

// homes says where the weights of a base are read, and has those that are on the device.
type homes struct {
	first     int                         // layer whose weights, and those behind it, are on the device
	layers    int                         // of the base; the output matrix counts as one more
	ctx       *ggml.Context               // descriptors of twins
	memory    *ggml.Buffer                // theirs, once it is taken
	twins     map[ggml.Tensor]ggml.Tensor // weight → its copy on the device
	originals map[ggml.Tensor]ggml.Tensor // and back
}

// newHomes puts the last layers of a base on the device, the output matrix first; a number below 0 puts all there. It has room
// for as many copies as there are weights.
func newHomes(layers, onDevice, weights int) (*homes, error) {
	ctx, err := ggml.NewContext(weights+1, 0)
	h := &homes{layers: layers, ctx: ctx, twins: map[ggml.Tensor]ggml.Tensor{}, originals: map[ggml.Tensor]ggml.Tensor{}}
	if onDevice >= 0 {
		h.first = max(0, layers+1-onDevice)
	}
	return h, err
}

// of returns where a weight is read, by its name; ok is false for one that belongs to no layer, such as factors of the
// rotation.
func (h *homes) of(name string) (p place, ok bool) {
	layer := h.layers
	if rest, in := strings.CutPrefix(name, "blk."); in {
		number, _, _ := strings.Cut(rest, ".")
		n, err := strconv.Atoi(number)
		if err != nil {
			return onCPU, false
		}
		layer = n
	} else if !strings.HasPrefix(name, "output") && name != "token_embd.weight" {
		return onCPU, false
	}
	if layer >= h.first {
		return onDevice, true
	}
	return onCPU, true
}

// beginning returns where the first layer is.
func (h *homes) beginning() place {
	if h == nil || h.first > 0 {
		return onCPU
	}
	return onDevice
}

// twin returns the tensor of the device for a weight of the base.
func (h *homes) twin(w ggml.Tensor) ggml.Tensor {
	t, ok := h.twins[w]
	if !ok {
		t = h.ctx.Twin(w).SetName(w.Name())
		h.twins[w], h.originals[t] = t, w
	}
	return t
}

// bytes returns the memory of the copies on the device.
func (h *homes) bytes() (n int64) {
	if h == nil {
		return 0
	}
	for t := range h.originals {
		n += t.Bytes()
	}
	return n
}

// fill takes the memory of the copies and writes them. done is called with each weight that was read.
func (h *homes) fill(device *ggml.Backend, done func(w ggml.Tensor)) (err error) {
	if len(h.twins) == 0 {
		return nil
	}
	if h.memory, err = device.AllocateAll(h.ctx); err != nil {
		return err
	}
	h.memory.AsWeights()
	for w, t := range h.twins {
		if err := t.SetRaw(w.Raw()); err != nil {
			return err
		}
		done(w)
	}
	return nil
}

func (h *homes) close() {
	h.ctx.Close()
	if h.memory != nil {
		h.memory.Close()
	}
}

// placed is a graph laid out over the sides.
type placed struct {
	graph  ggml.Graph
	at     []int32 // where each node is computed; nil: all on the CPU
	leaves []int32 // where each leaf lies
}

// place returns where node i is computed.
func (g placed) place(i int) place {
	if g.at == nil {
		return onCPU
	}
	return place(g.at[i])
}

// placer lays out one graph.
type placer struct {
	*sides
	ctx   *ggml.Context
	where map[ggml.Tensor]place // tensors that own memory
	twins map[ggml.Tensor]ggml.Tensor
	list  []ggml.Tensor
	at    []int32
}

// place lays out a graph: [0, parts[0]), [parts[0], parts[1]) and so on are computed apart. It returns where these parts end
// in the result, which has copies between the nodes.
func (s *sides) place(ctx *ggml.Context, g ggml.Graph, parts ...int) (placed, []int, error) {
	if s.homes == nil {
		return placed{graph: g}, parts, nil
	}
	p := &placer{sides: s, ctx: ctx, where: map[ggml.Tensor]place{}, twins: map[ggml.Tensor]ggml.Tensor{}}
	at, err := p.assign(g)
	if err != nil {
		return placed{}, nil, err
	}
	var ends []int
	for from, n := 0, g.Len(); from < n || len(ends) < len(parts); {
		to := from
		for to < n && at[to] == at[from] && (to == from || !slices.Contains(parts, to)) {
			to++
		}
		p.run(g, from, to, at)
		from = to
		for len(ends) < len(parts) && parts[len(ends)] <= from {
			ends = append(ends, len(p.list))
		}
	}
	leaves, lie := p.leaves()
	return placed{graph: ctx.Listed(p.list, leaves), at: p.at, leaves: lie}, ends, nil
}

// leaves returns what the listed nodes read or are views of and nothing computes, and where each lies.
func (p *placer) leaves() (all []ggml.Tensor, at []int32) {
	seen := map[ggml.Tensor]bool{}
	add := func(t ggml.Tensor) {
		if !t.IsNil() && t.IsLeaf() && !isCopy(t) && !seen[t] {
			seen[t] = true
			all, at = append(all, t), append(at, int32(p.where[root(t)]))
		}
	}
	for _, node := range p.list {
		add(node.ViewSrc())
		for i := range ggml.MaxSrc {
			if src := node.Src(i); !src.IsNil() {
				add(src)
				add(src.ViewSrc())
			}
		}
	}
	return all, at
}

// assign decides where every node of g is computed.
func (p *placer) assign(g ggml.Graph) ([]place, error) {
	current, at := p.homes.beginning(), make([]place, g.Len())
	for i := range at {
		node := g.Node(i)
		if home, ok := p.home(node); ok {
			current = home
		}
		here := current
		if node != root(node) {
			here = p.placeOf(root(node), current)
		} else if p.looksUp(node) {
			here = onCPU
		} else if here == onDevice && !p.can(onDevice, node) {
			here = onCPU
		}
		if !p.can(here, node) {
			return nil, fmt.Errorf("graph: node %q (%s) of shape %v: no backend computes it", node.Name(), node.Op(), node.NE())
		}
		p.where[root(node)] = here
		for j := range ggml.MaxSrc {
			if src := node.Src(j); !src.IsNil() {
				p.placeOf(root(src), here)
			}
		}
		at[i] = here
	}
	return at, nil
}

// home returns where the memory lies that draws a node to it: of a weight, a parameter or a total.
func (p *placer) home(node ggml.Tensor) (home place, ok bool) {
	for i := range ggml.MaxSrc {
		src := node.Src(i)
		if src.IsNil() {
			continue
		}
		leaf := root(src)
		if at, fixed := p.fixed[leaf]; fixed {
			return at, true
		}
		if _, twin := p.homes.originals[leaf]; twin {
			return onDevice, true
		}
		if leaf.IsLeaf() && leaf.IsWeight() && node.Op() != "GET_ROWS" {
			home, ok = onCPU, true
		}
	}
	return home, ok
}

// looksUp reports whether a node takes rows of a table of the base that lies on the CPU: the rows cross, not the table.
func (p *placer) looksUp(node ggml.Tensor) bool {
	table := node.Src(0)
	if node.Op() != "GET_ROWS" || !table.IsLeaf() || !table.IsWeight() {
		return false
	}
	_, twin := p.homes.originals[table]
	_, fixed := p.fixed[table]
	return !twin && !fixed
}

// can reports whether a node can be computed there.
func (p *placer) can(at place, node ggml.Tensor) bool {
	if kernels.Name(node) != "" {
		return at == onCPU
	}
	return p.backends[at].Device().Supports(node)
}

// placeOf returns where a tensor that owns memory lies; a leaf that nothing places lies where it is read first.
func (p *placer) placeOf(owner ggml.Tensor, reader place) place {
	if at, ok := p.where[owner]; ok {
		return at
	}
	at, ok := p.fixed[owner]
	if _, twin := p.homes.originals[owner]; twin {
		at = onDevice
	} else if !ok && owner.IsLeaf() && owner.IsWeight() {
		at = onCPU
	} else if !ok {
		at = reader
	}
	p.where[owner] = at
	return at
}

// run appends the copies that nodes [from, to) of g need, and the nodes.
func (p *placer) run(g ggml.Graph, from, to int, at []place) {
	if from == to {
		return
	}
	here := at[from]
	for i := from; i < to; i++ {
		node := g.Node(i)
		for j := range ggml.MaxSrc {
			if src := node.Src(j); !src.IsNil() && p.where[root(src)] != here {
				node.SetSrc(j, p.near(src, here))
			}
		}
	}
	for i := from; i < to; i++ {
		p.list, p.at = append(p.list, g.Node(i)), append(p.at, int32(here))
	}
}

// near returns what a node on one side reads in the place of a tensor of the other.
func (p *placer) near(src ggml.Tensor, here place) ggml.Tensor {
	if original, ok := p.homes.originals[src]; ok && here == onCPU {
		return original
	}
	if twin, ok := p.twins[src]; ok {
		return twin
	}
	twin := p.ctx.Twin(src).Of(src).SetName("copy of " + src.Name())
	p.twins[src] = twin
	p.list, p.at = append(p.list, twin), append(p.at, int32(here))
	return twin
}

// isCopy reports whether a node of a placed graph stands for a copy from the other side, of its operand.
func isCopy(node ggml.Tensor) bool { return node.IsLeaf() && !node.Src(0).IsNil() }
