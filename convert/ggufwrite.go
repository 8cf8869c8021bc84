package convert

import (
	"fmt"
	"io"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/atomicfile"
)

// ggufWeight is what writeGGUF writes for a tensor of the base.
type ggufWeight struct {
	name    string
	experts []pair // or one
	stack   bool
}

// writeGGUF writes a GGUF LoRA for llama.cpp, or the container of a DoRA for package
// adapter.
func writeGGUF(path string, m *baseModel, l *lora, r *Report) error {
	c, err := mapPairs(l.pairs, m.toTensors(), m.rowsOfKey)
	if err != nil {
		return fmt.Errorf("convert: %q: %w", r.From, err)
	}
	r.addMapped(c)
	weights := m.weightsOf(c.pairs)
	alpha, factors := ggufAlpha(weights)
	r.Alpha = alpha

	method := adapter.MethodLoRA
	if l.isDoRA() {
		method = adapter.MethodDoRA
	}
	b := gguf.NewBuilder()
	b.Set(adapter.KeyType, "adapter")
	b.Set(adapter.KeyArchitecture, m.Architecture)
	b.Set(adapter.KeyKind, method.FileType())
	b.Set(method.AlphaKey(), float32(alpha)) // llama.cpp reads no other kind
	if len(l.invocation) > 0 {
		b.Set(adapter.KeyInvocation, l.invocation)
	}
	b.Set(adapter.KeyMethod, string(method))
	b.Set(adapter.KeyRank, uint32(r.RankMax))
	b.Set(adapter.KeyBaseName, m.Name)
	b.Set(adapter.KeyBaseHash, m.Hash)
	if l.baseName != "" {
		b.Set(keyHFModel, l.baseName)
	}
	if l.wrapper != "" {
		b.Set(keyHFWrapper, l.wrapper)
	}
	setFolds(b, weights, factors, r)
	for i, w := range weights {
		w.add(b, method.Suffixes(), factors[i])
	}
	if l.head == nil {
		return b.WriteFile(path)
	}
	head, err := l.head.Builder()
	if err != nil {
		return fmt.Errorf("convert: %q: %w", r.From, err)
	}
	return atomicfile.WriteAll([]string{path, r.Classifier}, func(i int, w io.Writer) error {
		_, err := []*gguf.Builder{b, head}[i].WriteTo(w)
		return err
	})
}

// weightsOf puts the pairs in the order of the base, the experts of a layer together.
func (m *baseModel) weightsOf(pairs map[string]pair) []ggufWeight {
	var weights []ggufWeight
	for _, t := range m.Tensors {
		if p, ok := pairs[t.Name]; ok {
			weights = append(weights, ggufWeight{name: t.Name, experts: []pair{p}})
		}
		if len(t.Shape) < 3 {
			continue
		}
		experts, some := make([]*pair, t.Shape[2]), false
		for e := range experts {
			if p, ok := pairs[weightKey(t.Name, e)]; ok {
				experts[e], some = &p, true
			}
		}
		if some {
			weights = append(weights, ggufWeight{t.Name, stackOf(experts), true})
		}
	}
	return weights
}

// ggufAlpha chooses the alpha of the file, 0 being a scale of 1.
func ggufAlpha(weights []ggufWeight) (float64, []float64) {
	var candidates []float64
	for _, w := range weights {
		p := w.experts[0]
		if alpha := float64(float32(tidy(p.scale * float64(p.rank())))); usable(alpha) {
			candidates = append(candidates, alpha)
		}
	}
	return choose(append(candidates, 0), len(weights), func(alpha float64, i int) float64 {
		p := weights[i].experts[0]
		if alpha == 0 {
			return p.scale
		}
		return p.scale * float64(p.rank()) / alpha
	})
}

// setFolds reports the factors, and notes those that can be undone exactly.
func setFolds(b *gguf.Builder, weights []ggufWeight, factors []float64, r *Report) {
	var names []string
	var exact []float32
	for i, f := range factors {
		if f == 1 {
			continue
		}
		r.Folded = append(r.Folded, Folded{weights[i].name, f})
		if powerOfTwo(f) {
			names, exact = append(names, weights[i].name), append(exact, float32(f))
		}
	}
	if len(names) > 0 {
		b.Set(keyFolded, names)
		b.Set(keyFoldFactors, exact)
	}
}

// add adds A [n_in, rank] and B [rank, n_out], with the experts as third dimension, and
// the magnitudes [n_out, 1] of a DoRA; of the embeddings A is [rank, n_vocab].
func (w ggufWeight) add(b *gguf.Builder, suffixes []string, factor float64) {
	var as, bs, magnitudes []matrix
	for _, p := range w.experts {
		if w.name == "token_embd.weight" {
			p.a = p.a.transposed()
		}
		if factor != 1 {
			p.b = p.b.scaled(factor)
		}
		as, bs = append(as, inGGUF(p.a)), append(bs, inGGUF(p.b))
		if p.isDoRA() {
			magnitudes = append(magnitudes, p.magnitudes.transposed().asF32())
		}
	}
	for i, suffix := range suffixes {
		ms := [][]matrix{as, bs, magnitudes}[i]
		shape := []int64{int64(ms[0].cols), int64(ms[0].rows)}
		if w.stack {
			shape = append(shape, int64(len(ms)))
		}
		b.AddTensorFunc(w.name+"."+suffix, ms[0].typ, shape, func(out io.Writer) error {
			for _, m := range ms {
				data, err := m.read()
				if err != nil {
					return err
				}
				if _, err := out.Write(data); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// inGGUF turns BF16 into F32, which holds it: not every backend of llama.cpp
// multiplies BF16.
func inGGUF(m matrix) matrix {
	if m.typ == gguf.TypeBF16 {
		return m.asF32()
	}
	return m
}
