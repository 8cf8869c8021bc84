package adapter

import (
	"fmt"
	"maps"

	"finetune/gguf"
)

// LoRAOptions say how a GGUF LoRA is stored.
type LoRAOptions struct {
	// Type of the factors: F32, which is the zero value, F16, BF16 or Q8_0. A
	// factor whose rows are not whole blocks of Q8_0 becomes F16.
	Type gguf.Type
}

// WriteLoRA writes a LoRA as the GGUF that llama.cpp loads, whole or not at all.
// There the scale is alpha over the rank of each weight, or 1 where alpha is 0; if
// the weights disagree on alpha, the scale of each goes into its B and alpha is 0.
//
// What is no LoRA has no such form: [Project] it, or use [Adapter.WriteExact]. A value
// that is not finite, or too large for the type, is an error.
func (a *Adapter) WriteLoRA(path string, o LoRAOptions) error {
	alpha, folded := a.commonAlpha()
	w, err := a.newWriter(MethodLoRA, o.Type, alpha, a.Rank())
	if err != nil {
		return err
	}
	for _, weight := range a.Weights {
		l, ok := weight.Factors.(*LoRA)
		if !ok {
			return fmt.Errorf("adapter: tensor %q: %s has no low-rank form, project it first", weight.Name, weight.Method())
		}
		scale := float32(1)
		if folded {
			scale = l.Scale()
		}
		if isEmbedding(weight.Name) { // stored the other way round
			w.mat(weight.Name+".lora_a", l.B, 1)
			w.mat(weight.Name+".lora_b", l.A.transposed(), scale)
			continue
		}
		w.mat(weight.Name+".lora_a", l.A, 1)
		w.mat(weight.Name+".lora_b", l.B, scale)
	}
	return w.WriteFile(path)
}

// commonAlpha returns the alpha of all weights, or 0 and true if they have several.
func (a *Adapter) commonAlpha() (alpha float32, folded bool) {
	for _, w := range a.Weights {
		if w.alpha() != a.Alpha() {
			return 0, true
		}
	}
	return a.Alpha(), false
}

// WriteExact writes ΔW itself as a GGUF LoRA: the identity on the smaller side of
// each weight, ΔW on the other. The rank is the smaller dimension and the file as
// large as the weights in o.Type; nothing is lost but what that type rounds. The
// identity is never below F16, which holds its ones exactly. A LoRA is its own
// exact form and is written as [Adapter.WriteLoRA] does.
//
// ΔW is made a tile at a time while the file is written. The errors are those of
// WriteLoRA and [ErrNeedsBase].
func (a *Adapter) WriteExact(path string, o LoRAOptions) error {
	if a.Method() == MethodLoRA {
		return a.WriteLoRA(path, o)
	}
	if err := a.checkBound(); err != nil {
		return err
	}
	exact := *a
	exact.Meta = withMeta(a.Meta, KeyExport, "exact")
	w, err := exact.newWriter(MethodLoRA, o.Type, 0, exactRank(a))
	if err != nil {
		return err
	}
	for _, weight := range a.Weights {
		w.exact(weight)
	}
	return w.WriteFile(path)
}

func (w writer) exact(weight Weight) {
	nIn, nOut := weight.Shape()
	rank := min(nIn, nOut)
	one, delta := ".lora_a", ".lora_b"
	if nIn > nOut {
		one, delta = delta, one
	}
	identity := func() {
		w.tiled(weight.Name+one, w.identityType(), [2]int{rank, rank}, func(dst []float32, row0, row1 int) {
			clear(dst)
			for row := row0; row < row1; row++ {
				dst[(row-row0)*rank+row] = 1
			}
		})
	}
	if nIn <= nOut {
		identity()
	}
	w.tiled(weight.Name+delta, w.typeFor(nIn), [2]int{nIn, nOut}, weight.DeltaRows)
	if nIn > nOut {
		identity()
	}
}

// identityType: 1 is a whole number of steps in F32, F16 and BF16, but Q8_0 makes
// 127 steps of it and its scale is rounded.
func (w writer) identityType() gguf.Type {
	if w.t == gguf.TypeQ8_0 {
		return gguf.TypeF16
	}
	return w.t
}

func exactRank(a *Adapter) int {
	rank := 0
	for _, w := range a.Weights {
		nIn, nOut := w.Shape()
		rank = max(rank, min(nIn, nOut))
	}
	return rank
}

// withMeta returns a copy of meta with one more key.
func withMeta(meta map[string]gguf.Value, key string, v gguf.Value) map[string]gguf.Value {
	all := map[string]gguf.Value{}
	maps.Copy(all, meta)
	all[key] = v
	return all
}

// ExactBytes returns the size of the adapter's exact form in F32, see [Adapter.WriteExact]: an identity on the smaller side
// of each weight, ΔW on the other.
func (a *Adapter) ExactBytes() (bytes int64) {
	for _, w := range a.Weights {
		nIn, nOut := w.Shape()
		small := int64(min(nIn, nOut))
		bytes += 4 * (int64(nIn)*int64(nOut) + small*small)
	}
	return bytes
}
