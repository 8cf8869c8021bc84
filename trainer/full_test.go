package trainer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/model"
	"finetune/run"
)

// whole is tiny, trained whole, over a model of a type.
func whole(t testing.TB, spec testmodel.Spec) run.Config {
	c := testrun.By(run.MethodFull, testrun.Tiny(t))
	spec.Layers, spec.Embd, spec.FF, spec.Ctx = 2, 32, 64, 64
	c.Model = testmodel.Path(t, spec)
	return c
}

func TestWholeModelThatNothingChangedIsTheBaseByteForByte(t *testing.T) {
	for _, arch := range testmodel.Architectures() {
		for _, typ := range []gguf.Type{gguf.TypeF32, gguf.TypeF16, gguf.TypeBF16} {
			c := whole(t, testmodel.Spec{Arch: arch, Type: typ})
			c.LR, c.Steps = 0, 2 // which Validate refuses
			s, err := Train(context.Background(), c, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(testrun.Read(t, c.Out, run.ModelFile), testrun.Read(t, c.Model)) {
				t.Errorf("%s in %s: model.gguf differs from the base", arch, typ)
			}
			if s.ValLoss != s.BaseValLoss {
				t.Errorf("%s in %s: validation loss %v → %v, want no change", arch, typ, s.BaseValLoss, s.ValLoss)
			}
		}
	}
	t.Run("written by llama.cpp's tools", func(t *testing.T) {
		c := testrun.By(run.MethodFull, testrun.Tiny(t))
		c.Model, c.LR, c.Steps = need.Shared(t, "models/stories260K-f32.gguf"), 0, 1
		if _, err := Train(context.Background(), c, false, nil); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(testrun.Read(t, c.Out, run.ModelFile), testrun.Read(t, c.Model)) {
			t.Error("model.gguf differs from the base")
		}
	})
}

// savedTolerance is what a loss may move when the masters are rounded to the type of the file, and llama.cpp rounds the
// activations that it multiplies with weights of that type.
var savedTolerance = map[gguf.Type]float64{gguf.TypeF32: 1e-4, gguf.TypeF16: 3e-4, gguf.TypeBF16: 2e-3}

func TestSavedModelHasTheLossOfTheMasters(t *testing.T) {
	for _, spec := range []testmodel.Spec{{Tied: true}, {Arch: "gpt2"}, {Arch: "qwen3"}} {
		for typ, tolerance := range savedTolerance {
			spec.Type = typ
			c := whole(t, spec)
			c.Steps = 30
			s, _ := mustTrain(t, c, false)
			if !(s.ValLoss < s.BaseValLoss-0.2) {
				t.Errorf("%s in %s: validation loss %v → %v, want clearly less", spec.Arch, typ, s.BaseValLoss, s.ValLoss)
			}
			val := opened(t, c).val.All()
			saved := c
			saved.Model = s.Result
			got := lossOf(t, evaluator(t, testrun.Model(t, saved), c.Ctx), val)
			t.Logf("%s in %s: loss of model.gguf by llama.cpp %.6f, by the trainer %.6f", spec.Arch, typ, got, s.ValLoss)
			if !near.Within(got, float64(s.ValLoss), tolerance) {
				t.Errorf("%s in %s: loss of model.gguf by llama.cpp %.5f, by the trainer %.5f", spec.Arch, typ, got, s.ValLoss)
			}
			sameLayout(t, c.Model, s.Result)
		}
	}
}

// sameLayout compares two files in all but the data.
func sameLayout(t *testing.T, base, result string) {
	t.Helper()
	describe := func(path string) (text string) {
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, kv := range f.KVs() {
			text += fmt.Sprintln(kv)
		}
		for _, tensor := range f.Tensors() {
			text += fmt.Sprintln(tensor)
		}
		return text
	}
	if describe(result) != describe(base) {
		t.Errorf("%q has other metadata or tensors than %q", result, base)
	}
}

func TestWholeModelIsRefused(t *testing.T) {
	testrun.NoLeavings(t)
	for _, tt := range []struct {
		name  string
		model func() string
		want  string
		hint  string
	}{
		{"quantized", func() string { return testmodel.Path(t, testmodel.Spec{Embd: 64, Type: gguf.TypeQ8_0}) },
			`tensor "token_embd.weight" is q8_0: only models in F32, F16 or BF16 can be trained whole`, "train an adapter"},
		{"not a number", func() string {
			return copied(t, testmodel.Path(t, testmodel.Spec{}), func(b *gguf.Builder, f *gguf.File) {
				b.SetAll(f.KVs())
				for _, tensor := range f.Tensors() {
					data, err := f.Data(tensor.Name)
					if err != nil {
						t.Fatal(err)
					}
					if data = bytes.Clone(data); tensor.Name == "output_norm.weight" {
						copy(data[8:], "\x00\x00\xc0\x7f")
					}
					b.AddTensor(tensor.Name, tensor.Type, tensor.Shape, data)
				}
			})
		}, `tensor "output_norm.weight": element 2 is NaN`, ""},
	} {
		c := testrun.By(run.MethodFull, testrun.Tiny(t))
		c.Model = tt.model()
		err := refused(t, c)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(strings.Join(hint.Of(err), " "), tt.hint) {
			t.Errorf("%s: Train = %v, hints %q, want %q and %q", tt.name, err, hint.Of(err), tt.want, tt.hint)
		}
	}
}

func TestMaxMemoryOfAWholeModel(t *testing.T) {
	c := whole(t, testmodel.Spec{})
	c.MaxMemory = "1MiB"
	err := refused(t, c)
	var memory *MemoryError
	if !errors.As(err, &memory) || memory.What != "training all of the base" || !strings.Contains(strings.Join(hint.Of(err), " "), "an adapter") {
		t.Errorf("below %s Train = %v, hints %q, want it refused with the advice to train an adapter", c.MaxMemory, err, hint.Of(err))
	}
}

// Tensors that describe the rotation are computed, not learned.
func TestConstantsStayAsTheyAre(t *testing.T) {
	c := whole(t, testmodel.Spec{})
	const constant = "rope_freqs.weight"
	factors := []byte("\x00\x00\x80\x3f\x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x80\x40") // 1, 1, 2, 4
	c.Model = copied(t, c.Model, func(b *gguf.Builder, f *gguf.File) {
		b.SetAll(f.KVs())
		for _, tensor := range f.Tensors() {
			b.CopyTensor(f, tensor.Name)
		}
		b.AddTensor(constant, gguf.TypeF32, []int64{4}, factors)
	})
	c.Steps = 2
	s, _ := mustTrain(t, c, false)
	f, err := gguf.Open(s.Result)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if data, err := f.Data(constant); err != nil || !bytes.Equal(data, factors) {
		t.Errorf("%s is %x, %v, want %x", constant, data, err, factors)
	}
	sameLayout(t, c.Model, s.Result)
}

func TestWeightDecayIsForMatrices(t *testing.T) {
	c := whole(t, testmodel.Spec{Arch: "gpt2"})
	base, err := model.Open(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	f, err := newFull(base, c)
	if err != nil {
		t.Fatal(err)
	}
	params, _ := f.params()
	for _, p := range params {
		matrix := strings.HasSuffix(p.Name, ".weight") && !strings.Contains(p.Name, "norm") && !strings.Contains(p.Name, "embd")
		if p.NoDecay == matrix {
			t.Errorf("%s: no decay is %v, want %v", p.Name, p.NoDecay, !matrix)
		}
	}
	if len(params) != 2*12+5 {
		t.Errorf("%d tensors, want %d", len(params), 2*12+5)
	}
}

func TestNumbersAboveF16AreNotWritten(t *testing.T) {
	tensor := gguf.Tensor{Name: "w", Type: gguf.TypeF16, Shape: []int64{2, 1}}
	if _, err := encode(tensor, []float32{-65504, 65504}); err != nil {
		t.Error(err)
	}
	if _, err := encode(tensor, []float32{0, -65505}); err == nil || !strings.Contains(err.Error(), "element 1 is -65505, F16 holds 65504 at most") {
		t.Errorf("encode = %v, want it refused", err)
	}
}
