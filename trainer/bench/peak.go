package bench

import (
	"time"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// peakTime is how long the multiply-add loop, or a product on a device, runs each time it is measured.
const peakTime = 200 * time.Millisecond

// peak returns the multiply-adds a second, counted as two, of what trains: of the processor in registers, or of a device in a product
// of square matrices, the largest that it needs to be busy for peakTime.
func peak(o Options) (float64, error) {
	if o.On.OnCPU() {
		return kernels.PeakFLOPS(o.Threads, peakTime), nil
	}
	b, err := o.On.Device.NewBackend()
	if err != nil {
		return 0, err
	}
	defer b.Close()
	const least, most = 256, 8192
	for n := int64(least); ; n *= 2 {
		seconds, err := productTime(b, n)
		if err != nil || seconds >= peakTime.Seconds() || n == most {
			return 2 * float64(n*n*n) / seconds, err
		}
	}
}

// productTime returns the seconds that a product of two matrices [n, n] takes on a device, F16 by F32, the second time.
func productTime(b *ggml.Backend, n int64) (seconds float64, err error) {
	c, err := ggml.NewContext(4, 1)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	g := c.NewGraph(4)
	x, y := c.NewTensor(ggml.F16, n, n).SetInput(), c.NewTensor(ggml.F32, n, n).SetInput()
	g.Expand(c.MulMat(x, y).SetOutput())
	memory, err := b.Allocate(g)
	if err != nil {
		return 0, err
	}
	defer memory.Close()
	x.Zero()
	y.Zero()
	for range 2 {
		start := time.Now()
		if err := b.Compute(g); err != nil {
			return 0, err
		}
		seconds = time.Since(start).Seconds()
	}
	return seconds, nil
}
