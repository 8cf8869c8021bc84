package inspect

import (
	"context"
	"errors"
	"math"

	"finetune/adapter"
	"finetune/gguf"
)

// Adapter says what the factors of an adapter amount to.
type Adapter struct {
	Method      string   `json:"method"`                 // of the file, one of adapter.Methods
	TrainedWith string   `json:"trained_with,omitempty"` // the method of the training, if the file says it
	BaseName    string   `json:"base_name"`
	BaseHash    string   `json:"base_hash"` // see adapter.ReadBase; empty if the file does not say
	RankMin     int      `json:"rank_min"`
	RankMax     int      `json:"rank_max"`
	Alpha       float64  `json:"alpha"`     // 0 if the file has none
	ScaleMin    float64  `json:"scale_min"` // the s of ΔW, from alpha and the rank
	ScaleMax    float64  `json:"scale_max"`
	Norm        *float64 `json:"norm"` // ‖ΔW‖ of all weights together, Frobenius; null where it depends on the base
	Weights     []Weight `json:"weights"`
}

// Weight is one adapted tensor of the base.
type Weight struct {
	Name  string   `json:"name"`
	Shape [2]int   `json:"shape"` // n_in, n_out
	Rank  int      `json:"rank"`
	Scale float64  `json:"scale"`
	Norm  *float64 `json:"norm"` // ‖ΔW‖; likewise

	// Without Options.Spectrum only where they are to be had from the factors of a LoRA in little time.
	SingularValues []float64 `json:"singular_values,omitempty"` // of ΔW, the largest
	StableRank     *float64  `json:"stable_rank,omitempty"`     // ‖ΔW‖²/σ₁²
	EffectiveRank  *float64  `json:"effective_rank,omitempty"`  // e to the entropy of σ/Σσ; of large Dual LoRAs not known
}

const (
	// shownValues is how many singular values are looked for.
	shownValues = 5
	// quickRank is up to where a LoRA's spectrum is shown unasked: a tenth of a second or so for a matrix of a large model.
	quickRank = 128
	// searchSeed starts the randomized search in large matrices, so that a file is always described alike.
	searchSeed = 1
)

// addAdapter reads the factors and measures them, weight by weight.
func (r *Report) addAdapter(ctx context.Context, f *gguf.File, o Options) error {
	a, err := adapter.Read(f)
	var unsupported *adapter.UnsupportedError
	switch {
	case errors.As(err, &unsupported):
		r.Note = unsupported.Msg
		return nil
	case err != nil:
		return err
	}
	d := &Adapter{Method: string(a.Method()), BaseName: a.BaseName, BaseHash: a.BaseHash, Alpha: float64(a.Alpha())}
	d.TrainedWith, _ = a.Meta[adapter.KeyMethod].(string)
	for i, w := range a.Weights {
		if err := ctx.Err(); err != nil {
			return err
		}
		weight, err := describe(w, o)
		if err != nil {
			return err
		}
		d.add(weight)
		if o.Progress != nil {
			o.Progress(i+1, len(a.Weights))
		}
	}
	r.Adapter = d
	return nil
}

// add appends a weight and keeps the figures of all.
func (d *Adapter) add(w Weight) {
	if len(d.Weights) == 0 {
		d.RankMin, d.ScaleMin, d.ScaleMax = w.Rank, w.Scale, w.Scale
	}
	d.RankMin, d.RankMax = min(d.RankMin, w.Rank), max(d.RankMax, w.Rank)
	d.ScaleMin, d.ScaleMax = min(d.ScaleMin, w.Scale), max(d.ScaleMax, w.Scale)
	if w.Norm != nil {
		d.Norm = new(math.Hypot(value(d.Norm), *w.Norm))
	}
	d.Weights = append(d.Weights, w)
}

// value returns 0 for none.
func value(v *float64) float64 {
	if v == nil {
		return 0
	}
	return *v
}

// describe measures one weight, as far as that can be done without the base. A norm beyond all numbers is an error, as it is wherever the adapter is used.
func describe(w adapter.Weight, o Options) (Weight, error) {
	nIn, nOut := w.Shape()
	d := Weight{Name: w.Name, Shape: [2]int{nIn, nOut}, Rank: w.Rank(), Scale: float64(w.Scale())}
	norm, err := adapter.Norm(w)
	switch {
	case errors.Is(err, adapter.ErrNeedsBase):
		return d, nil
	case err != nil:
		return Weight{}, err
	}
	d.Norm = &norm
	quick := w.Method() == adapter.MethodLoRA && w.Rank() <= quickRank
	if quick || o.Spectrum {
		s, err := adapter.SpectrumOf(w, shownValues, searchSeed)
		if err != nil {
			return Weight{}, err
		}
		d.SingularValues, d.StableRank = s.Sigma, &s.StableRank
		if !math.IsNaN(s.EffectiveRank) {
			d.EffectiveRank = &s.EffectiveRank
		}
	}
	return d, nil
}
