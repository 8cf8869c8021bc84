package kernels_test

import (
	"math"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// distillTolerance: two exponentials of 2e-7 each, and the roundings of logits of up to 10 in the loss.
const distillTolerance = 2e-6

func TestDistillEqualsItsDefinition(t *testing.T) {
	eachSIMD(t, func(t *testing.T) {
		for _, v := range []int64{1, 2, 31, 1024, 1025, 5000} {
			for _, share := range []float64{0, 0.25, 1} {
				k := newBench(t, 16, 2)
				draw := func() float64 { return 4 * k.rng.NormFloat64() }
				student, teacher := k.leafOf("student", ggml.F32, draw, v, 3), k.leafOf("teacher", ggml.F32, draw, v, 3)
				targets, weights := k.ctx.NewTensor(ggml.I32, 3).SetInput(), k.ctx.NewTensor(ggml.F32, 3).SetInput()
				loss := k.ctx.NewTensor(ggml.F32, 3).SetInput().SetOutput()
				d := kernels.Distill(k.ctx, student, teacher, targets, weights, loss, float32(share), false)
				run := k.graph(d)
				targets.SetInts([]int32{0, int32(v / 2), 0})
				weights.SetFloats([]float32{0.5, 2, 0})
				run()
				x, y := values(student), values(teacher)
				for row, w := range []float64{0.5, 2, 0} {
					at := row * int(v)
					target := int(targets.Ints()[row])
					checkDistilled(t, x[at:at+int(v)], y[at:at+int(v)], target, w, share, d.Floats()[at:at+int(v)], float64(loss.Floats()[row]))
				}
			}
		}
	})
}

// checkDistilled compares one row with the definition, in float64.
func checkDistilled(t *testing.T, x, y []float64, target int, w, share float64, d []float32, loss float64) {
	t.Helper()
	if w == 0 {
		near(t, "dlogits of no weight", d, make([]float64, len(d)), make([]float64, len(d)), 0)
		near(t, "loss of no weight", []float32{float32(loss)}, []float64{0}, []float64{0}, 0)
		return
	}
	xLog, yLog := logSumExp(x), logSumExp(y)
	want, scale := make([]float64, len(x)), make([]float64, len(x))
	divergence := 0.0
	for i := range x {
		p, q := math.Exp(x[i]-xLog), math.Exp(y[i]-yLog)
		divergence += q * ((y[i] - yLog) - (x[i] - xLog))
		want[i], scale[i] = w*(p-(1-share)*q), w*(p+q)
		if i == target {
			want[i], scale[i] = want[i]-w*share, scale[i]+w*share
		}
	}
	near(t, "dlogits", d, want, scale, distillTolerance)
	wantLoss := (1-share)*divergence + share*(xLog-x[target])
	near(t, "loss", []float32{float32(loss)}, []float64{wantLoss}, []float64{10 + wantLoss}, distillTolerance)
}

func logSumExp(x []float64) float64 {
	top, z := math.Inf(-1), 0.0
	for _, v := range x {
		top = max(top, v)
	}
	for _, v := range x {
		z += math.Exp(v - top)
	}
	return top + math.Log(z)
}
