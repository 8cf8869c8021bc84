package ggml_test

import (
	"math"
	"slices"
	"testing"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// deviceTolerance is the largest error of a sum of 96 products of factors below 1 on a device that multiplies in 16 bits: each
// factor is off by at most 2⁻¹¹ of it.
const deviceTolerance = 96 * 2 / 2048.0

// Every device that is there multiplies as plain loops do, and says where its tensors lie.
func TestDevicesCompute(t *testing.T) {
	devices := ggml.Devices()
	if last := devices[len(devices)-1]; last.Type() != ggml.DeviceCPU || last.Name() != "CPU" || last.Software() {
		t.Errorf("the last of %d devices is %q, want the CPU", len(devices), last.Name())
	}
	for _, d := range devices {
		t.Run(d.Name(), func(t *testing.T) { computeOn(t, d) })
	}
}

func computeOn(t *testing.T, d ggml.Device) {
	if free, total := d.Memory(); free < 0 || total < free {
		t.Errorf("memory of %q: %d bytes free of %d", d.Description(), free, total)
	}
	if !slices.Contains(ggml.Backends(), d.Backend()) {
		t.Errorf("backend %q is none of %v", d.Backend(), ggml.Backends())
	}
	b, err := d.NewBackend()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.Device() != d {
		t.Errorf("the backend runs on %q", b.Device().Name())
	}
	ctx, err := ggml.NewContext(16, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	const k, n, m = 96, 33, 7
	w, x := ctx.NewTensor(ggml.F32, k, n), ctx.NewTensor(ggml.F32, k, m)
	if w.Device() != (ggml.Device{}) || d.Holds(w) {
		t.Error("a tensor without memory lies somewhere")
	}
	buffer, err := b.AllocateAll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Close()
	if w.Device() != d || !d.Holds(w) {
		t.Errorf("the tensor lies on %q", w.Device().Name())
	}
	wv, xv := waves(k*n, 0.7), waves(k*m, 1.3)
	w.SetFloats(wv)
	x.SetFloats(xv)
	y := ctx.MulMat(w, x).SetOutput()
	if !d.Supports(y) {
		t.Fatal("no product of F32 matrices")
	}
	copied := make([]float32, n*m)
	compute(t, b, ctx, y, copied)
	for i := range n {
		for j := range m {
			want := 0.0
			for l := range k {
				want += float64(wv[i*k+l]) * float64(xv[j*k+l])
			}
			if got := float64(copied[j*n+i]); !(math.Abs(got-want) <= deviceTolerance) {
				t.Fatalf("y[%d, %d] = %v, want %v", i, j, got, want)
			}
		}
	}
}

// compute runs a node and copies its values out.
func compute(t *testing.T, b *ggml.Backend, ctx *ggml.Context, y ggml.Tensor, out []float32) {
	t.Helper()
	g := ctx.NewGraph(8)
	g.Expand(y)
	alloc, err := b.Allocate(g)
	if err != nil {
		t.Fatal(err)
	}
	defer alloc.Close()
	if err := b.Compute(g); err != nil {
		t.Fatal(err)
	}
	y.GetFloats(out)
}

// waves returns n numbers below 1.
func waves(n int, step float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(math.Sin(step * float64(i)))
	}
	return v
}
