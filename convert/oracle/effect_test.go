package oracle

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/convert"
	"finetune/convert/safetensors"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/testmodel"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// How far the logits of base and adapter may be from those of the merged model, of
// the largest change that the adapter makes. Both are computed in float32, but in
// another order, which makes 1e-6 of it. A row out of its place changes as much as the
// adapter does.
const tolerance = 2e-4

// tableTolerance is for architectures with GELU, which the CPU reads from a table of half-precision numbers: where a sum is formed in
// another order, which processors do differently, another entry is read.
const tableTolerance = 1e-3

// toleranceOf returns the one for an architecture, by its name.
func toleranceOf(name string) float64 {
	for _, gelu := range []string{"bloom", "falcon", "gemma", "gpt2", "gptneox", "mpt", "phi2", "starcoder"} {
		if strings.HasPrefix(name, gelu) {
			return tableTolerance
		}
	}
	return tolerance
}

// leastEffect is the change of logits that an adapter has to make for the comparison
// to mean something; they are of order one.
const leastEffect = 0.05

// lora is an adapter on modules of transformers, in plain numbers.
type lora struct {
	rank  int
	scale float64
	a     []float32 // [rank][in]
	b     []float32 // [out][rank]
	m     []float32 // [out], the magnitudes of a DoRA; else nil
}

// world is a tiny model in transformers' layout, and an adapter on all of it.
type world struct {
	name    string
	source  *gguf.File // the tiny model: its keys, norms and shapes
	heads   int
	kv      int
	weights map[string]weight // by module
	loras   map[string]lora
}

// random draws n numbers by a name.
func random(name string, n int, std float64) []float32 {
	h := fnv.New64a()
	io.WriteString(h, name)
	r := rand.New(rand.NewPCG(11, h.Sum64()))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(std * r.NormFloat64())
	}
	return v
}

// tensors calls visit for every tensor of the model that modules make, one expert after
// the other, with the modules' names.
func (w *world) tensors(visit func(t gguf.Tensor, p piece, modules []string, expert int)) {
	for _, t := range w.source.Tensors() {
		layer, name := -1, strings.TrimSuffix(t.Name, ".weight")
		if rest, ok := strings.CutPrefix(name, "blk."); ok {
			digits, after, _ := strings.Cut(rest, ".")
			fmt.Sscan(digits, &layer)
			name = after
		}
		for _, p := range family(w.name) {
			if p.tensor != name || !strings.HasSuffix(t.Name, ".weight") {
				continue
			}
			experts := 1
			if len(t.Shape) == 3 {
				experts = int(t.Shape[2])
			}
			for e := range experts {
				var modules []string
				for _, m := range p.modules {
					modules = append(modules, fill(m, layer, e))
				}
				visit(t, p, modules, e)
			}
		}
	}
}

// newWorld draws weights in transformers' layout for the shapes of a tiny model, and
// an adapter on every matrix, its strength set by each of PEFT's ways.
func newWorld(t *testing.T, name, path string) (*world, map[string]any) {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	q, _ := f.Uint(f.Architecture() + ".attention.head_count")
	kv, _ := f.Uint(f.Architecture() + ".attention.head_count_kv")
	w := &world{name, f, int(q), int(kv), map[string]weight{}, map[string]lora{}}
	_, untied := f.Tensor("output.weight")
	strength := newStrength(name)
	w.tensors(func(t gguf.Tensor, p piece, modules []string, _ int) {
		for i, module := range modules {
			if _, again := w.weights[module]; again {
				continue
			}
			in, out := int(t.Shape[0]), w.rows(t, module, i, len(modules))
			std := 1 / math.Sqrt(float64(in))
			w.weights[module] = weight{in, out, random(module, in*out, std)}
			if t.Name == "token_embd.weight" {
				if !untied {
					continue // one adapter for two matrices: refused
				}
				in, out = out, in
			}
			r, scale := strength.of(module)
			w.loras[module] = lora{rank: r, scale: scale, a: random(module+" A", r*in, std),
				b: random(module+" B", r*out, 0.3/scale/math.Sqrt(float64(r)))}
		}
	})
	return w, strength.config
}

