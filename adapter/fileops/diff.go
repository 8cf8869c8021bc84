package fileops

import (
	"context"
	"errors"
	"math"

	"finetune/adapter"
)

// Difference is how two adapters differ. Fields may be added to its JSON, these names stay.
type Difference struct {
	A            string       `json:"a"` // the files
	B            string       `json:"b"`
	Architecture string       `json:"architecture"`
	Total        TensorDiff   `json:"total"`   // of all weights together; its ranks are the largest
	Tensors      []TensorDiff `json:"tensors"` // of each weight that either has
	OnlyA        int          `json:"only_a"`  // weights that only one of them has
	OnlyB        int          `json:"only_b"`
	OtherBase    string       `json:"other_base,omitempty"` // says so where they were trained on different bases
}

// TensorDiff compares the changes ΔW of one weight. One that an adapter does not have is zero there, with rank 0.
type TensorDiff struct {
	Name     string   `json:"name,omitempty"`
	RankA    int      `json:"rank_a"`
	RankB    int      `json:"rank_b"`
	NormA    float64  `json:"norm_a"` // ‖ΔW‖, Frobenius
	NormB    float64  `json:"norm_b"`
	Distance float64  `json:"distance"` // ‖ΔW_a − ΔW_b‖
	Cosine   *float64 `json:"cosine"`   // null where one of them is zero
}

// Diff compares the adapters in two files, LoRA or Dual LoRA. The errors are those of [adapter.Load] and [adapter.Diff].
func Diff(ctx context.Context, a, b string) (*Difference, error) {
	first, err := read(a)
	if err != nil {
		return nil, err
	}
	second, err := read(b)
	if err != nil {
		return nil, err
	}
	all, err := adapter.Diff(ctx, first, second)
	if err != nil {
		return nil, err
	}
	d := &Difference{A: a, B: b, Architecture: first.Architecture, Total: tensorDiff(adapter.Sum(all))}
	if err := adapter.CheckAlike(first, second); errors.Is(err, adapter.ErrOtherBase) {
		d.OtherBase = err.Error()
	}
	for _, t := range all {
		d.Tensors = append(d.Tensors, tensorDiff(t))
		if t.RankB == 0 {
			d.OnlyA++
		}
		if t.RankA == 0 {
			d.OnlyB++
		}
	}
	return d, nil
}

func tensorDiff(d adapter.Difference) TensorDiff {
	t := TensorDiff{d.Name, d.RankA, d.RankB, d.NormA, d.NormB, d.Distance, nil}
	if c := d.Cosine(); !math.IsNaN(c) {
		t.Cosine = &c
	}
	return t
}
