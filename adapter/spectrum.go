package adapter

import "math"

// Spectrum describes the singular values σ of one ΔW.
type Spectrum struct {
	Sigma []float64 // the largest, falling; those below 1e-6 of the first are rounding and left out
	// StableRank is ‖ΔW‖²/σ₁², and 0 for a ΔW of zero.
	StableRank float64
	// EffectiveRank is e to the entropy of σ/Σσ (Roy and Vetterli 2007): as many values as if all were equal. It is NaN
	// where only the largest σ were looked for, and 0 for a ΔW of zero.
	EffectiveRank float64
}

// SpectrumOf finds the n largest singular values of ΔW. All of them are looked for, and so the effective rank is known, by
// the factors of a LoRA and in matrices whose smaller side is 256 at most; in others the largest are found by randomized
// search, started from seed. A ΔW that is not finite is an error.
func SpectrumOf(w Weight, n int, seed uint64) (Spectrum, error) {
	if err := checkBound(w.Name, w.Factors); err != nil {
		return Spectrum{}, err
	}
	nIn, nOut := w.Shape()
	small := min(nIn, nOut)
	k := n
	if small <= directLimit {
		k = small
	}
	s, total, err := named{w.Name, w.Factors}.components(nil, nil, k, DecomposeOptions{Seed: seed})
	if err != nil {
		return Spectrum{}, err
	}
	if total == 0 {
		return Spectrum{Sigma: []float64{}}, nil
	}
	r := Spectrum{Sigma: significant(s.sigma), StableRank: total / (s.sigma[0] * s.sigma[0]), EffectiveRank: math.NaN()}
	if _, byFactors := w.Factors.(*LoRA); k >= small || byFactors && w.Rank() <= coreLimit {
		r.EffectiveRank = effectiveRank(r.Sigma)
	}
	r.Sigma = r.Sigma[:min(n, len(r.Sigma))]
	return r, nil
}

// significant leaves out what is only rounding.
func significant(sigma []float64) []float64 {
	n := len(sigma)
	for n > 1 && sigma[n-1] <= roundingFloor*sigma[0] {
		n--
	}
	return sigma[:n]
}

func effectiveRank(sigma []float64) float64 {
	sum, entropy := 0.0, 0.0
	for _, v := range sigma {
		sum += v
	}
	for _, v := range sigma {
		entropy -= v / sum * math.Log(v/sum)
	}
	return math.Exp(entropy)
}
