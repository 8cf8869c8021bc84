package convert

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/quant/plain"
)

// Keys for the way back, beside those of package adapter.
const (
	keyHFModel     = "finetune.hf.model"      // base_model_name_or_path
	keyHFWrapper   = "finetune.hf.wrapper"    // see wrap
	keyFolded      = "finetune.folded.names"  // tensors whose B was multiplied …
	keyFoldFactors = "finetune.folded.scales" // … by this
)

// readGGUF reads a GGUF LoRA, whoever made it.
func readGGUF(path string, m *baseModel, r *Report) (*lora, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	l, err := (&ggufReader{f, m, r, map[string]map[string][]matrix{}}).lora()
	if err != nil {
		f.Close()
		return nil, err
	}
	l.close = f.Close
	return l, nil
}

type ggufReader struct {
	f       *gguf.File
	m       *baseModel
	r       *Report
	factors map[string]map[string][]matrix // by tensor of the base, then by suffix; one, or one for each expert
}

func (g *ggufReader) format(format string, args ...any) error {
	return &FormatError{g.f.Path(), fmt.Sprintf(format, args...)}
}

func (g *ggufReader) unsupported(format string, args ...any) error {
	return &UnsupportedError{g.f.Path(), fmt.Sprintf(format, args...)}
}

func (g *ggufReader) lora() (*lora, error) {
	if err := g.checkKind(); err != nil {
		return nil, err
	}
	alpha, err := g.alpha()
	if err != nil {
		return nil, err
	}
	for _, t := range g.f.Tensors() {
		if err := g.tensor(t); err != nil {
			return nil, err
		}
	}
	pairs, err := g.pairs(alpha)
	if err != nil {
		return nil, err
	}
	g.unfold(pairs)
	c, err := mapPairs(pairs, g.m.toModules(), g.m.rowsOfModule())
	if err != nil {
		return nil, fmt.Errorf("convert: %q: %w", g.f.Path(), err)
	}
	g.r.addMapped(c)
	l := &lora{pairs: c.pairs}
	l.baseName = g.baseName()
	if wrapper, _ := g.f.String(keyHFWrapper); slices.Contains(append([]string{wrapperNew, wrapperOld}, g.m.prefixes...), wrapper) {
		l.wrapper = wrapper
	}
	for _, key := range []string{"adapter.lora.task_name", "adapter.lora.prompt_prefix"} {
		if text, err := g.f.String(key); err == nil && text != "" {
			g.r.note("%s is left out: it is %q", key, text)
		}
	}
	if l.invocation, err = g.invocation(); err != nil {
		return nil, err
	}
	l.head, err = g.classifier()
	return l, err
}

func (g *ggufReader) checkKind() error {
	kind, _ := g.f.String(adapter.KeyKind)
	switch general, _ := g.f.String(adapter.KeyType); {
	case general != "adapter":
		return hint.With(g.format("general.type is %q, want \"adapter\"", general), "--from is the adapter, --model its base")
	case kind != adapter.MethodLoRA.FileType():
		if m, ok := adapter.MethodOfFile(kind); ok {
			return hint.With(g.unsupported("holds %s as it is trained, which no other format can hold", m),
				"finetune export --run RUNDIR --out adapter.gguf makes a GGUF LoRA of its run, which can be converted")
		}
		return g.unsupported("adapter.type is %q, want \"lora\"", kind)
	case g.f.Architecture() != g.m.Architecture:
		return g.format("made for architecture %q, the model is %q", g.f.Architecture(), g.m.Architecture)
	}
	if hash, _ := g.f.String(adapter.KeyBaseHash); hash != "" && hash != g.m.Hash {
		name, _ := g.f.String(adapter.KeyBaseName)
		g.r.note("trained on another base, %q: its shapes fit %q, its meaning may not", name, g.m.Name)
	}
	return nil
}

// alpha returns 0 when the key is missing, as llama.cpp does.
func (g *ggufReader) alpha() (float64, error) {
	alpha, err := g.f.Float(adapter.KeyAlpha)
	switch {
	case errors.Is(err, gguf.ErrNoKey):
		return 0, nil
	case err != nil:
		return 0, err
	case math.IsNaN(alpha) || alpha != 0 && !usable(alpha):
		return 0, g.format("%s is %v", adapter.KeyAlpha, alpha)
	}
	return alpha, nil
}

// baseName returns the model in transformers: as writeGGUF noted it, or llama.cpp's
// converter.
func (g *ggufReader) baseName() string {
	if name, err := g.f.String(keyHFModel); err == nil {
		return name
	}
	url, _ := g.f.String("general.base_model.0.repo_url")
	name, _ := strings.CutPrefix(url, "https://huggingface.co/")
	return name
}

// invocation reads the tokens that switch an aLoRA on.
func (g *ggufReader) invocation() ([]uint32, error) {
	tokens, err := g.f.Ints(adapter.KeyInvocation)
	if errors.Is(err, gguf.ErrNoKey) {
		return nil, nil
	}
	var list []uint32
	for _, t := range tokens {
		if t < 0 || t > math.MaxInt32 {
			return nil, g.format("%s: %d is no token", adapter.KeyInvocation, t)
		}
		list = append(list, uint32(t))
	}
	return list, err
}

