package export

import (
	"path/filepath"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/imatrix"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/internal/testrun/trained"
	"finetune/merge"
	"finetune/quant"
)

// typeLossTolerance is what the loss of a base in a quantized type may be off in llama.cpp, which rounds what it multiplies with
// the weights to eight bits.
const typeLossTolerance = 0.03

// inType writes a tiny model with the matrices of its blocks in a type; its rows are whole blocks of every type.
func inType(t *testing.T, typ gguf.Type) string {
	t.Helper()
	f, err := gguf.Open(testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 256, FF: 256, Ctx: 64}))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := gguf.NewBuilder()
	b.SetAll(f.KVs())
	for _, tensor := range f.Tensors() {
		if len(tensor.Shape) < 2 || tensor.Name == "token_embd.weight" || tensor.Name == "output.weight" {
			b.CopyTensor(f, tensor.Name)
			continue
		}
		raw, err := f.Data(tensor.Name)
		values := make([]float32, tensor.Elements())
		if err == nil {
			err = quant.Decode(tensor.Type, raw, values)
		}
		importance := make([]float32, tensor.Shape[0])
		for i := range importance {
			importance[i] = 1
		}
		data := raw
		if err == nil {
			data, err = quant.Encode(typ, values, int(tensor.Shape[0]), importance)
		}
		if err != nil {
			t.Fatal(err)
		}
		b.AddTensor(tensor.Name, typ, tensor.Shape, data)
	}
	path := filepath.Join(t.TempDir(), "base.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// A base in any type is trained, its adapter exported, and merged into the same type.
func TestBasesOfEveryTypeAreTrainedAndMerged(t *testing.T) {
	for _, typ := range quant.Types() {
		t.Run(typ.String(), func(t *testing.T) {
			if strings.HasPrefix(typ.String(), "iq1") || strings.HasPrefix(typ.String(), "iq2") {
				need.Long(t, "the grids of these types take seconds to make")
			}
			c := testrun.Tiny(t)
			c.Model, c.Method, c.Alpha, c.Steps = inType(t, typ), "lora", 16, 10
			s := trained.Run(t, c)
			x, r := exported(t, c, func(x *Config) { x.Mode = ModeExact })
			m, err := merge.Merge(t.Context(), merge.Config{Model: c.Model, Adapters: []merge.Adapter{{Path: x.Out, Scale: 1}},
				IMatrix: filepath.Join(c.Out, imatrix.FileName), Out: filepath.Join(t.TempDir(), "merged.gguf")}, nil)
			if err != nil {
				t.Fatal(err)
			}
			merged := c
			merged.Model = m.Files[0]
			_, val := testrun.Data(t, testrun.Model(t, c), c)
			got := trained.Loss(t, trained.Evaluator(t, testrun.Model(t, merged), c.Ctx), val.All())
			t.Logf("loss %.4f → %.4f by the trainer, %.4f → %.4f in llama.cpp, merged %.4f", s.BaseValLoss, s.ValLoss, r.BaseLoss, r.ExportLoss, got)
			if !near.Within(r.BaseLoss, s.BaseValLoss, typeLossTolerance) || !near.Within(r.ExportLoss, s.ValLoss, typeLossTolerance) {
				t.Errorf("losses %.4f → %.4f in llama.cpp, %.4f → %.4f by the trainer", r.BaseLoss, r.ExportLoss, s.BaseValLoss, s.ValLoss)
			}
			if !(r.ExportLoss < r.BaseLoss-leastGain) || !(got < float64(r.BaseLoss)) {
				t.Errorf("loss %.4f → %.4f with the adapter, %.4f merged, want less", r.BaseLoss, r.ExportLoss, got)
			}
			for _, tensor := range m.Tensors {
				if tensor.Type != typ.String() {
					t.Errorf("%s is merged into %s, want %s", tensor.Name, tensor.Type, typ)
				}
			}
		})
	}
}
