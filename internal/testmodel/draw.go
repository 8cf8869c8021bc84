package testmodel

import (
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"strings"

	"finetune/newmodel"
)

// draw returns where a tensor's numbers come from. They depend on the seed and the tensor's
// name.
func draw(t newmodel.Tensor, s Spec) func() float64 {
	name := fnv.New64a()
	io.WriteString(name, t.Name)
	random := rand.New(rand.NewPCG(s.Seed, name.Sum64()))
	mean, std := scale(t, s)
	return func() float64 { return mean + std*random.NormFloat64() }
}

// scale decides the mean and the deviation of a tensor's numbers by its name and shape.
func scale(t newmodel.Tensor, s Spec) (mean, std float64) {
	switch {
	case t.Name == "position_embd.weight":
		return 0, embdStd(s.Embd) / 2
	case t.Name == "token_embd.weight":
		return 0, embdStd(s.Embd)
	case len(t.Shape) > 1: // keeps the size of what passes through
		return 0, 1 / math.Sqrt(float64(t.Shape[0]))
	case strings.HasSuffix(t.Name, ".bias"):
		return 0, 0.1
	case strings.HasSuffix(t.Name, ".ssm_a"): // the logarithm of what is left of a state after a token, about
		return -0.5, 0.1
	}
	return 1, 0.1 // a norm
}

// embdStd returns the scale of token_embd: as a tied output matrix it turns a normed
// state, of order one, into logits of order one. Gemma multiplies the embedding by
// √n_embd.
func embdStd(embd int) float64 { return 1 / math.Sqrt(float64(embd)) }
