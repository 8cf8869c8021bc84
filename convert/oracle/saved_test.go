package oracle

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"finetune/convert"
	"finetune/convert/safetensors"
	"finetune/gguf"
	"finetune/internal/testmodel"
	"finetune/merge"
	"finetune/quant/plain"
)

// The bases of the adapters in ../testdata, in shape; their numbers are by formula.
var (
	savedLlama = testmodel.Spec{Arch: "llama", Layers: 2, Embd: 32, Heads: 4, HeadsKV: 2, FF: 64, Ctx: 64, Vocab: 640}
	savedGPT2  = testmodel.Spec{Arch: "gpt2", Layers: 2, Embd: 32, Heads: 4, HeadsKV: 4, FF: 64, Ctx: 64, Vocab: 640, Tied: true}
)

// savedTolerance is tolerance between programs. PyTorch computes GPT-2's GELU, where llama.cpp looks it up in a table of
// halves: that makes 2.5e-4, and 1e-6 where there is no such table.
const savedTolerance = 1e-3

// everyLogit is of how many tokens of the vocabulary one has its logit stored.
const everyLogit = 4

// What transformers with PEFT, and mlx-lm, computed with the adapters that they saved, is what llama.cpp computes with
// the converted ones.
func TestLogitsAreThoseOfTheProgramsThatSaved(t *testing.T) {
	for name, spec := range map[string]testmodel.Spec{
		"peft-llama": savedLlama, "peft-llama-patterns": savedLlama, "mlx-llama": savedLlama, "peft-gpt2": savedGPT2,
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join("..", "testdata", name)
			base := byFormula(t, spec)
			adapter := run(t, folder, convert.GGUF, base)
			checkLogits(t, savedTolerance, lastLogits(t, base, ""), lastLogits(t, base, adapter), storedLogits(t, folder))
		})
	}
}

// The same of a Qwen3.5 that llama.cpp's script converted: that has moved the heads of v.
func TestLogitsAreThoseOfSavedQwen35(t *testing.T) {
	folder, base := filepath.Join("..", "testdata", "peft-qwen35"), filepath.Join("..", "..", "trainer", "testdata", "architectures", "qwen35.gguf")
	adapter := run(t, folder, convert.GGUF, base)
	plain, want := lastLogits(t, base, ""), storedLogits(t, folder)
	checkLogits(t, savedTolerance, plain, lastLogits(t, base, adapter), want)
	back := run(t, run(t, adapter, convert.PEFT, base), convert.GGUF, base)
	checkLogits(t, savedTolerance, plain, lastLogits(t, base, back), want)
}

// A DoRA goes into the weights of its base.
func TestLogitsOfSavedDoRAMerged(t *testing.T) {
	folder := filepath.Join("..", "testdata", "peft-llama-dora")
	base, merged := byFormula(t, savedLlama), filepath.Join(t.TempDir(), "merged.gguf")
	dora := run(t, folder, convert.GGUF, base)
	if _, err := merge.Merge(t.Context(), merge.Config{Model: base, Adapters: []merge.Adapter{{Path: dora, Scale: 1}}, Out: merged}, nil); err != nil {
		t.Fatal(err)
	}
	checkLogits(t, savedTolerance, lastLogits(t, base, ""), lastLogits(t, merged, ""), storedLogits(t, folder))
}

// byFormula writes a model whose numbers are those of scripts/fixtures/formula.py.
func byFormula(t *testing.T, s testmodel.Spec) string {
	t.Helper()
	w := &world{name: s.Arch, source: vectorsByFormula(t, s), heads: s.Heads, kv: s.HeadsKV}
	return w.write(t, func(module string) weight {
		shape := w.shapeOf(module)
		spread := math.Sqrt(12 / float64(shape[0]))
		return weight{shape[0], shape[1], testmodel.Uniform(module, shape[0]*shape[1], float32(spread))}
	})
}

// shapeOf is n_in and n_out of a module that is one tensor by itself.
func (w *world) shapeOf(module string) (shape [2]int) {
	w.tensors(func(t gguf.Tensor, _ piece, modules []string, _ int) {
		if modules[0] == module {
			shape = [2]int{int(t.Shape[0]), int(t.Shape[1])}
		}
	})
	return shape
}

// vectorsByFormula is a model in which what belongs to no adaptable module is by formula: norms, biases and positions.
func vectorsByFormula(t *testing.T, s testmodel.Spec) *gguf.File {
	t.Helper()
	f, err := gguf.Open(testmodel.Path(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := gguf.NewBuilder()
	b.SetAll(f.KVs())
	for _, tensor := range f.Tensors() {
		if len(tensor.Shape) > 1 && tensor.Name != "position_embd.weight" {
			b.CopyTensor(f, tensor.Name)
			continue
		}
		n := int(tensor.Shape[0])
		if len(tensor.Shape) > 1 {
			n *= int(tensor.Shape[1])
		}
		v := testmodel.Uniform(tensor.Name, n, 0.5)
		if strings.HasSuffix(tensor.Name, "norm.weight") {
			for i := range v {
				v[i]++
			}
		}
		b.AddTensor(tensor.Name, gguf.TypeF32, tensor.Shape, floatBytes(v))
	}
	path := filepath.Join(t.TempDir(), "vectors.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	made, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { made.Close() })
	return made
}

// lastLogits are those behind the last token, as they are stored.
func lastLogits(t *testing.T, model, adapter string) (some []float32) {
	t.Helper()
	all := logits(t, model, adapter)
	vocab := len(all) / len(tokens)
	for i := len(all) - vocab; i < len(all); i += everyLogit {
		some = append(some, all[i])
	}
	return some
}

// storedLogits reads what is beside an adapter's folder.
func storedLogits(t *testing.T, folder string) []float32 {
	t.Helper()
	f, err := safetensors.Open(folder + ".logits.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := f.Data("logits")
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, len(data)/4)
	if err := plain.Decode(gguf.TypeF32, data, v); err != nil {
		t.Fatal(err)
	}
	return v
}
