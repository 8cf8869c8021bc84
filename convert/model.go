package convert

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"finetune/classify"
	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/model"
)

// baseModel is what a conversion has to know of the base: which modules of transformers
// its tensors are, and how the rows of one become those of the other.
type baseModel struct {
	model.Identity
	architecture
	modules    []module // by layer, then in the order of names
	layers     int
	tied       bool     // the head is the embeddings: no output.weight
	labels     []string // of a classifier in it
	vocabulary string   // tokenizer.ggml.model
	head       string   // the module that output.weight would be; empty of an encoder

	byName    map[string]int      // module to index in modules
	byMLX     map[string][]int    // module of mlx-lm to indices in modules: one for each expert
	byWeight  map[string]struct{} // tensors that an adapter can be on
	shapes    map[string][]int64  // of all tensors
	mappings  []mapping
	rowsOfKey map[string]int // rows of a tensor or expert, by mapping.key
}

// module is a module of transformers that an adapter can be on.
type module struct {
	name      string // such as "model.layers.0.self_attn.q_proj"
	mlx       string // the same in mlx-lm; experts of a layer share one. Empty without mlx-lm
	local     string // mlx within its layer, such as "self_attn.q_proj"; all of it outside
	layer     int    // -1 outside of the layers
	expert    int    // -1 for none
	in, out   int    // of the weight: A is [rank][in], B is [out][rank]
	embedding bool   // a table: in is the vocabulary
}

// mapping joins a module with a tensor of the base that holds rows of it.
type mapping struct {
	module string
	weight string // such as "blk.0.attn_q.weight"
	expert int    // of a tensor of experts, else -1
	rowOrder
}

// key returns the key of the tensor, or of the expert in it.
func (e mapping) key() string { return weightKey(e.weight, e.expert) }

func weightKey(weight string, expert int) string {
	if expert < 0 {
		return weight
	}
	return weight + "#" + strconv.Itoa(expert)
}

// openModel reads the header of a base, and its norms for their hash.
func openModel(path string) (*baseModel, error) {
	f, err := model.OpenParts(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m := &baseModel{tied: true, byName: map[string]int{}, byMLX: map[string][]int{}, byWeight: map[string]struct{}{},
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
		m.layers = max(m.layers, model.Block(t.Name)+1)
		m.tied = m.tied && t.Name != "output.weight"
	}
	if err := m.addModules(f.File); err != nil {
		return nil, fmt.Errorf("convert: model %q: %w", path, err)
	}
	m.tied = m.tied && m.head != ""
	m.vocabulary, _ = f.String("tokenizer.ggml.model")
	m.labels, _ = f.Strings(f.Architecture() + classify.KeyLabels)
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

// addModules goes through the tensors of the base, never by a count that its metadata
// states.
func (m *baseModel) addModules(f *gguf.File) error {
	lines := map[string][]line{}
	for _, l := range m.lines() {
		lines[l.tensor] = append(lines[l.tensor], l)
		if l.tensor == "output.weight" {
			m.head = l.module
		}
	}
	order := map[string]int{} // of a module in the table
	for _, t := range m.Tensors {
		layer, pattern := model.Block(t.Name), t.Name
		if layer >= 0 {
			pattern = strings.Replace(t.Name, fmt.Sprintf("blk.%d.", layer), "blk.*.", 1)
		}
		for _, l := range lines[pattern] {
			if err := m.addTensor(f, t, layer, l, order); err != nil {
				return fmt.Errorf("tensor %q: %w", t.Name, err)
			}
		}
	}
	slices.SortStableFunc(m.modules, func(a, b module) int {
		return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(order[a.name], order[b.name]), cmp.Compare(a.expert, b.expert))
	})
	for i, mod := range m.modules {
		m.byName[mod.name] = i
		if mod.mlx != "" {
			m.byMLX[mod.mlx] = append(m.byMLX[mod.mlx], i)
		}
	}
	return nil
}

// addTensor adds the modules of one tensor by one line of the table: one, or one for
// each expert.
func (m *baseModel) addTensor(f *gguf.File, t gguf.Tensor, layer int, l line, place map[string]int) error {
	stack := strings.Contains(l.module, "#")
	if want := map[bool]int{false: 2, true: 3}[stack]; len(t.Shape) != want || slices.Min(t.Shape) < 1 {
		return fmt.Errorf("has shape %v, want %d dimensions", t.Shape, want)
	}
	h, err := headsOf(f, layer)
	if l.order.ofState() {
		h, err = stateHeadsOf(f)
	}
	if err != nil && l.order != "" {
		return err
	}
	rows, err := l.order.of(int(t.Shape[0]), int(t.Shape[1]), h)
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
		mod := m.newModule(t, layer, e, l)
		if rows.from != nil {
			mod.out = len(rows.from)
		}
		place[mod.name] = l.rank
		m.addModule(mod)
		m.mappings = append(m.mappings, mapping{mod.name, t.Name, e, rows})
		m.rowsOfKey[weightKey(t.Name, e)] = int(t.Shape[1])
	}
	m.byWeight[t.Name] = struct{}{}
	return nil
}

