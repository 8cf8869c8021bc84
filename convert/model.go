package convert

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"finetune/gguf"
	"finetune/internal/hint"
	base "finetune/model"
)

// model is what a conversion has to know of the base: which modules of transformers
// its tensors are, and how the rows of one become those of the other.
type model struct {
	base.Identity
	architecture
	sites  []site // by layer, then in the order of names
	layers int
	tied   bool   // the head is the embeddings: no output.weight
	head   string // the module that output.weight would be

	byName    map[string]int      // module to index in sites
	byMLX     map[string][]int    // module of mlx-lm to indices in sites: one for each expert
	byWeight  map[string]struct{} // tensors that an adapter can be on
	shapes    map[string][]int64  // of all tensors
	edges     []edge
	rowsOfKey map[string]int // rows of a tensor or expert, by edge.key
}

// site is a module that an adapter can be on.
type site struct {
	name      string // such as "model.layers.0.self_attn.q_proj"
	mlx       string // the same in mlx-lm; experts of a layer share one. Empty without mlx-lm
	local     string // mlx within its layer, such as "self_attn.q_proj"; all of it outside
	layer     int    // -1 outside of the layers
	expert    int    // -1 for none
	in, out   int    // of the weight: A is [rank][in], B is [out][rank]
	embedding bool   // a table: in is the vocabulary
}

// edge joins a module with a tensor that holds rows of it.
type edge struct {
	module string
	weight string // such as "blk.0.attn_q.weight"
	expert int    // of a tensor of experts, else -1
	moved
}

// key is that of the tensor, or of the expert in it.
func (e edge) key() string { return weightKey(e.weight, e.expert) }

func weightKey(weight string, expert int) string {
	if expert < 0 {
		return weight
	}
	return weight + "#" + strconv.Itoa(expert)
}

// openModel reads the header of a base, and its norms for their hash.
func openModel(path string) (*model, error) {
	f, err := base.OpenParts(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m := &model{tied: true, byName: map[string]int{}, byMLX: map[string][]int{}, byWeight: map[string]struct{}{},
		shapes: map[string][]int64{}, rowsOfKey: map[string]int{}}
	var known bool
	if m.architecture, known = architectures[f.Architecture()]; !known {
		err := &UnsupportedError{path, fmt.Sprintf("the names of architecture %q in transformers are not known", f.Architecture())}
		return nil, hint.With(err, "known are "+strings.Join(slices.Sorted(maps.Keys(architectures)), ", "))
	}
	if m.Identity, err = f.Identity(); err != nil {
		return nil, err
	}
	for _, t := range m.Tensors {
		m.shapes[t.Name] = t.Shape
		m.layers = max(m.layers, base.Block(t.Name)+1)
		m.tied = m.tied && t.Name != "output.weight"
	}
	if err := m.addSites(f.File); err != nil {
		return nil, fmt.Errorf("convert: model %q: %w", path, err)
	}
	return m, nil
}

// line is a line of the naming table.
type line struct {
	tensor string // "blk.*.attn_q.weight"
	module string
	order  order
	rank   int // its place in the table
}

func (a architecture) lines() []line {
	var lines []line
	for text := range strings.Lines(strings.TrimSpace(a.names)) {
		fields := append(strings.Fields(text), "")
		lines = append(lines, line{fields[0] + ".weight", fields[1], order(fields[2]), len(lines)})
	}
	return lines
}

// addSites goes through the tensors of the base, never by a count that its metadata
// states.
func (m *model) addSites(f *gguf.File) error {
	lines := map[string][]line{}
	for _, l := range m.lines() {
		lines[l.tensor] = append(lines[l.tensor], l)
		if l.tensor == "output.weight" {
			m.head = l.module
		}
	}
	place := map[string]int{} // of a module in the table
	for _, t := range m.Tensors {
		layer, pattern := base.Block(t.Name), t.Name
		if layer >= 0 {
			pattern = strings.Replace(t.Name, fmt.Sprintf("blk.%d.", layer), "blk.*.", 1)
		}
		for _, l := range lines[pattern] {
			if err := m.addTensor(f, t, layer, l, place); err != nil {
				return fmt.Errorf("tensor %q: %w", t.Name, err)
			}
		}
	}
	slices.SortStableFunc(m.sites, func(a, b site) int {
		return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(place[a.name], place[b.name]), cmp.Compare(a.expert, b.expert))
	})
	for i, s := range m.sites {
		m.byName[s.name] = i
		if s.mlx != "" {
			m.byMLX[s.mlx] = append(m.byMLX[s.mlx], i)
		}
	}
	return nil
}

