package adapter

import (
	"fmt"

	"finetune/gguf"
)

// Decoder turns the bytes of a tensor of type t into numbers. quant.Decode is one, for
// every type; it needs native code, which this package does without.
type Decoder func(t gguf.Type, src []byte, dst []float32) error

// based is implemented by factors whose ΔW depends on the weight W of the base.
type based interface {
	bind(w *boundWeight)
	bound() bool
}

// NeedsBase reports whether ΔW depends on the weights of the base, so that
// [Adapter.Bind] has to be called before it is formed.
func (a *Adapter) NeedsBase() bool { return a.Method().kind().needsBase }

// Bind gives factors whose ΔW depends on the weights of the base those weights, which
// are read from f a few rows at a time and whenever they are needed: f has to stay
// open as long as the adapter is used. To others it does nothing. A weight that f does
// not have in this shape, or in a type that cannot be decoded, is an error.
func (a *Adapter) Bind(f *gguf.File, decode Decoder) error {
	for _, w := range a.Weights {
		if err := w.Bind(f, decode); err != nil {
			return err
		}
	}
	return nil
}

// Bind does for one weight what [Adapter.Bind] does for all.
func (w Weight) Bind(f *gguf.File, decode Decoder) error {
	b, ok := w.Factors.(based)
	if !ok {
		return nil
	}
	bound, err := w.in(f, decode)
	if err != nil {
		return err
	}
	b.bind(bound)
	return nil
}

// in finds the weight in the base, in the shape that it was adapted in and in a type that can be decoded.
func (w Weight) in(f *gguf.File, decode Decoder) (*boundWeight, error) {
	nIn, nOut := w.Shape()
	t, ok := f.Tensor(w.Name)
	if !ok {
		return nil, fmt.Errorf("adapter: tensor %q: not in the model", w.Name)
	}
	if len(t.Shape) != 2 || t.Shape[0] != int64(nIn) || t.Shape[1] != int64(nOut) {
		return nil, fmt.Errorf("adapter: tensor %q: made for shape [%d %d], the model has %v", w.Name, nIn, nOut, t.Shape)
	}
	bound := &boundWeight{f, t, decode}
	if err := bound.try(make([]float32, nIn), 0, 1); err != nil {
		return nil, fmt.Errorf("adapter: tensor %q: %w", w.Name, err)
	}
	return bound, nil
}

// boundWeight is W [n_in, n_out] where it lies in the base's file. Goroutines may share
// it.
type boundWeight struct {
	file   *gguf.File
	tensor gguf.Tensor
	decode Decoder
}

// read fills dst with rows row0 to row1-1. That it can was tried by Bind: what fails
// here is the caller's, who closed the file.
func (w *boundWeight) read(dst []float32, row0, row1 int) {
	if err := w.try(dst, row0, row1); err != nil {
		panic(fmt.Sprintf("adapter: internal error: rows of a bound weight: %v", err))
	}
	if row1 == int(w.tensor.Shape[1]) {
		w.file.Forget() // the last rows of a weight are read last
	}
}

func (w *boundWeight) try(dst []float32, row0, row1 int) error {
	row := w.tensor.Bytes() / w.tensor.Shape[1]
	data, err := w.file.Part(w.tensor.Name, int64(row0)*row, int64(row1)*row)
	if err != nil {
		return err
	}
	return w.decode(w.tensor.Type, data, dst)
}

// checkBound returns ErrNeedsBase for a change that depends on a base that is not there.
func checkBound(name string, c change) error {
	if b, ok := bare(c).(based); ok && !b.bound() {
		return fmt.Errorf("adapter: tensor %q: %w", name, ErrNeedsBase)
	}
	return nil
}

// checkBound does that for all weights.
func (a *Adapter) checkBound() error {
	for _, w := range a.Weights {
		if err := checkBound(w.Name, w.Factors); err != nil {
			return err
		}
	}
	return nil
}
