package adapter

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"finetune/gguf"
)

func TestScaledMultipliesTheEffectAndNoFactor(t *testing.T) {
	for _, m := range []Method{MethodLoRA, MethodDual} {
		a := randomAdapter(t, m)
		for _, alpha := range []float32{12, 0} {
			for _, w := range a.Weights {
				setAlpha(w.Factors, alpha)
			}
			for _, factor := range []float32{0.5, -2, 0.3} {
				b, err := a.Scaled(factor)
				if err != nil {
					t.Fatal(err)
				}
				wantSame(t, b, a)
				for i, w := range b.Weights {
					if got, want := w.Scale(), a.Weights[i].Scale()*factor; factor != 0.3 && got != want {
						t.Errorf("%s, alpha %v: scale %v, want %v", m, alpha, got, want)
					}
					before, after := referenceOf(a.Weights[i]), referenceOf(w)
					for j := range before {
						wantClose(t, "ΔW", after[j], float64(factor)*before[j], ruleTol)
					}
				}
				if a.Alpha() != alpha {
					t.Fatalf("the source's alpha became %v", a.Alpha())
				}
			}
		}
	}
}

func setAlpha(f Factors, alpha float32) {
	switch f := f.(type) {
	case *LoRA:
		f.Alpha = alpha
	case *Dual:
		f.Alpha = alpha
	}
}

func TestScaledByAPowerOfTwoComesBack(t *testing.T) {
	a := randomAdapter(t, MethodLoRA)
	half, err := a.Scaled(0.25)
	if err != nil {
		t.Fatal(err)
	}
	back, err := half.Scaled(4)
	if err != nil {
		t.Fatal(err)
	}
	if wantSame(t, back, a); back.Alpha() != a.Alpha() {
		t.Errorf("alpha %v, want %v", back.Alpha(), a.Alpha())
	}
	if _, ok := back.Meta[KeyRetention]; ok {
		t.Error("the retention of another effect was kept")
	}
}

func TestScaledRefuses(t *testing.T) {
	a := randomAdapter(t, MethodLoRA)
	for factor, want := range map[float32]string{
		0:                     "adapter: factor 0: want a number other than 0",
		float32(math.Inf(-1)): "adapter: factor -Inf: want a number other than 0",
		1e38:                  `adapter: tensor "blk.2.attn_q.weight": alpha would be 1.2e+39, which float32 cannot hold`,
		1e-40:                 `adapter: tensor "blk.2.attn_q.weight": alpha would be 1.2e-39, which float32 cannot hold`,
	} {
		if _, err := a.Scaled(factor); err == nil || err.Error() != want {
			t.Errorf("by %v: %v, want %s", factor, err, want)
		}
	}
	if _, err := a.Scaled(float32(math.NaN())); err == nil {
		t.Error("by NaN: no error")
	}
}

// A type holds the factors that were read from it, those of other tools too.
func TestHoldsWhatWasReadFromTheType(t *testing.T) {
	a := randomAdapter(t, MethodLoRA)
	for _, typ := range []gguf.Type{gguf.TypeF32, gguf.TypeF16, gguf.TypeBF16, gguf.TypeQ8_0} {
		path := filepath.Join(t.TempDir(), "lora.gguf")
		if err := a.WriteLoRA(path, LoRAOptions{Type: typ}); err != nil {
			t.Fatal(err)
		}
		b := load(t, path)
		if b.Type != typ || !b.Holds(typ) || !b.Holds(gguf.TypeF32) {
			t.Errorf("%s: read as %s, which holds it: %v", typ, b.Type, b.Holds(typ))
		}
		again := filepath.Join(t.TempDir(), "again.gguf")
		if err := b.WriteLoRA(again, LoRAOptions{Type: b.Type}); err != nil {
			t.Fatal(err)
		}
		if wantSame(t, load(t, again), b); !slices.Equal(readFile(t, again), readFile(t, path)) {
			t.Errorf("%s: written again it has other bytes", typ)
		}
	}
	if a.Holds(gguf.TypeF16) || a.Holds(gguf.TypeQ8_0) {
		t.Error("random float32s are held by a smaller type")
	}
	if got := load(t, newForeign().write(t, 0.5)).Type; got != gguf.TypeF32 {
		t.Errorf("a file of several types is read as %s, want f32", got)
	}
}

// Where the weights disagree on alpha their scales go into B, and have to be held there.
func TestHoldsCountsTheScaleThatIsFolded(t *testing.T) {
	a := loraAdapter(t, 1, 4, [3]int{32, 8, 4}, [3]int{32, 8, 4})
	for _, m := range a.Tensors() {
		for i := range m.Mat.Data {
			m.Mat.Data[i] = float32(1 + i%9)
		}
	}
	for alpha, want := range map[float32]bool{4: true, 2: true, 0.1: false} {
		a.Weights[1].Factors.(*LoRA).Alpha = alpha
		if got := a.Holds(gguf.TypeF16); got != want {
			t.Errorf("alphas 4 and %v: f16 holds the factors: %v", alpha, got)
		}
	}
}
