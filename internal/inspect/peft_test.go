package inspect

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"finetune/convert"
	"finetune/convert/safetensors"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/quant/plain"
)

// realAdapter is one that PEFT trained on GPT-2: r 8, alpha 32.
const realAdapter = "../../../shared/data/adapters/peft-gpt2-r8"

// realTolerance is for norms of one adapter computed by its factors and by its ΔW, both in float64 but from factors that
// were read as float32.
const realTolerance = 1e-9

// The figures of a real adapter, against those of ΔW = 4·B·A in plain loops over PEFT's file.
func TestPathOfRealAdapter(t *testing.T) {
	if _, err := os.Stat(realAdapter); err != nil {
		t.Skip("no ../shared/data: ", err)
	}
	if testing.Short() {
		t.Skip("writes a model of 50 MB")
	}
	base := testmodel.Path(t, testmodel.Spec{Arch: "gpt2", Layers: 12, Embd: 768, Heads: 12, HeadsKV: 12, FF: 3072, Ctx: 64, Type: gguf.TypeQ4_0})
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	if _, err := convert.Run(convert.Config{From: realAdapter, To: convert.GGUF, Model: base, Out: path}); err != nil {
		t.Fatal(err)
	}
	r, err := describeFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a := r.Adapter
	if a == nil || len(a.Weights) != 36 || a.RankMin != 8 || a.RankMax != 8 || a.Alpha != 32 || a.ScaleMin != 4 || a.ScaleMax != 4 || r.Parameters != 811008 {
		t.Fatalf("%d parameters, adapter %+v", r.Parameters, a)
	}
	f, err := safetensors.Open(filepath.Join(realAdapter, "adapter_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := false
	for _, w := range a.Weights {
		if e, s := *w.EffectiveRank, *w.StableRank; !(e >= 1 && e <= 8 && s >= 1 && s <= 8) || len(w.SingularValues) != shownValues {
			t.Errorf("%s: %v effective, %v stable, values %v", w.Name, *w.EffectiveRank, *w.StableRank, w.SingularValues)
		}
		if w.Name == "blk.5.attn_output.weight" {
			found = true
			if want := peftNorm(t, f, "base_model.model.transformer.h.5.attn.c_proj", 768, 768); !near.Enough(*w.Norm, want, realTolerance*want) {
				t.Errorf("%s: ‖ΔW‖ %v, want %v", w.Name, *w.Norm, want)
			}
		}
	}
	if !found {
		t.Error("blk.5.attn_output.weight is not there")
	}
}

// peftNorm is ‖4·B·A‖ with B [out rows of 8] and A [8 rows of in], in plain loops.
func peftNorm(t *testing.T, f *safetensors.File, module string, in, out int) float64 {
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
	const rank, scale = 8, 32.0 / 8
	a, b, sum := read(".lora_A.weight", rank*in), read(".lora_B.weight", out*rank), 0.0
	for o := range out {
		for i := range in {
			v := 0.0
			for k := range rank {
				v += scale * float64(b[o*rank+k]) * float64(a[k*in+i])
			}
			sum += v * v
		}
	}
	return math.Sqrt(sum)
}
