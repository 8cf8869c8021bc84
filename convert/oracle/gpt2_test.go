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
	"finetune/internal/testmodel"
	"finetune/quant/plain"
)

// realAdapter is one that PEFT trained on GPT-2, with fan_in_fan_out: r 8, alpha 32.
const realAdapter = "../../../shared/data/adapters/peft-gpt2-r8"

// gpt2Tensors is what transformers' modules are in llama.cpp.
var gpt2Tensors = map[string]string{"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}

// A model in GPT-2's shapes with the real adapter, against one in whose weights
// W + (32/8)·B·A is.
func TestEffectOfRealAdapter(t *testing.T) {
	if testing.Short() {
		t.Skip("writes two models of 340 MB")
	}
	f, err := safetensors.Open(filepath.Join(realAdapter, "adapter_model.safetensors"))
	if err != nil {
		t.Skip("no ../shared/data: ", err)
	}
	defer f.Close()
	base := testmodel.Path(t, testmodel.Spec{Arch: "gpt2", Layers: 12, Embd: 768, Heads: 12, HeadsKV: 12, FF: 3072, Ctx: 64})
	merged := mergeGPT2(t, base, f)
	checkEffect(t, base, run(t, realAdapter, convert.GGUF, base), merged)
}

// mergeGPT2 writes the base with the adapter in its weights.
func mergeGPT2(t *testing.T, base string, adapter *safetensors.File) string {
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
	if len(changed) != 36 {
		t.Fatalf("%d modules in the adapter, want 36", len(changed))
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

// sum is W + 4·B·A, rows of n_in: what PEFT computes with W as the Conv1D's transpose.
func sum(t *testing.T, model *gguf.File, tensor gguf.Tensor, adapter *safetensors.File, module string) []float32 {
	const rank, scale = 8, 32.0 / 8
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
