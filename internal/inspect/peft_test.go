package inspect

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"finetune/convert"
	"finetune/convert/safetensors"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/quant/plain"
)

// realTolerance is for norms of one adapter computed by its factors and by its ΔW, both in float64 but from factors that
// were read as float32.
const realTolerance = 1e-9

// savedLoRA is an adapter that PEFT saved over GPT-2, and what its figures are.
type savedLoRA struct {
	base        testmodel.Spec
	modules     int
	rank, alpha int
	parameters  int64
}

// The figures of real adapters, against those of ΔW = scale·B·A in plain loops over PEFT's file.
func TestPathOfRealAdapter(t *testing.T) {
	t.Run("2 layers", func(t *testing.T) {
		checkSaved(t, need.Own(t, "convert/testdata/peft-gpt2"), savedLoRA{
			testmodel.Spec{Arch: "gpt2", Layers: 2, Embd: 32, Heads: 4, HeadsKV: 4, FF: 64, Ctx: 64, Vocab: 640, Tied: true}, 8, 2, 4, 1536})
	})
	t.Run("12 layers", func(t *testing.T) {
		need.Long(t, "writes a model of 50 MB")
		checkSaved(t, need.Shared(t, "adapters/peft-gpt2-r8"), savedLoRA{
			testmodel.Spec{Arch: "gpt2", Layers: 12, Embd: 768, Heads: 12, HeadsKV: 12, FF: 3072, Ctx: 64, Type: gguf.TypeQ4_0}, 36, 8, 32, 811008})
	})
}

func checkSaved(t *testing.T, folder string, want savedLoRA) {
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	if _, err := convert.Run(convert.Config{From: folder, To: convert.GGUF, Model: testmodel.Path(t, want.base), Out: path}); err != nil {
		t.Fatal(err)
	}
	r, err := describeFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a, scale := r.Adapter, float64(want.alpha)/float64(want.rank)
	if a == nil || len(a.Weights) != want.modules || a.RankMin != want.rank || a.RankMax != want.rank || a.Alpha != float64(want.alpha) ||
		a.ScaleMin != scale || a.ScaleMax != scale || r.Parameters != want.parameters {
		t.Fatalf("%d parameters, adapter %+v, want %+v", r.Parameters, a, want)
	}
	f, err := safetensors.Open(filepath.Join(folder, "adapter_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	last := want.base.Layers - 1
	name, found := fmt.Sprintf("blk.%d.attn_output.weight", last), false
	for _, w := range a.Weights {
		if e, s, most := *w.EffectiveRank, *w.StableRank, float64(want.rank); !(e >= 1 && e <= most && s >= 1 && s <= most) ||
			len(w.SingularValues) != min(shownValues, want.rank) {
			t.Errorf("%s: %v effective, %v stable, values %v", w.Name, *w.EffectiveRank, *w.StableRank, w.SingularValues)
		}
		if w.Name == name {
			found = true
			module := fmt.Sprintf("base_model.model.transformer.h.%d.attn.c_proj", last)
			if norm := peftNorm(t, f, module, want.base.Embd, want.rank, scale); !near.Enough(*w.Norm, norm, realTolerance*norm) {
				t.Errorf("%s: ‖ΔW‖ %v, want %v", w.Name, *w.Norm, norm)
			}
		}
	}
	if !found {
		t.Errorf("%s is not there", name)
	}
}

// peftNorm is ‖scale·B·A‖ with B [n rows of rank] and A [rank rows of n], in plain loops.
func peftNorm(t *testing.T, f *safetensors.File, module string, n, rank int, scale float64) float64 {
	t.Helper()
	read := func(name string, n int) []float32 {
		v := make([]float32, n)
		data, err := f.Data(module + name)
		if err == nil {
			err = plain.Decode(gguf.TypeF32, data, v)
		}
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	a, b, sum := read(".lora_A.weight", rank*n), read(".lora_B.weight", n*rank), 0.0
	for o := range n {
		for i := range n {
			v := 0.0
			for k := range rank {
				v += scale * float64(b[o*rank+k]) * float64(a[k*n+i])
			}
			sum += v * v
		}
	}
	return math.Sqrt(sum)
}