// addTensor adds the modules of one tensor by one line of the table: one, or one for
// each expert.
func (m *model) addTensor(f *gguf.File, t gguf.Tensor, layer int, l line, place map[string]int) error {
	stack := strings.Contains(l.module, "#")
	if want := map[bool]int{false: 2, true: 3}[stack]; len(t.Shape) != want || slices.Min(t.Shape) < 1 {
		return fmt.Errorf("has shape %v, want %d dimensions", t.Shape, want)
	}
	h, err := headsOf(f, layer)
	if err != nil && l.order != "" {
		return err
	}
	rows, err := l.order.rows(int(t.Shape[1]), h)
	if err != nil {
		return err
	}
	experts := []int{-1}
	if stack {
		experts = experts[:0]
		for e := range int(t.Shape[2]) {
			experts = append(experts, e)
		}
	}
	for _, e := range experts {
		s := m.site(t, layer, e, l)
		if rows.from != nil {
			s.out = len(rows.from)
		}
		place[s.name] = l.rank
		m.addSite(s)
		m.edges = append(m.edges, edge{s.name, t.Name, e, rows})
		m.rowsOfKey[weightKey(t.Name, e)] = int(t.Shape[1])
	}
	m.byWeight[t.Name] = struct{}{}
	return nil
}

// addSite adds a module, or to its rows when it has a part in another tensor too.
func (m *model) addSite(s site) {
	if i, ok := m.byName[s.name]; ok {
		m.sites[i].out += s.out
		return
	}
	m.byName[s.name] = len(m.sites)
	m.sites = append(m.sites, s)
}

// site fills the names of a line in. Of a table the tensor is [n_embd, n_vocab].
func (m *model) site(t gguf.Tensor, layer, expert int, l line) site {
	fill := strings.NewReplacer("*", strconv.Itoa(layer), "#", strconv.Itoa(expert))
	s := site{name: fill.Replace(l.module), layer: layer, expert: expert, in: int(t.Shape[0]), out: int(t.Shape[1])}
	if t.Name == "token_embd.weight" {
		s.embedding, s.in, s.out = true, s.out, s.in
	}
	if slices.Equal(m.mlx, noMLX) {
		return s
	}
	pattern := strings.NewReplacer(m.mlx...).Replace(l.module)
	s.mlx = fill.Replace(pattern)
	s.local = s.mlx
	if _, local, in := strings.Cut(pattern, "*."); in {
		s.local = fill.Replace(local)
	}
	return s
}

// headsOf reads how many heads a layer has: one number, or one for each layer.
func headsOf(f *gguf.File, layer int) (heads, error) {
	read := func(name string) (int, error) {
		key := f.Architecture() + ".attention." + name
		n, err := f.Int(key)
		if errors.Is(err, gguf.ErrKind) {
			var list []int64
			if list, err = f.Ints(key); err == nil && (layer < 0 || layer >= len(list)) {
				return 0, fmt.Errorf("key %q: %d numbers, none for layer %d", key, len(list), layer)
			} else if err == nil {
				n = list[layer]
			}
		}
		return int(n), err
	}
	q, err := read("head_count")
	if err != nil {
		return heads{}, err
	}
	kv, err := read("head_count_kv")
	if errors.Is(err, gguf.ErrNoKey) {
		return heads{q, q}, nil
	}
	return heads{q, kv}, err
}

// toTensors and toModules are the crossings of the model in either direction.
func (m *model) toTensors() []crossing {
	var all []crossing
	for _, e := range m.edges {
		all = append(all, crossing{e.module, e.key(), e.from, e.place})
	}
	return all
}

func (m *model) toModules() []crossing {
	var all []crossing
	for _, e := range m.edges {
		all = append(all, crossing{e.key(), e.module, e.place, e.from})
	}
	return all
}

func (m *model) rowsOfModule() map[string]int {
	rows := map[string]int{}
	for _, s := range m.sites {
		rows[s.name] = s.out
	}
	return rows
}