// addModule adds a module, or to its rows when it has a part in another tensor too.
func (m *baseModel) addModule(mod module) {
	if i, ok := m.byName[mod.name]; ok {
		m.modules[i].out += mod.out
		return
	}
	m.byName[mod.name] = len(m.modules)
	m.modules = append(m.modules, mod)
}

// newModule fills in the names of a line of the naming table. The tensor of an embedding is [n_embd, n_vocab].
func (m *baseModel) newModule(t gguf.Tensor, layer, expert int, l line) module {
	fill := strings.NewReplacer("*", strconv.Itoa(layer), "#", strconv.Itoa(expert))
	mod := module{name: fill.Replace(l.module), layer: layer, expert: expert, in: int(t.Shape[0]), out: int(t.Shape[1])}
	if t.Name == "token_embd.weight" {
		mod.embedding, mod.in, mod.out = true, mod.out, mod.in
	}
	if slices.Equal(m.mlx, noMLX) {
		return mod
	}
	pattern := strings.NewReplacer(m.mlx...).Replace(l.module)
	mod.mlx = fill.Replace(pattern)
	mod.local = mod.mlx
	if _, local, in := strings.Cut(pattern, "*."); in {
		mod.local = fill.Replace(local)
	}
	return mod
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
		return heads{q: q, kv: q}, nil
	}
	return heads{q: q, kv: kv}, err
}

// stateHeadsOf reads how many heads the gated delta rules have.
func stateHeadsOf(f *gguf.File) (heads, error) {
	k, err := f.Int(f.Architecture() + ".ssm.group_count")
	if err != nil {
		return heads{}, err
	}
	v, err := f.Int(f.Architecture() + ".ssm.time_step_rank")
	return heads{stateK: int(k), stateV: int(v)}, err
}

// toTensors and toModules return the row maps of the model in either direction.
func (m *baseModel) toTensors() []rowMap {
	var all []rowMap
	for _, e := range m.mappings {
		all = append(all, rowMap{from: e.module, to: e.key(), take: e.from, put: e.place, columns: e.columns})
	}
	return all
}

func (m *baseModel) toModules() []rowMap {
	var all []rowMap
	for _, e := range m.mappings {
		all = append(all, rowMap{from: e.key(), to: e.module, take: e.place, put: e.from, columns: inverse(e.columns)})
	}
	return all
}

// inverse returns the list that undoes a permutation; of nil it is nil.
func inverse(list []int) []int {
	var back []int
	for range list {
		back = append(back, 0)
	}
	for i, from := range list {
		back[from] = i
	}
	return back
}

func (m *baseModel) rowsOfModule() map[string]int {
	rows := map[string]int{}
	for _, mod := range m.modules {
		rows[mod.name] = mod.out
	}
	return rows
}
