package convert

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"finetune/convert/safetensors"
	"finetune/internal/hint"
)

// mlx-lm computes y = W·x + scale·(x·lora_a)·lora_b, with lora_a [in][rank] and lora_b
// [rank][out]: A and B transposed. Of experts, which are one module there, lora_a is
// [experts][rank][in] and lora_b [experts][out][rank]: not transposed. Of embeddings
// lora_a is [vocab][rank] and lora_b [rank][dim].

// keyOurs is a section of the configuration that mlx-lm passes over.
const keyOurs = "finetune"

// readMLX reads a folder that mlx-lm's training wrote.
func readMLX(dir string, m *baseModel, r *Report) (*lora, error) {
	config, err := readMLXConfig(dir)
	if err != nil {
		return nil, err
	}
	f, err := safetensors.Open(filepath.Join(dir, mlxWeights))
	if err != nil {
		return nil, err
	}
	x := &mlxReader{f: f, m: m, config: config, factors: map[string][2][]matrix{}}
	l, err := x.lora()
	if err != nil {
		f.Close()
		return nil, err
	}
	if config.alpha {
		r.note("lora_parameters has an alpha, which mlx-lm no longer reads: the scale is %v", config.scale)
	}
	l.close = f.Close
	return l, nil
}

// mlxConfig is what the configuration says that counts.
type mlxConfig struct {
	scale    float64
	layers   int      // only so many last layers have adapters; 0 is all
	keys     []string // modules within a layer, or outside of them; nil is by mlx-lm's own list
	alpha    bool     // it has an alpha, as old versions wrote
	baseName string
	folds    []fold // by module of transformers
	alone    bool   // transformers had the language model by itself
}

func readMLXConfig(dir string) (*mlxConfig, error) {
	c, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	return c.mlx()
}

// mlx reads the keys of a training configuration of mlx-lm.
func (c *config) mlx() (*mlxConfig, error) {
	if kind := c.text("fine_tune_type"); kind != "" && kind != "lora" {
		return nil, hint.With(&UnsupportedError{c.path, fmt.Sprintf("fine_tune_type is %q, want \"lora\"", kind)},
			"mlx_lm.fuse merges it into the model, which can then be converted to a GGUF")
	}
	p := c.section("lora_parameters")
	x := &mlxConfig{scale: p.number("scale", math.NaN()), alpha: p.has("alpha"), baseName: c.text("model")}
	p.as("keys", "a list of names", &x.keys)
	if c.has("num_layers") {
		x.layers = int(min(max(c.number("num_layers", 0), 0), maxRank))
	}
	ours := c.section(keyOurs)
	x.alone = ours.has("alone")
	if ours.has("folded") {
		for _, r := range ours.rules("folded") {
			x.folds = append(x.folds, fold{r.pattern, r.value})
		}
	}
	switch {
	case c.err != nil:
		return nil, c.err
	case p.err != nil:
		return nil, p.err
	case !p.has("scale") || !usable(x.scale):
		p.fail("scale", "a number other than 0")
		return nil, p.err
	}
	return x, nil
}

type mlxReader struct {
	f       *safetensors.File
	m       *baseModel
	config  *mlxConfig
	factors map[string][2][]matrix // by module, as the file calls it: one, or one for each expert
}

func (x *mlxReader) format(format string, args ...any) error {
	return &FormatError{x.f.Path(), fmt.Sprintf(format, args...)}
}

func (x *mlxReader) lora() (*lora, error) {
	for _, t := range x.f.Tensors() {
		if err := x.tensor(t); err != nil {
			return nil, err
		}
	}
	l := &lora{pairs: map[string]pair{}, baseName: x.config.baseName}
	for _, name := range slices.Sorted(maps.Keys(x.factors)) {
		if err := x.module(l, name); err != nil {
			return nil, err
		}
	}
	if len(l.pairs) == 0 {
		return nil, x.format("has no factors")
	}
	switch {
	case x.m.mlxWrapped && x.config.alone:
		l.wrapper = ""
	case l.wrapper == wrapperOld:
		l.wrapper = wrapperNew // what transformers calls it today
	}
	unfold(l.pairs, x.config.folds)
	return l, nil
}

// tensor files a factor under its module.
func (x *mlxReader) tensor(t safetensors.Tensor) error {
	dot := max(strings.LastIndexByte(t.Name, '.'), 0)
	module, end := t.Name[:dot], strings.TrimPrefix(t.Name[dot:], ".")
	i := slices.Index([]string{"lora_a", "lora_b"}, end)
	if i < 0 {
		return hint.With(&UnsupportedError{x.f.Path(), fmt.Sprintf("tensor %q: want a name that ends in .lora_a or .lora_b", t.Name)},
			"of what was trained in another way than LoRA, mlx_lm.fuse makes a merged model")
	}
	ms, err := tensorMatrices(x.f, t)
	if err != nil {
		return err
	}
	factors := x.factors[module]
	factors[i] = ms
	x.factors[module] = factors
	return nil
}

