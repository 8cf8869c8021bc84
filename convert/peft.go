package convert

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"finetune/convert/safetensors"
	"finetune/internal/hint"
)

const peftPrefix = "base_model.model."

// peftSuffixes are the ends of names, A and B of a matrix and of a table.
var peftSuffixes = [2][2]string{{".lora_A.weight", ".lora_B.weight"}, {".lora_embedding_A", ".lora_embedding_B"}}

// foreign are the ends of names of what is no factor of a LoRA.
var foreign = []struct {
	end, what string
	named     bool // PEFT's own: "lora_" is in the name
}{
	{".lora_B.bias", "is a bias of B", true},
	{".weight", "is a whole weight that was trained along", false},
	{".bias", "is a bias that was trained along", false},
}

// readPEFT reads a folder that PEFT's save_pretrained wrote.
func (c Config) readPEFT(m *baseModel, r *Report) (*lora, error) {
	dir, err := transformerOf(c.From)
	if err != nil {
		return nil, err
	}
	config, err := readPEFTConfig(dir)
	if err != nil {
		return nil, err
	}
	if err := checkDownload(filepath.Join(dir, peftWeights)); err != nil {
		return nil, err
	}
	f, err := safetensors.Open(filepath.Join(dir, peftWeights))
	if err != nil {
		return nil, err
	}
	p := newPEFTReader(f, m, config, r)
	p.head.dir, p.head.transformers, p.head.skip = dir, c.Transformers, c.AdapterOnly
	l, err := p.lora()
	if err != nil {
		f.Close()
		return nil, err
	}
	l.close = f.Close
	return l, nil
}

type peftReader struct {
	f      *safetensors.File
	m      *baseModel
	r      *Report
	config *peftConfig

	factors    map[string][2]matrix // by module, as the file calls it
	magnitudes map[string]matrix    // likewise, of a DoRA
	others     []string             // modules of a part for images or sound
	head       headReader
}

func newPEFTReader(f *safetensors.File, m *baseModel, config *peftConfig, r *Report) *peftReader {
	return &peftReader{f: f, m: m, r: r, config: config, factors: map[string][2]matrix{}, magnitudes: map[string]matrix{},
		head: headReader{parts: map[string]safetensors.Tensor{}}}
}

func (p *peftReader) format(format string, args ...any) error {
	return &FormatError{p.f.Path(), fmt.Sprintf(format, args...)}
}

func (p *peftReader) lora() (l *lora, err error) {
	for _, t := range p.f.Tensors() {
		if err := p.tensor(t); err != nil {
			return nil, err
		}
	}
	if err := p.checkMagnitudes(); err != nil {
		return nil, err
	}
	l = &lora{pairs: map[string]pair{}, baseName: p.config.baseName, invocation: p.config.invocation}
	for _, name := range slices.Sorted(maps.Keys(p.factors)) {
		if err := p.module(l, name); err != nil {
			return nil, err
		}
	}
	if n := len(p.others); n > 0 {
		p.r.note("%d modules of the part for images or sound are left out, %q among them: the GGUF has the language model only", n, p.others[0])
	}
	if len(l.pairs) == 0 {
		return nil, p.format("has no factors")
	}
	if l.head, err = p.classifier(); err != nil {
		return nil, err
	}
	if p.config.stabilized {
		p.r.note("use_rslora: the scale is alpha/√rank")
	}
	return l, nil
}

// tensor files a factor under its module.
func (p *peftReader) tensor(t safetensors.Tensor) error {
	name := plainName(t.Name)
	for _, suffixes := range peftSuffixes {
		for i, suffix := range suffixes {
			module, ok := strings.CutSuffix(name, suffix)
			if !ok {
				continue
			}
			ms, err := tensorMatrices(p.f, t)
			if err != nil {
				return err
			}
			if len(t.Shape) != 2 {
				return p.format("tensor %q: shape %v, want a matrix", t.Name, t.Shape)
			}
			pair := p.factors[module]
			if pair[i].read != nil {
				return p.format("tensor %q: another one has that name too, but for its prefixes", t.Name)
			}
			pair[i] = ms[0]
			p.factors[module] = pair
			return nil
		}
	}
	if module, ok := magnitudesModule(name); ok {
		m, err := vector(p.f, t)
		p.magnitudes[module] = m
		return err
	}
	if strings.HasSuffix(name, ".base_layer.weight") { // PEFT saves it with an adapter on the embeddings
		p.r.note("tensor %q: left out, it is the weight of the base", t.Name)
		return nil
	}
	if p.headPart(name, t) {
		return nil
	}
	return p.foreign(name, t)
}