// rows of a module: of three in one tensor each has its heads, of one in three all.
func (w *world) rows(t gguf.Tensor, module string, i, n int) int {
	out := int(t.Shape[1])
	switch d := out / (w.heads + 2*w.kv); {
	case n == 3 && i == 0:
		return d * w.heads
	case n == 3:
		return d * w.kv
	case strings.HasSuffix(module, ".wqkv"):
		heads := w.heads
		if strings.Contains(t.Name, "attn_k") || strings.Contains(t.Name, "attn_v") {
			heads = w.kv
		}
		return out / heads * (w.heads + 2*w.kv)
	}
	return out
}

// strength is a setting of PEFT: a rank and an alpha for most, others for some.
type strength struct {
	config map[string]any
	root   bool
}

func newStrength(name string) strength {
	s := strength{root: len(name)%2 == 0}
	s.config = map[string]any{"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "r": 4, "lora_alpha": 6, "use_rslora": s.root,
		"rank_pattern":  map[string]int{`.*\.0\.(.*\.)?(v_proj|up_proj|wqkv|dense|c_fc|out_proj|w1)`: 3},
		"alpha_pattern": map[string]float64{"k_proj": 9.5, "down_proj": 2}}
	return s
}

// of is the rank and the scale of a module, found without a regular expression.
func (s strength) of(module string) (int, float64) {
	r, alpha := 4, 6.0
	last := module[strings.LastIndexByte(module, '.')+1:]
	if strings.Contains(module, ".0.") && slices.Contains([]string{"v_proj", "up_proj", "wqkv", "dense", "c_fc", "out_proj", "w1"}, last) {
		r = 3
	}
	switch last {
	case "k_proj":
		alpha = 9.5
	case "down_proj":
		alpha = 2
	}
	if s.root {
		return r, alpha / math.Sqrt(float64(r))
	}
	return r, alpha / float64(r)
}

// merged returns a module's weight, or the rows of a table, with the adapter added.
func (w *world) merged(module string) weight {
	base, l := w.weights[module], w.loras[module]
	if l.rank == 0 {
		return base
	}
	sum := weight{base.in, base.out, slices.Clone(base.v)}
	table := len(l.a) == l.rank*base.out && len(l.a) != l.rank*base.in // A is [rank][vocab], B [dim][rank]
	for i := range base.out {
		for j := range base.in {
			delta := 0.0
			for k := range l.rank {
				if table {
					delta += float64(l.b[j*l.rank+k]) * float64(l.a[k*base.out+i])
				} else {
					delta += float64(l.b[i*l.rank+k]) * float64(l.a[k*base.in+j])
				}
			}
			sum.v[i*base.in+j] += float32(l.scale * delta)
		}
	}
	return sum
}