// module checks a module against the base and the configuration, and adds it, or its
// experts.
func (x *mlxReader) module(l *lora, name string) error {
	plain, wrapper := x.m.unwrap(name)
	indices := x.m.byMLX[plain]
	if len(indices) == 0 {
		_, _, err := x.m.find(x.f.Path(), name) // says why
		return err
	}
	first := x.m.modules[indices[0]]
	if first.embedding && x.m.tied {
		return tiedError(x.f.Path(), name)
	}
	if err := l.setWrapper(x.m, x.f.Path(), name, wrapper, first); err != nil {
		return err
	}
	if !x.config.targeted(name, first, x.m.layers) {
		return x.format("module %q: has factors, but %s does not name it", name, configFile)
	}
	as, bs := x.factors[name][0], x.factors[name][1]
	if len(as) == 0 || len(bs) == 0 {
		return x.format("module %q: lora_a or lora_b is missing", name)
	}
	if len(as) != len(indices) || len(bs) != len(indices) {
		return x.format("module %q: %d and %d matrices, the model has %d", name, len(as), len(bs), len(indices))
	}
	for i, index := range indices {
		mod := x.m.modules[index]
		a, b := as[i], bs[i]
		if mod.expert < 0 {
			a, b = a.transposed(), b.transposed()
		}
		if err := mod.check(x.f.Path(), name, a, b); err != nil {
			return err
		}
		if err := l.add(x.f.Path(), name, mod, pair{a: a, b: b, scale: x.config.scale}); err != nil {
			return err
		}
	}
	return nil
}

// targeted reports whether mlx-lm would put an adapter on the module: it passes over
// tensors of others without a word.
func (c *mlxConfig) targeted(name string, mod module, layers int) bool {
	if slices.Contains(c.keys, name) {
		return true
	}
	if mod.layer >= 0 && c.layers > 0 && mod.layer < layers-c.layers {
		return false
	}
	return c.keys == nil || slices.Contains(c.keys, mod.local)
}

// writeMLX writes a folder that mlx-lm's --adapter-path reads.
func writeMLX(path string, m *baseModel, l *lora, r *Report) error {
	if len(l.invocation) > 0 {
		return &UnsupportedError{r.From, "is an aLoRA, which a sequence of tokens switches on: mlx-lm has no such thing"}
	}
	w := &mlxWriter{b: safetensors.NewBuilder(map[string]string{"format": "mlx"}), m: m, l: l,
		factors: map[string]float64{}, keys: map[string]bool{}, layers: 1}
	w.chooseScale()
	for i, mod := range m.modules {
		if stack := m.byMLX[mod.mlx]; stack[0] == i { // experts together, at the first of them
			w.add(mod, stack)
		}
	}
	folded := map[string]float64{}
	for _, mod := range l.sorted(m) {
		if f := w.factors[mod.name]; f != 1 {
			r.Folded = append(r.Folded, Folded{mod.name, f})
			if powerOfTwo(f) {
				folded[mod.name] = f
			}
		}
	}
	return writeFolder(path, mlxWeights, w.b, jsonText(w.settings(folded)))
}

type mlxWriter struct {
	b       *safetensors.Builder
	m       *baseModel
	l       *lora
	scale   float64            // of the file
	factors map[string]float64 // of each module's B
	keys    map[string]bool    // modules within a layer, or outside of them
	layers  int                // so many last layers have adapters
	ranks   []int
}

// chooseScale finds the scale of the file, and what each module's B has to be
// multiplied by for it.
func (w *mlxWriter) chooseScale() {
	modules := w.l.sorted(w.m)
	var scales []float64
	for _, mod := range modules {
		scales = append(scales, tidy(w.l.pairs[mod.name].scale))
	}
	var factors []float64
	w.scale, factors = choose(scales, len(modules), func(scale float64, i int) float64 { return scales[i] / scale })
	for i, mod := range modules {
		w.factors[mod.name] = factors[i]
	}
}

// add adds a module, or the experts of one, if the adapter is on any of them.
func (w *mlxWriter) add(mod module, stack []int) {
	experts, some := make([]*pair, len(stack)), false
	for i, index := range stack {
		name := w.m.modules[index].name
		if p, ok := w.l.pairs[name]; ok {
			if f := w.factors[name]; f != 1 {
				p.b = p.b.scaled(f)
			}
			p.scale = w.scale
			experts[i], some = &p, true
		}
	}
	if !some {
		return
	}
	name := mod.mlx
	if w.l.wrapper != "" || w.m.mlxWrapped {
		name = w.m.wrap(mod.mlx, wrapperOld)
	}
	if mod.layer >= 0 {
		w.keys[mod.local], w.layers = true, max(w.layers, w.m.layers-mod.layer)
	} else {
		w.keys[name] = true
	}
	var as, bs []matrix
	for _, p := range stackOf(experts) {
		w.ranks = append(w.ranks, p.rank())
		if mod.expert < 0 {
			p.a, p.b = p.a.transposed(), p.b.transposed()
		}
		as, bs = append(as, p.a), append(bs, p.b)
	}
	addMatrices(w.b, name+".lora_a", as, mod.expert >= 0)
	addMatrices(w.b, name+".lora_b", bs, mod.expert >= 0)
}

// settings returns the keys that mlx-lm's load_adapters needs, and ours.
func (w *mlxWriter) settings(folded map[string]float64) map[string]any {
	c := map[string]any{
		"fine_tune_type": "lora",
		"num_layers":     w.layers,
		"lora_parameters": map[string]any{
			"rank":    most(w.ranks),
			"scale":   w.scale,
			"dropout": 0.0,
			"keys":    slices.Sorted(maps.Keys(w.keys)),
		},
	}
	if w.l.baseName != "" {
		c["model"] = w.l.baseName
	}
	ours := map[string]any{}
	if len(folded) > 0 {
		ours["folded"] = folded
	}
	if w.m.mlxWrapped && w.l.wrapper == "" {
		ours["alone"] = true
	}
	if len(ours) > 0 {
		c[keyOurs] = ours
	}
	return c
}