// foreign refuses what is no factor.
func (p *peftReader) foreign(name string, t safetensors.Tensor) error {
	for _, f := range foreign {
		if strings.HasSuffix(name, f.end) && (f.named || !strings.Contains(name, ".lora_")) {
			return hint.With(&UnsupportedError{p.f.Path(), fmt.Sprintf("tensor %q: %s", t.Name, f.what)}, instead)
		}
	}
	return p.format("tensor %q: want a name that ends in %s or %s", t.Name, peftSuffixes[0][0], peftSuffixes[0][1])
}

// module checks a pair against the base and the configuration, and adds it.
func (p *peftReader) module(l *lora, name string) error {
	if plain, _ := p.m.unwrap(name); plain == pooler && p.m.hasPooler() {
		return p.poolerPair(name)
	}
	mod, wrapper, err := p.m.find(p.f.Path(), name)
	if err != nil && otherPart(name) {
		p.others = append(p.others, name)
		return nil
	}
	if err != nil {
		return err
	}
	if err := l.setWrapper(p.m, p.f.Path(), name, wrapper, mod); err != nil {
		return err
	}
	a, b := p.factors[name][0], p.factors[name][1]
	if err := mod.check(p.f.Path(), name, a, b); err != nil {
		return err
	}
	if !p.config.targeted(name, mod.layer) {
		return p.format("module %q: has factors, but %s does not target it", name, configFile)
	}
	rank, scale, err := p.config.scaleOf(name)
	if err != nil {
		return err
	}
	if rank != a.rows {
		return p.format("module %q: factors of rank %d, %s says %d", name, a.rows, configFile, rank)
	}
	magnitudes, err := p.magnitudesOf(name, mod)
	if err != nil {
		return err
	}
	return l.add(p.f.Path(), name, mod, pair{a: a, b: b, scale: scale, magnitudes: magnitudes})
}

// find looks a module up by its name in transformers.
func (m *baseModel) find(path, name string) (module, string, error) {
	plain, wrapper := m.unwrap(name)
	if i, ok := m.byName[plain]; ok {
		mod := m.modules[i]
		if mod.embedding && m.tied {
			return module{}, "", tiedError(path, name)
		}
		return mod, wrapper, nil
	}
	if plain == m.head {
		return module{}, "", tiedError(path, name)
	}
	if slices.Contains(m.unadapted, plain) {
		return module{}, "", hint.With(&UnsupportedError{path, fmt.Sprintf("module %q: llama.cpp applies no adapter there", name)},
			"train without it (exclude_modules in PEFT), or merge the adapter into the model and convert that")
	}
	err := &FormatError{path, fmt.Sprintf("module %q: is no matrix of the model that an adapter can be on", name)}
	return module{}, "", hint.With(err, fmt.Sprintf("the model has %d layers of architecture %q; %s", m.layers, m.Architecture, otherBase))
}

// setWrapper notes how the language model is called, by its first module, and refuses
// another way. The head has the same name with and without the wrapper of today.
func (l *lora) setWrapper(m *baseModel, path, name, wrapper string, mod module) error {
	switch {
	case mod.name == m.head && wrapper == "":
		return nil
	case !l.named:
		l.wrapper, l.named = wrapper, true
	case l.wrapper != wrapper:
		return &FormatError{path, fmt.Sprintf("module %q: other modules are called as in %q", name, m.wrap("model.layers", l.wrapper))}
	}
	return nil
}

// add adds a module, which two names of the file might mean.
func (l *lora) add(path, name string, mod module, p pair) error {
	if _, twice := l.pairs[mod.name]; twice {
		return &FormatError{path, fmt.Sprintf("module %q: comes twice, by different names", name)}
	}
	l.pairs[mod.name] = p
	return nil
}

// check compares a pair with the weight it is for.
func (mod module) check(path, name string, a, b matrix) error {
	switch {
	case a.read == nil || b.read == nil:
		return &FormatError{path, fmt.Sprintf("module %q: A or B is missing", name)}
	case a.cols != mod.in || b.rows != mod.out || a.rows != b.cols:
		return hint.With(&FormatError{path, fmt.Sprintf("module %q: A is [%d %d] and B [%d %d], want [rank %d] and [%d rank]",
			name, a.rows, a.cols, b.rows, b.cols, mod.in, mod.out)}, otherBase)
	}
	return nil
}

