package testmodel

import (
	"finetune/gguf"
	"finetune/quant/plain"
)

// Retype writes a model again with its matrices in another type: F32, F16, BF16 or Q8_0. What is no matrix keeps its own.
func Retype(from, to string, typ gguf.Type) error {
	f, err := gguf.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	b := gguf.NewBuilder()
	b.SetAll(f.KVs())
	for _, t := range f.Tensors() {
		if len(t.Shape) < 2 {
			b.CopyTensor(f, t.Name)
			continue
		}
		data, err := f.Data(t.Name)
		if err != nil {
			return err
		}
		values := make([]float32, t.Elements())
		if err := plain.Decode(t.Type, data, values); err != nil {
			return err
		}
		if data, err = plain.Append(nil, typ, values); err != nil {
			return err
		}
		b.AddTensor(t.Name, typ, t.Shape, data)
	}
	return b.WriteFile(to)
}
