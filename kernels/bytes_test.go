package kernels_test

import (
	"math"
	"testing"

	"finetune/internal/need"
	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// byteError bounds what rounding to 8 bits does to dA and dB of normal numbers, as a share of their norm: a step is some 3/127
// standard deviations, so each value of x and of dy is off by 0.007 of one on average, and G, whose terms add up as the
// errors do, by a hundredth; twice that. testdata/check_bytes.c holds the kernels to what was rounded.
const byteError = 0.02

// Tokens whose activations are a thousand times those of others, as the first of a text has, and whose derivatives are small in
// turn, or which have none, do not make the others coarser.
func TestMagnitudeInBytesIsNearTheExactOne(t *testing.T) {
	tested := false
	eachSIMD(t, func(t *testing.T) {
		if !kernels.HasBytes() {
			return
		}
		tested = true
		k := newBench(t, 64, 2)
		const nIn, nOut, n = 172, 70, 300
		x, dy := k.leaf("x", ggml.F32, nIn, n), k.leaf("dy", ggml.F32, nOut, n)
		f := [4]ggml.Tensor{k.small("a", nIn, 1), k.small("b", 1, nOut), k.small("c", nIn, 3), k.small("d", 3, nOut)}
		_, da, db := kernels.ThinMagnitude(k.ctx, x, dy, f[0], f[1], f[2], f[3], 2, true)
		_, byteA, byteB := kernels.ThinMagnitude(k.ctx, x, dy, f[0], f[1], f[2], f[3], 2, false)
		run := k.graph(da, db, byteA, byteB)
		for token := 0; token < n; token += 100 {
			scaleRow(x.Floats()[token*nIn:][:nIn], 1000)
			scaleRow(dy.Floats()[token*nOut:][:nOut], 1e-3)
			clear(dy.Floats()[(token+1)*nOut:][:nOut])
			scaleRow(x.Floats()[(token+1)*nIn:][:nIn], 1000)
		}
		run()
		for name, p := range map[string][2]ggml.Tensor{"dA": {da, byteA}, "dB": {db, byteB}} {
			if d := distance(p[1].Floats(), p[0].Floats()); !(d > 0 && d <= byteError) {
				t.Errorf("%s is %v of its norm from the exact one, want above 0 and up to %v", name, d, byteError)
			}
		}
	})
	if !tested {
		need.Skip(t, need.Processor, "this one has no dot products of bytes")
	}
}

func scaleRow(v []float32, by float32) {
	for i := range v {
		v[i] *= by
	}
}

// distance returns |got − want|/|want|.
func distance(got, want []float32) float64 {
	var diff, norm float64
	for i, w := range want {
		d := float64(got[i] - w)
		diff, norm = diff+d*d, norm+float64(w)*float64(w)
	}
	return math.Sqrt(diff / norm)
}