// writePEFT writes a folder that PEFT's from_pretrained reads.
func writePEFT(path string, m *baseModel, l *lora, r *Report) error {
	metadata := map[string]string{"format": "pt"}
	if err := m.prepareHead(l, metadata, r); err != nil {
		return err
	}
	b := safetensors.NewBuilder(metadata)
	modules := l.sorted(m)
	for _, mod := range modules {
		p := l.pairs[mod.name]
		suffixes := peftSuffixes[0]
		if mod.embedding {
			suffixes = peftSuffixes[1]
		}
		for i, f := range []matrix{p.a, p.b} {
			addMatrices(b, peftPrefix+m.wrap(mod.name, l.wrapper)+suffixes[i], []matrix{f}, false)
		}
	}
	m.addHead(b, l)
	config, alpha := peftSettings(m, l, modules)
	r.Alpha = alpha
	if l.baseName == "" {
		r.note("base_model_name_or_path is not known: PeftModel does without it, AutoPeftModel does not")
	}
	return writeFolder(path, peftWeights, b, jsonText(config))
}

// peftSettings returns the keys of LoraConfig that decide what an adapter does; the
// others have defaults.
func peftSettings(m *baseModel, l *lora, modules []module) (map[string]any, float64) {
	ranks, alphas := map[string]int{}, map[string]float64{}
	for _, mod := range modules {
		p := l.pairs[mod.name]
		ranks[mod.name] = p.rank()
		alphas[mod.name] = tidy(p.scale * float64(p.rank()))
	}
	rank, alpha := most(slices.Collect(maps.Values(ranks))), most(slices.Collect(maps.Values(alphas)))
	c := map[string]any{
		"peft_type":               "LORA",
		"task_type":               m.taskType(l),
		"base_model_name_or_path": nil,
		"r":                       rank,
		"lora_alpha":              wholeOrNot(alpha),
		"lora_dropout":            0.0,
		"target_modules":          targetNames(m, l, modules),
		"rank_pattern":            deviations(m, l, ranks, rank, func(v int) any { return v }),
		"alpha_pattern":           deviations(m, l, alphas, alpha, wholeOrNot),
		"use_rslora":              false,
		"use_dora":                false,
		"fan_in_fan_out":          m.conv1D,
		"bias":                    "none",
		"inference_mode":          true,
		"init_lora_weights":       true,
		"layers_pattern":          nil,
		"layers_to_transform":     nil,
		"modules_to_save":         m.savedModules(l),
		"revision":                nil,
	}
	if l.baseName != "" {
		c["base_model_name_or_path"] = l.baseName
	}
	if len(l.invocation) > 0 {
		c["alora_invocation_tokens"] = l.invocation
	}
	return c, alpha
}

// targetNames names exactly the modules of the adapter: by the last part of a name,
// or the last two, where all modules of the model that end so have one, else in full.
// What is beside a wrapped language model is not known, so there names are full.
func targetNames(m *baseModel, l *lora, modules []module) []string {
	targets := map[string]bool{}
	for _, mod := range modules {
		targets[m.shortest(mod.name, l.wrapper, func(other string) bool { _, ok := l.pairs[other]; return ok })] = true
	}
	return slices.Sorted(maps.Keys(targets))
}

// shortest returns the shortest end of a name, of one or two parts, that stands only
// for modules for which good holds; else all of it.
func (m *baseModel) shortest(name, wrapper string, good func(module string) bool) string {
	parts := strings.Split(name, ".")
	alone := wrapper == "" || len(m.prefixes) > 0 // nothing of the sort is beside an encoder
	for n := 1; n <= 2 && n < len(parts) && alone; n++ {
		end := strings.Join(parts[len(parts)-n:], ".")
		if !slices.ContainsFunc(m.modules, func(mod module) bool {
			return (mod.name == end || strings.HasSuffix(mod.name, "."+end)) && !good(mod.name)
		}) && !slices.ContainsFunc(m.unadapted, func(other string) bool { return other == end || strings.HasSuffix(other, "."+end) }) {
			return end
		}
	}
	return m.wrap(name, wrapper)
}

// deviations returns a rank_pattern or an alpha_pattern: what is not the common value,
// by names as targetNames has them.
func deviations[T int | float64](m *baseModel, l *lora, values map[string]T, common T, number func(T) any) map[string]any {
	rules := map[string]any{}
	for name, v := range values {
		if v != common {
			end := m.shortest(name, l.wrapper, func(other string) bool {
				w, ok := values[other]
				return !ok || w == v
			})
			rules[end] = number(v) // a regular expression, but PEFT too leaves the dots as they are
		}
	}
	return rules
}