// write writes a GGUF of the weights that get returns, as the converter would.
func (w *world) write(t *testing.T, get func(module string) weight) string {
	t.Helper()
	b := gguf.NewBuilder()
	b.SetAll(w.source.KVs())
	data := map[string][]float32{}
	w.tensors(func(t gguf.Tensor, p piece, modules []string, _ int) {
		var all weight
		for _, module := range modules {
			part := get(module)
			all = weight{part.in, all.out + part.out, append(all.v, part.v...)}
		}
		data[t.Name] = append(data[t.Name], p.make(all, w.heads, w.kv)...)
	})
	for _, tensor := range w.source.Tensors() {
		v, ours := data[tensor.Name]
		if !ours {
			b.CopyTensor(w.source, tensor.Name)
			continue
		}
		b.AddTensor(tensor.Name, gguf.TypeF32, tensor.Shape, floatBytes(v))
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func floatBytes(v []float32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// peft writes the adapter as PEFT would.
func (w *world) peft(t *testing.T, config map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	b := safetensors.NewBuilder(map[string]string{"format": "pt"})
	add := func(name string, v []float32, shape ...int64) {
		b.Add(name, safetensors.F32, shape, func() ([]byte, error) { return floatBytes(v), nil })
	}
	for module, l := range w.loras {
		a, bName := ".lora_A.weight", ".lora_B.weight"
		if strings.HasSuffix(module, "embed_tokens") || strings.HasSuffix(module, "wte") || strings.Contains(module, "embeddings") || strings.HasSuffix(module, "embed_in") {
			a, bName = ".lora_embedding_A", ".lora_embedding_B"
		}
		rank := int64(l.rank)
		add("base_model.model."+module+a, l.a, rank, int64(len(l.a))/rank)
		add("base_model.model."+module+bName, l.b, int64(len(l.b))/rank, rank)
		if l.m != nil {
			add("base_model.model."+module+".lora_magnitude_vector", l.m, int64(len(l.m)))
		}
	}
	var file bytes.Buffer
	if _, err := b.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"adapter_model.safetensors": file.Bytes(), "adapter_config.json": text} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tokens to look at: any will do, these differ.
var tokens = []int32{5, 17, 300, 42, 7, 256, 99, 5, 310, 64, 128, 33}

// logits decodes the tokens, in float32 throughout, and returns all rows.
func logits(t *testing.T, model, adapter string) []float32 {
	t.Helper()
	m, err := llama.LoadModel(model, llama.ModelParams{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	full := ggml.F32
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 64, Threads: 1, FlashAttn: llama.FlashAttnOff, TypeK: &full, TypeV: &full})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if adapter != "" {
		a, err := llama.LoadAdapter(m, adapter)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if err := c.SetAdapter(a, 1); err != nil {
			t.Fatal(err)
		}
		defer c.ClearAdapters()
	}
	var all []float32
	wanted := make([]bool, len(tokens))
	for i := range wanted {
		wanted[i] = true
	}
	if err := c.Decode(llama.Batch{Tokens: tokens, Output: wanted}); err != nil {
		t.Fatal(err)
	}
	for i := range tokens {
		all = append(all, c.Logits(i)...)
	}
	return all
}

// checkEffect compares base and adapter with the merged model.
func checkEffect(t *testing.T, base, adapter, merged string) {
	t.Helper()
	checkEffectWithin(t, tolerance, base, adapter, merged)
}

func checkEffectWithin(t *testing.T, tolerance float64, base, adapter, merged string) {
	t.Helper()
	checkLogits(t, tolerance, logits(t, base, ""), logits(t, base, adapter), logits(t, merged, ""))
}

// checkLogits compares logits with the adapter, given those of the base alone, to a share of the largest change.
func checkLogits(t *testing.T, tolerance float64, plain, got, want []float32) {
	t.Helper()
	effect, off := near.Farthest(want, plain), near.Farthest(got, want)
	t.Logf("the adapter changes logits by up to %.3g; they are off by up to %.3g", effect, off)
	if effect < leastEffect {
		t.Errorf("the adapter changes logits by %g, want more than %g", effect, leastEffect)
	}
	if !near.Enough(off, 0.0, tolerance*effect) {
		t.Errorf("logits are off by %g, want at most %g of %g", off, tolerance, effect)
	}
}

// tinyModels are those of every architecture, by name.
func tinyModels(t *testing.T) map[string]string {
	t.Helper()
	dir, paths := t.TempDir(), map[string]string{}
	for _, arch := range testmodel.Architectures() {
		paths[arch] = filepath.Join(dir, arch+".gguf")
		if err := testmodel.Write(paths[arch], testmodel.Spec{Arch: arch}); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range testmodel.Variants() {
		if v.Unconverted {
			continue
		}
		paths[v.Name] = filepath.Join(dir, fmt.Sprint(i, ".gguf"))
		if err := v.Write(paths[v.Name]); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

func run(t *testing.T, from string, to convert.Format, model string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if _, err := convert.Run(convert.Config{From: from, To: to, Model: model, Out: out}); err != nil {
		t.Fatal(err)
	}
	return out
}

// For every architecture: an adapter on every matrix, in transformers' layout, has
// after conversion the effect that merging it there and converting the model has.
func TestEffectEqualsMergedModel(t *testing.T) {
	paths := tinyModels(t)
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		t.Run(name, func(t *testing.T) {
			w, config := newWorld(t, name, paths[name])
			base := w.write(t, func(module string) weight { return w.weights[module] })
			merged := w.write(t, w.merged)
			lora := run(t, w.peft(t, config), convert.GGUF, base)
			checkEffectWithin(t, toleranceOf(name), base, lora, merged)
			checkEffectWithin(t, toleranceOf(name), base, run(t, run(t, lora, convert.PEFT, base), convert.GGUF, base), merged)
		})
	}
}
