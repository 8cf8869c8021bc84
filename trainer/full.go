package trainer

import (
	"fmt"
	"io"
	"math"
	"strings"

	"finetune/eval"
	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/model"
	"finetune/quant"
	"finetune/run"
	"finetune/trainer/graph"
	"finetune/trainer/optim"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// fullTrainable trains masters in F32 of all tensors of a base.
type fullTrainable struct {
	base    *model.Base
	masters []graph.Master
}

func newFull(base *model.Base, c run.Config) (*fullTrainable, error) {
	if err := checkFullMemory(base, c); err != nil {
		return nil, err
	}
	masters, err := Masters(base)
	return &fullTrainable{base, masters}, err
}

// checkFullMemory refuses a memory limit that the weights alone are above, before they are read.
func checkFullMemory(base *model.Base, c run.Config) error {
	var bytes, numbers int64
	for _, t := range base.Tensors() {
		bytes, numbers = bytes+t.Bytes(), numbers+t.Elements()
	}
	p := Plan{Weights: bytes, Adapter: 8 * numbers, Gradients: 4 * numbers, Optimizer: 8 * numbers, Vocabulary: base.VocabBytes(), Program: programBytes}
	if limit := c.MaxMemoryBytes(); limit > 0 && p.Total() > limit {
		return hint.With(&MemoryError{What: "training all of the base", Plan: p, MaxMemory: limit, Given: true}, "an adapter takes far less: --method lora")
	}
	return nil
}

// Masters returns copies in F32 of the tensors of a base that can be trained: all that llama.cpp uses but constants. A base with tensors of
// other types than F32, F16 and BF16 is an error, and so is a weight that is no number.
func Masters(base *model.Base) (masters []graph.Master, err error) {
	tensors := base.Used()
	for _, t := range tensors {
		if !isConstant(t.Name) && !isFloat(t.Type) {
			return nil, hint.With(fmt.Errorf("model %q: tensor %q is %s: only models in F32, F16 or BF16 can be trained whole", base.Path(), t.Name, t.Type),
				"--method dual-lora and --method lora train an adapter over a quantized model")
		}
	}
	for _, t := range tensors {
		if isConstant(t.Name) {
			continue
		}
		m := graph.Master{Name: t.Name, Shape: t.Shape, Data: make([]float32, t.Elements())}
		raw, err := base.Data(t.Name)
		if err == nil {
			err = quant.Decode(t.Type, raw, m.Data)
		}
		if err != nil {
			return nil, err
		}
		for i, v := range m.Data {
			if !eval.Loss(v).Measured() {
				return nil, fmt.Errorf("model %q: tensor %q: element %d is %v", base.Path(), t.Name, i, v)
			}
		}
		masters = append(masters, m)
	}
	return masters, nil
}

// isConstant tells tensors that describe the rotation of positions: they are computed, not learned.
func isConstant(name string) bool { return strings.Contains(name, "rope_") }

func isFloat(t gguf.Type) bool { return t == gguf.TypeF32 || t == gguf.TypeF16 || t == gguf.TypeBF16 }

// params leaves out of the weight decay what is no matrix, and the tables of embeddings: a row that no token of a step
// reads gets no gradient, and would only shrink.
func (f *fullTrainable) params() (params []optim.Param, values [][]float32) {
	for _, m := range f.masters {
		decays := len(m.Shape) > 1 && !strings.Contains(m.Name, "norm") && !strings.Contains(m.Name, "_embd")
		params = append(params, optim.Param{Name: m.Name, Len: len(m.Data), LRScale: 1, NoDecay: !decays})
		values = append(values, m.Data)
	}
	return params, values
}

func (f *fullTrainable) prepare(m *llama.Model, o graph.Options) (*graph.Engine, error) {
	return graph.PrepareFull(m, f.masters, o)
}

func (f *fullTrainable) statistics() []optim.Param { return nil }

func (f *fullTrainable) size() (tensors, numbers int) {
	for _, m := range f.masters {
		numbers += len(m.Data)
	}
	return len(f.masters), numbers
}

func (f *fullTrainable) unreached(param string) error {
	return fmt.Errorf("model %q: tensor %q is not used by the model's graph in a way that can be trained", f.base.Path(), param)
}

func (f *fullTrainable) leaner() string {
	return "an adapter (--method lora) needs far less"
}

func (f *fullTrainable) start() bool { return false }

// save writes the model: the base's file with other numbers in it, each rounded to the type of its tensor.
func (f *fullTrainable) save(path string, _ map[string]gguf.Value) error {
	b := gguf.NewBuilder()
	b.SetAll(f.base.KVs())
	masters := map[string][]float32{}
	for _, m := range f.masters {
		masters[m.Name] = m.Data
	}
	for _, t := range f.base.Tensors() {
		data, ok := masters[t.Name]
		if !ok {
			b.CopyTensor(f.base.File, t.Name)
			continue
		}
		b.AddTensorFunc(t.Name, t.Type, t.Shape, func(w io.Writer) error {
			raw, err := encode(t, data)
			if err != nil {
				return err
			}
			_, err = w.Write(raw)
			return err
		})
	}
	return b.WriteFile(path)
}

// largestF16 is the largest number that F16 holds.
const largestF16 = 65504

func encode(t gguf.Tensor, data []float32) ([]byte, error) {
	if t.Type == gguf.TypeF16 {
		for i, v := range data {
			if math.Abs(float64(v)) > largestF16 {
				return nil, hint.With(fmt.Errorf("element %d is %v, F16 holds %d at most", i, v, largestF16), divergedHint)
			}
		}
	}
	return quant.Encode(t.Type, data, int(t.Shape[0]), nil)
}
