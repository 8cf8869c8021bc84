package ggml_test

import (
	"math"
	"testing"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

func TestGraphComputesWhatItsOperationsSay(t *testing.T) {
	ctx, err := ggml.NewContext(16, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	cpu, err := ggml.NewCPU(2)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	a := ctx.NewTensor(ggml.F32, 3, 2).SetName("a").SetInput()
	b := ctx.NewTensor(ggml.F32, 3, 1).SetName("b").SetInput()
	y := ctx.Scale(ctx.MulMat(a, b), 2).SetOutput()
	g := ctx.NewGraph(16)
	g.Expand(y)
	alloc, err := cpu.Allocate(g)
	if err != nil {
		t.Fatal(err)
	}
	defer alloc.Close()
	a.SetFloats([]float32{1, 2, 3, 4, 5, 6})
	b.SetFloats([]float32{1, 0, -1})
	if err := cpu.Compute(g); err != nil {
		t.Fatal(err)
	}
	if got := y.Floats(); got[0] != -4 || got[1] != -4 {
		t.Errorf("2·aᵀb = %v, want [-4 -4]", got)
	}
	if got := y.Op(); got != "SCALE" {
		t.Errorf("Op() = %q, want %q", got, "SCALE")
	}
}

func TestQuantizeRoundTrip(t *testing.T) {
	const q8 = ggml.Type(8)
	src := make([]float32, 64)
	for i := range src {
		src[i] = float32(i) - 31.5
	}
	data, err := ggml.Quantize(q8, src, 32, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 64)
	if err := ggml.Dequantize(q8, data, got); err != nil {
		t.Fatal(err)
	}
	const half = 31.5 / 127 // half a step of the coarser block's scale, rounded up for the F16 scale
	for i := range got {
		if !(math.Abs(float64(got[i]-src[i])) <= half) {
			t.Errorf("element %d: got %v, want %v within %v", i, got[i], src[i], half)
		}
	}
	if err := ggml.Dequantize(q8, data[:33], got); err == nil {
		t.Error("Dequantize of 33 bytes into 64 elements: no error")
	}
}
