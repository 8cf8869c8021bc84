// Package fileops changes and compares adapter files: it scales, reranks, combines and diffs them. What is done to the
// numbers is package adapter's; here files are read, the type of the factors is chosen, what was done is noted, and the
// result is written, whole or not at all.
//
// An input is a GGUF LoRA or the container of a Dual LoRA; a DoRA is refused, whose change
// depends on the model. Errors of adapter, gguf and the file system pass through; a
// wrong setting is an error of Check alone.
package fileops

import (
	"fmt"
	"math"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/internal/output"
)

// Output says where a result goes.
type Output struct {
	Out   string     // the file
	Type  *gguf.Type // of the factors; nil is that of the inputs, or F32 where they differ or cannot hold the result
	Force bool       // replace a file that is there
}

// Report is what was written. Fields may be added to its JSON, these names stay.
type Report struct {
	Operation    string   `json:"operation"` // scale, rerank or combine
	How          string   `json:"how"`       // with which settings, in words; the file has it under finetune.history
	File         string   `json:"file"`
	From         []Source `json:"from"`
	Architecture string   `json:"architecture"`
	Method       string   `json:"method"` // of the file, one of adapter.Methods
	Weights      int      `json:"weights"`
	Parameters   int      `json:"parameters"`
	RankMin      int      `json:"rank_min"`
	RankMax      int      `json:"rank_max"`
	ScaleMin     float64  `json:"scale_min"` // of ΔW = s·B·A in the file
	ScaleMax     float64  `json:"scale_max"`
	Type         string   `json:"type"`                 // of the factors
	Energy       float64  `json:"energy"`               // share of ‖ΔW‖² that is kept, 1 where nothing is cut
	Tensors      []Tensor `json:"tensors,omitempty"`    // not for scale
	OtherBase    string   `json:"other_base,omitempty"` // says so where the inputs were trained on different bases
}

// Source is an input.
type Source struct {
	File   string  `json:"file"`
	Weight float64 `json:"weight"`
}

// Tensor tells what became of one weight.
type Tensor struct {
	Name   string  `json:"name"`
	Rank   int     `json:"rank"`
	Norm   float64 `json:"norm"`   // ‖ΔW‖ before the cut
	Energy float64 `json:"energy"` // share of ‖ΔW‖² that is kept
	Error  float64 `json:"error"`  // ‖ΔW − s·B·A‖/‖ΔW‖
}

// read loads an adapter whose change can be formed without the model.
func read(path string) (*adapter.Adapter, error) {
	a, err := adapter.Load(path)
	if err != nil {
		return nil, err
	}
	if a.NeedsBase() {
		return nil, hint.With(fmt.Errorf("adapter: %q: %s: %w", path, a.Method(), adapter.ErrNeedsBase),
			"finetune export makes a GGUF LoRA of its run, finetune merge puts it into the model")
	}
	return a, nil
}

// check refuses what would be written over, before anything is read.
func (o Output) check(from ...Source) error {
	t := output.Target{Path: o.Out, Force: o.Force}
	for _, s := range from {
		t.Inputs = append(t.Inputs, s.File)
	}
	if err := t.Check(); err != nil {
		return fmt.Errorf("adapter: %w", err)
	}
	return nil
}

// typeOf chooses the type of a result. With lossless F32 takes over where the inputs' type cannot hold every factor, else
// it does for Q8_0, so that no factor is quantized a second time unasked.
func (o Output) typeOf(result *adapter.Adapter, inputs []*adapter.Adapter, lossless bool) gguf.Type {
	if o.Type != nil {
		return *o.Type
	}
	t := inputs[0].Type
	for _, a := range inputs {
		if a.Type != t {
			return gguf.TypeF32
		}
	}
	if lossless && !result.Holds(t) || !lossless && t == gguf.TypeQ8_0 {
		return gguf.TypeF32
	}
	return t
}

// write notes what was done, writes the file and describes it as it is then read.
func (o Output) write(a *adapter.Adapter, t gguf.Type, r *Report) error {
	a.Meta[adapter.KeyHistory] = history(a.Meta[adapter.KeyHistory], r.Operation+" "+r.How)
	var err error
	switch {
	case a.Method() == adapter.MethodLoRA:
		err = a.WriteLoRA(o.Out, adapter.LoRAOptions{Type: t})
	case o.Type != nil && t != gguf.TypeF32:
		err = fmt.Errorf("adapter: type %s: %s is kept in f32", t, a.Method())
	default:
		t, err = gguf.TypeF32, a.Save(o.Out)
	}
	if err != nil {
		return err
	}
	written, err := adapter.Load(o.Out)
	if err != nil {
		return err
	}
	r.describe(written)
	r.File, r.Type = o.Out, t.String()
	return nil
}

// maxHistory is how many lines are kept, the last ones: llama.cpp makes a text of every key.
const maxHistory = 32

func history(before gguf.Value, line string) gguf.Array {
	var lines []string
	if array, ok := before.(gguf.Array); ok {
		if known, ok := array.Values().([]string); ok {
			lines = append(lines, known...)
		}
	}
	lines = append(lines, line)
	return gguf.ArrayOf(lines[max(0, len(lines)-maxHistory):]...)
}

func (r *Report) describe(a *adapter.Adapter) {
	r.Architecture, r.Method = a.Architecture, string(a.Method())
	r.Weights, r.Parameters = len(a.Weights), a.Parameters()
	for i, w := range a.Weights {
		rank, scale := w.Rank(), float64(w.Scale())
		if i == 0 {
			r.RankMin, r.ScaleMin, r.ScaleMax = rank, scale, scale
		}
		r.RankMin, r.RankMax = min(r.RankMin, rank), max(r.RankMax, rank)
		r.ScaleMin, r.ScaleMax = min(r.ScaleMin, scale), max(r.ScaleMax, scale)
	}
}

// tensors turns what package adapter reports into ours.
func (r *Report) tensors(reports []adapter.Report) {
	r.Energy = adapter.Captured(reports)
	for _, t := range reports {
		r.Tensors = append(r.Tensors, Tensor{t.Name, t.Rank, math.Sqrt(t.Total), t.Energy, t.Error})
	}
}
