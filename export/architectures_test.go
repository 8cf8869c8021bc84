package export

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/internal/testrun/trained"
	"finetune/run"
)

// archLossTolerance is what the loss of an exported adapter in llama.cpp may be off from the trainer's. llama.cpp keeps K and V
// in 16 bits, and GELU in a table; a product that it adapts otherwise than the trainer would be off by a share of the gain.
const archLossTolerance = 0.01

// leastGain is what an adapter has to learn for that to mean something.
const leastGain = 0.1

// unreadKV is Gemma 4 as it is published: with matrices for K and V in the layers that take them from others.
func unreadKV() testmodel.Variant {
	all := testmodel.Variants()
	v := all[slices.IndexFunc(all, func(v testmodel.Variant) bool { return v.Name == "gemma4" })]
	v.Name, v.Add = "gemma4 with K and V that nobody reads", maps.Clone(v.Add)
	maps.Copy(v.Add, map[string][]int64{"blk.2.attn_k.weight": {64, 32}, "blk.2.attn_v.weight": {64, 32}, "blk.2.attn_k_norm.weight": {16},
		"blk.3.attn_k.weight": {64, 64}, "blk.3.attn_v.weight": {64, 64}, "blk.3.attn_k_norm.weight": {32}})
	return v
}

func TestExportsOfEveryArchitectureHaveTheTrainersLoss(t *testing.T) {
	for _, v := range append(testmodel.Variants(), unreadKV()) {
		if v.Experts {
			continue
		}
		for _, method := range []string{"lora", "dual-lora"} {
			t.Run(v.Name+"/"+method, func(t *testing.T) {
				c := testrun.Tiny(t)
				c.Model = filepath.Join(t.TempDir(), "model.gguf")
				if err := v.Write(c.Model); err != nil {
					t.Fatal(err)
				}
				c.Method, c.Steps, c.Alpha = method, 20, 16
				s := trained.Run(t, c)
				_, r := exported(t, c, func(x *Config) { x.Mode = ModeExact })
				t.Logf("loss %.4f → %.4f by the trainer, %.4f → %.4f in llama.cpp", s.BaseValLoss, s.ValLoss, r.BaseLoss, r.ExportLoss)
				if !near.Within(r.BaseLoss, s.BaseValLoss, archLossTolerance) || !near.Within(r.ExportLoss, s.ValLoss, archLossTolerance) {
					t.Errorf("losses %.4f → %.4f in llama.cpp, %.4f → %.4f by the trainer", r.BaseLoss, r.ExportLoss, s.BaseValLoss, s.ValLoss)
				}
				if gain := s.BaseValLoss - s.ValLoss; !(gain > leastGain) {
					t.Errorf("the adapter gains %.4f, want more than %v", gain, leastGain)
				}
			})
		}
	}
}

func TestWholeModelsOfEveryArchitectureAreWritten(t *testing.T) {
	for _, v := range append(testmodel.Variants(), unreadKV()) {
		if v.Experts {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			c := testrun.By(run.MethodFull, testrun.Tiny(t))
			c.Model = filepath.Join(t.TempDir(), "model.gguf")
			if err := v.Write(c.Model); err != nil {
				t.Fatal(err)
			}
			s := trained.Run(t, c)
			_, val := testrun.Data(t, testrun.Model(t, c), c)
			saved := c
			saved.Model = s.Result
			got := trained.Loss(t, trained.Evaluator(t, testrun.Model(t, saved), c.Ctx), val.All())
			if !near.Within(got, float64(s.ValLoss), archLossTolerance) {
				t.Errorf("loss of model.gguf in llama.cpp %.4f, by the trainer %.4f", got, s.ValLoss)
			}
		})
	}
}