// tensor files a factor under the tensor of the base that it is for.
func (g *ggufReader) tensor(t gguf.Tensor) error {
	if strings.HasSuffix(t.Name, "_norm.weight") {
		g.r.note("tensor %q: left out, llama.cpp does not use it either", t.Name)
		return nil
	}
	weight, suffix, err := g.split(t)
	if err != nil {
		return err
	}
	ms, err := g.matrices(t)
	if err != nil {
		return err
	}
	if g.factors[weight] == nil {
		g.factors[weight] = map[string][]matrix{}
	}
	g.factors[weight][suffix] = ms
	return nil
}

// split takes the name of a factor apart and checks that its tensor is one that an
// adapter can be on.
func (g *ggufReader) split(t gguf.Tensor) (weight, suffix string, err error) {
	dot := max(strings.LastIndexByte(t.Name, '.'), 0)
	weight, suffix = t.Name[:dot], strings.TrimPrefix(t.Name[dot:], ".")
	_, adaptable := g.m.byWeight[weight]
	switch {
	case suffix != "lora_a" && suffix != "lora_b":
		return "", "", g.format("tensor %q: want a name that ends in .lora_a or .lora_b", t.Name)
	case g.m.shapes[weight] == nil:
		return "", "", hint.With(g.format("tensor %q: the model has no %q", t.Name, weight), otherBase)
	case !adaptable:
		return "", "", g.unsupported("tensor %q: the module in transformers is not known", t.Name)
	case weight == "token_embd.weight" && g.m.tied:
		return "", "", tiedError(g.f.Path(), t.Name)
	}
	return weight, suffix, nil
}

// tiedError refuses an adapter on a matrix that is embeddings and head at once.
func tiedError(path, name string) error {
	const why = "in this model the head is the embeddings, and the formats disagree on what an adapter there does"
	return hint.With(&UnsupportedError{path, fmt.Sprintf("%q: %s", name, why)},
		"train without the embeddings and the head, or merge the adapter into the model and convert that")
}

// matrices decodes a factor [cols, rows] or [cols, rows, experts]. Dimensions that are
// missing are 1: ggml drops the last ones.
func (g *ggufReader) matrices(t gguf.Tensor) ([]matrix, error) {
	shape := append(slices.Clone(t.Shape), 1, 1)[:max(3, len(t.Shape))]
	if len(shape) > 3 || slices.Min(shape) < 1 {
		return nil, g.format("tensor %q: shape %v, want a matrix", t.Name, t.Shape)
	}
	if !plain.Supports(t.Type) {
		return nil, g.unsupported("tensor %q: type %s, want f32, f16, bf16 or q8_0", t.Name, t.Type)
	}
	typ := t.Type
	if typ == gguf.TypeQ8_0 {
		typ = gguf.TypeF32
	}
	size := t.Bytes() / shape[2]
	var all []matrix
	for e := range shape[2] {
		m := matrix{typ, int(shape[1]), int(shape[0]), func() ([]byte, error) {
			data, err := g.f.Data(t.Name)
			if err != nil {
				return nil, err
			}
			data = data[e*size : (e+1)*size]
			if t.Type == gguf.TypeQ8_0 {
				v := make([]float32, shape[0]*shape[1])
				if err := plain.Decode(t.Type, data, v); err != nil {
					return nil, err
				}
				return plain.Append(nil, typ, v)
			}
			return data, nil
		}}
		if err := m.checkFinite(g.f.Path(), t.Name); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// pairs joins the factors, by the key of the tensor or expert.
func (g *ggufReader) pairs(alpha float64) (map[string]pair, error) {
	pairs := map[string]pair{}
	for _, weight := range slices.Sorted(maps.Keys(g.factors)) {
		as, bs := g.factors[weight]["lora_a"], g.factors[weight]["lora_b"]
		if as == nil || bs == nil {
			return nil, g.format("tensor %q: lora_a or lora_b is missing", weight)
		}
		shape := append(slices.Clone(g.m.shapes[weight]), 1)[:3]
		if weight == "token_embd.weight" { // the table is looked up: A is [vocab][rank] there
			as[0] = as[0].transposed()
			shape[0], shape[1] = shape[1], shape[0]
		}
		for i := range as {
			if len(as) != int(shape[2]) || len(bs) != len(as) ||
				as[i].cols != int(shape[0]) || bs[i].rows != int(shape[1]) || as[i].rows != bs[i].cols {
				err := g.format("tensor %q: the factors are for other shapes than the model's %v", weight, g.m.shapes[weight])
				return nil, hint.With(err, otherBase)
			}
			scale := 1.0
			if alpha != 0 {
				scale = alpha / float64(as[i].rows)
			}
			expert := i
			if len(g.m.shapes[weight]) < 3 {
				expert = -1
			}
			pairs[weightKey(weight, expert)] = pair{a: as[i], b: bs[i], scale: scale}
		}
	}
	if len(pairs) == 0 {
		return nil, g.format("has no factors")
	}
	return pairs, nil
}

// unfold undoes what writeGGUF noted. Keys of another form are of no use, and harm
// nothing: the adapter's effect is the same either way.
func (g *ggufReader) unfold(pairs map[string]pair) {
	names, _ := g.f.Strings(keyFolded)
	factors, _ := g.f.Floats(keyFoldFactors)
	var folds []fold
	for i, name := range names[:min(len(names), len(factors))] {
		folds = append(folds, fold{name, float64(factors[i])})
		if shape := g.m.shapes[name]; len(shape) == 3 {
			for e := range int(shape[2]) {
				folds = append(folds, fold{weightKey(name, e), float64(factors[i])})
			}
		}
	}
	unfold(pairs, folds)
}
