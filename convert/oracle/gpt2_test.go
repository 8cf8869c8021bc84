package oracle

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"finetune/convert"
	"finetune/convert/safetensors"
	"finetune/gguf"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/quant/plain"
)

// gpt2Tensors is what transformers' modules are in llama.cpp.
var gpt2Tensors = map[string]string{"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}

// A model in GPT-2's shapes with an adapter that PEFT saved, against one in whose weights W + scale·B·A is.
func TestEffectOfRealAdapter(t *testing.T) {
	check := func(t *testing.T, folder string, s testmodel.Spec, a peftLoRA) {
		f, err := safetensors.Open(filepath.Join(folder, "adapter_model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		a.File = f
		base := testmodel.Path(t, s)
		merged := mergeGPT2(t, base, a)
		checkEffect(t, base, run(t, folder, convert.GGUF, base), merged)
	}
	t.Run("2 layers", func(t *testing.T) {
		check(t, need.Own(t, "convert/testdata/peft-gpt2"), savedGPT2, peftLoRA{rank: 2, scale: 4.0 / 2, modules: 8})
	})
	t.Run("12 layers", func(t *testing.T) {
		need.Long(t, "writes two models of 340 MB")
		check(t, need.Shared(t, "adapters/peft-gpt2-r8"), testmodel.Spec{Arch: "gpt2", Layers: 12, Embd: 768, Heads: 12, HeadsKV: 12, FF: 3072, Ctx: 64},
			peftLoRA{rank: 8, scale: 32.0 / 8, modules: 36})
	})
}

// peftLoRA is an adapter's file, and what its configuration says.
type peftLoRA struct {
	*safetensors.File
	rank    int
	scale   float32
	modules int
}

// mergeGPT2 writes the base with the adapter in its weights.
func mergeGPT2(t *testing.T, base string, adapter peftLoRA) string {
	t.Helper()
	model, err := gguf.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	changed := map[string]string{} // tensor to module
	for _, tensor := range adapter.Tensors() {
		var layer int
		module := strings.TrimSuffix(tensor.Name, ".lora_A.weight")
		name, ok := strings.CutPrefix(module, "base_model.model.transformer.h.")
		if module == tensor.Name || !ok {
			continue
		}
		digits, rest, _ := strings.Cut(name, ".")
		fmt.Sscan(digits, &layer)
		changed[fmt.Sprintf("blk.%d.%s.weight", layer, gpt2Tensors[rest])] = module
	}
	if len(changed) != adapter.modules {
		t.Fatalf("%d modules in the adapter, want %d", len(changed), adapter.modules)
	}
	b := gguf.NewBuilder()
	b.SetAll(model.KVs())
	for _, tensor := range model.Tensors() {
		module, ok := changed[tensor.Name]
		if !ok {
			b.CopyTensor(model, tensor.Name)
			continue
		}
		b.AddTensorFunc(tensor.Name, gguf.TypeF32, tensor.Shape, func(w io.Writer) error {
			_, err := w.Write(floatBytes(sum(t, model, tensor, adapter, module)))
			return err
		})
	}
	path := filepath.Join(t.TempDir(), "merged.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// sum is W + scale·B·A, rows of n_in: what PEFT computes with W as the Conv1D's transpose.
func sum(t *testing.T, model *gguf.File, tensor gguf.Tensor, adapter peftLoRA, module string) []float32 {
	rank, scale := adapter.rank, adapter.scale
	in, out := int(tensor.Shape[0]), int(tensor.Shape[1])
	read := func(data []byte, err error, n int) []float32 {
		v := make([]float32, n)
		if err == nil {
			err = plain.Decode(gguf.TypeF32, data, v)
		}
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	data, err := adapter.Data(module + ".lora_A.weight")
	a := read(data, err, rank*in)
	data, err = adapter.Data(module + ".lora_B.weight")
	b := read(data, err, out*rank)
	data, err = model.Data(tensor.Name)
	w := read(data, err, in*out)
	for i := range out {
		for k := range rank {
			factor := scale * b[i*rank+k]
			row, change := w[i*in:(i+1)*in], a[k*in:(k+1)*in]
			for j, v := range change {
				row[j] += factor * v
			}
		}
	}
	return w
}
