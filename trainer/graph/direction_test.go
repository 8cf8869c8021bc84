package graph

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/trainer/data"
)

// Along its gradient the loss of a whole model changes by h·|g|: differences of float32 losses, curvature and the kinks
// of ReLU leave 5 % at most; a wrong derivative has nothing to do with it.
const directionTolerance = 0.05

// lossStep is how much the loss, summed over some 50 tokens, is moved to either side: far above its rounding (1e-5), and
// small against the loss itself.
const lossStep = 0.004

// tableLossStep is that of LoRA on architectures with GELU, which the CPU reads from a table of half-precision numbers:
// the stairs of thousands of activations move the loss by some 3e-3, whichever way the weights go. Dual LoRA bends at
// M = 0 and cannot be moved so far: there GELU is made smooth, see makeSmooth.
const tableLossStep = 0.15

// randomDirections of every tensor are tried besides the gradient: one that lacks some of its elements, or has them in
// place of others, may still tell the change along itself.
const randomDirections = 2

// Along a direction of standard normal elements z the loss changes by h·⟨g, z⟩, which deviates by h·|g| from 0, and an
// error e of the gradient shows as h·⟨e, z⟩, which deviates by h·|e|. The difference may be off by a share of h·|g|.
// With h = randomStep/|g| that is 0.01 for nineteen of twenty tensors, the rounding of the loss, and 0.05 where
// attention is near its limits. Dual LoRA bends where an entry of M passes 0: of the least of steps, whose rounding is
// four times as much, it leaves up to 0.2.
const (
	randomStep          = 1e-3
	randomTolerance     = 0.1
	randomDualStep      = 2.5e-4
	randomDualTolerance = 0.3
)

// checkDirections compares the gradients of one step with differences of the loss, moved by step along each of them, and
// a little in random directions. hold keeps still what the gradients take for constants.
func checkDirections(t *testing.T, e *Engine, ws []data.Window, step float64, hold still) {
	t.Helper()
	e.Reset()
	if _, err := e.Step(ws, 1); err != nil {
		t.Fatal(err)
	}
	loss := func() (float64, error) { return e.Loss(ws) }
	for _, fault := range directionFaults(t, e, gradients(e), step, hold, loss) {
		t.Error(fault)
	}
}

// gradients are copies of those of an engine.
func gradients(e *Engine) (all [][]float32) {
	for _, g := range e.Gradients() {
		all = append(all, slices.Clone(g.Data))
	}
	return all
}

// directionFaults says of which tensors the gradients do not foretell the loss, along themselves or in random directions.
func directionFaults(t *testing.T, e *Engine, gradients [][]float32, step float64, hold still, loss func() (float64, error)) []string {
	t.Helper()
	faults := alongFaults(t, e, gradients, step, hold, loss)
	makeSmooth(t, tableNodes(e)) // what follows are small steps
	return append(faults, randomFaults(t, e, gradients, hold, loss)...)
}

func alongFaults(t *testing.T, e *Engine, gradients [][]float32, step float64, hold still, loss func() (float64, error)) (faults []string) {
	t.Helper()
	for i, p := range e.params {
		g := gradients[i]
		norm := math.Sqrt(dot(g, g))
		switch {
		case surrogate(p):
		case norm == 0:
			faults = append(faults, p.name+": the gradient is zero")
		default:
			ratio := lossSlope(t, e, p, g, step/(norm*norm), hold, loss) / (norm * norm)
			if !near.Enough(ratio, 1.0, directionTolerance) {
				faults = append(faults, fmt.Sprintf("%s: the loss changes %.4f times as much as the gradient says (|g| = %.3g)", p.name, ratio, norm))
			}
		}
	}
	return faults
}

func randomFaults(t *testing.T, e *Engine, gradients [][]float32, hold still, loss func() (float64, error)) (faults []string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 30))
	for i, p := range e.params {
		g := gradients[i]
		norm := math.Sqrt(dot(g, g))
		if surrogate(p) || norm == 0 {
			continue
		}
		step, tolerance := randomStep, randomTolerance
		if strings.Contains(p.name, ".dual_") {
			step, tolerance = randomDualStep, randomDualTolerance
		}
		for range randomDirections {
			z := make([]float32, len(g))
			for k := range z {
				z[k] = float32(rng.NormFloat64())
			}
			got, want := lossSlope(t, e, p, z, step/norm, hold, loss)/norm, dot(g, z)/norm
			if !near.Enough(got, want, tolerance) {
				faults = append(faults, fmt.Sprintf("%s: in a random direction the loss changes by %.4f of |g| = %.3g, the gradient says %.4f", p.name, got, norm, want))
			}
		}
	}
	return faults
}

// surrogate reports whether the factor is below sign, which has no useful derivative: TestTermEqualsPlainGo holds the rule
// against its surrogate.
func surrogate(p param) bool {
	return strings.HasSuffix(p.name, ".dual_c") || strings.HasSuffix(p.name, ".dual_d")
}

// lossSlope is the difference of the losses with p moved by step·direction to either side, divided by twice the step, and
// with what the gradient takes for a constant held still.
func lossSlope(t *testing.T, e *Engine, p param, direction []float32, step float64, hold still, loss func() (float64, error)) float64 {
	t.Helper()
	old := slices.Clone(p.data)
	at := func(step float64) float64 {
		for i, d := range direction {
			p.data[i] = old[i] + float32(step*float64(d))
		}
		defer hold.lengthsOf(p.name)()
		e.Upload()
		l, err := loss()
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	up, down := at(step), at(-step)
	copy(p.data, old)
	e.Upload()
	return (up - down) / (2 * step)
}

// A gradient with every third element missing tells the change along itself as well as the whole one does.
func TestRandomDirectionsSeeWhatIsMissing(t *testing.T) {
	path := testmodel.Path(t, tinySpec("llama"))
	m := loadModel(t, path)
	shape := Shape{Ctx: 16, Seqs: 2}
	ws := windows(shape, m.Vocab().NTokens())
	for _, method := range []adapter.Method{adapter.MethodLoRA, adapter.MethodDual} {
		weights := allLinear(t, path, method, 4)
		disturb(weights)
		e := newEngine(t, m, weights, Options{Shape: shape})
		if _, err := e.Step(ws, 1); err != nil {
			t.Fatal(err)
		}
		holed := gradients(e)
		for _, g := range holed {
			for i := 0; i < len(g); i += 3 {
				g[i] = 0
			}
		}
		loss := func() (float64, error) { return e.Loss(ws) }
		if faults := alongFaults(t, e, holed, lossStep, nil, loss); len(faults) > 0 {
			t.Errorf("%s: seen along the gradients: %q", method, faults)
		}
		if faults := randomFaults(t, e, holed, nil, loss); len(faults) < len(weights) {
			t.Errorf("%s: seen in %d random directions of %d weights: %q", method, len(faults), len(weights), faults)
		}
	}
}
