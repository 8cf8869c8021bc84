package kernels_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// bench is a CPU, a context and the leaves of one graph, filled with seeded random numbers.
type bench struct {
	tb   testing.TB
	cpu  *ggml.Backend
	ctx  *ggml.Context
	home []func() // fills a leaf once it has memory
	rng  *rand.Rand
}

func newBench(tb testing.TB, nodes, threads int) *bench {
	tb.Helper()
	cpu, err := ggml.NewCPU(threads)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { cpu.Close() })
	ctx, err := ggml.NewContext(nodes, 1)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ctx.Close() })
	return &bench{tb: tb, cpu: cpu, ctx: ctx, rng: rand.New(rand.NewPCG(1, 2))}
}

// leaf makes an input of standard normal numbers, rounded to the type.
func (k *bench) leaf(name string, typ ggml.Type, ne ...int64) ggml.Tensor {
	return k.leafOf(name, typ, k.rng.NormFloat64, ne...)
}

// small makes an F32 input of multiples of 1/8 in [−1, 1]: sums of a few products of two are exact in any order.
func (k *bench) small(name string, ne ...int64) ggml.Tensor {
	return k.leafOf(name, ggml.F32, func() float64 { return float64(k.rng.IntN(17)-8) / 8 }, ne...)
}

func (k *bench) leafOf(name string, typ ggml.Type, draw func() float64, ne ...int64) ggml.Tensor {
	t := k.ctx.NewTensor(typ, ne...).SetName(name).SetInput().SetOutput()
	k.home = append(k.home, func() {
		if !t.HasData() { // not in the graph
			return
		}
		if typ.BlockSize() > 1 {
			k.randomBlocks(t)
			return
		}
		v := make([]float32, t.Elements())
		for i := range v {
			v[i] = float32(draw())
		}
		if typ == ggml.F32 {
			t.SetFloats(v)
			return
		}
		data, err := ggml.Quantize(typ, v, int(ne[0]), nil)
		if err != nil {
			k.tb.Fatal(err)
		}
		copy(t.Raw(), data)
	})
	return t
}

// randomBlocks fills a quantized tensor with blocks of random bytes whose greatest value is of a usable size, every
// pattern that a file may hold.
func (k *bench) randomBlocks(t ggml.Tensor) {
	values := make([]float32, t.Type().BlockSize())
	for block := range slices.Chunk(t.Raw(), int(t.Type().BlockBytes())) {
		for usable := false; !usable; {
			for i := range block {
				block[i] = byte(k.rng.Uint32())
			}
			if err := ggml.Dequantize(t.Type(), block, values); err != nil {
				k.tb.Fatal(err)
			}
			largest := float32(0)
			for _, v := range values {
				largest = max(largest, v, -v)
			}
			usable = largest > 1e-3 && largest < 100
		}
	}
}

// factors are a [n_in, r1], b [r1, n_out], c [n_in, r2], d [r2, n_out] for a weight.
func (k *bench) factors(w ggml.Tensor, r1, r2 int64) [4]ggml.Tensor {
	ne := w.NE()
	return [4]ggml.Tensor{k.small("a", ne[0], r1), k.small("b", r1, ne[1]), k.small("c", ne[0], r2), k.small("d", r2, ne[1])}
}

// graph gives the nodes memory, fills the leaves and returns a function that computes the results.
func (k *bench) graph(results ...ggml.Tensor) func() {
	k.tb.Helper()
	g := k.ctx.NewGraph(64)
	for _, r := range results {
		r.SetOutput()
		g.Expand(r)
	}
	alloc, err := k.cpu.Allocate(g)
	if err != nil {
		k.tb.Fatal(err)
	}
	k.tb.Cleanup(func() { alloc.Close() })
	for _, fill := range k.home {
		fill()
	}
	return func() {
		if err := k.cpu.Compute(g); err != nil {
			k.tb.Fatal(err)
		}
	}
}

// weightTypes are all types that a weight can have, without F32.
func weightTypes() (types []ggml.Type) {
	for typ := range ggml.Type(64) {
		if typ != ggml.F32 && typ.BlockSize() > 0 && typ.CanDequantize() {
			types = append(types, typ)
		}
	}
	return types
}

// wideRow is the least number of elements in whole blocks above 512, the columns that a kernel takes at a time.
func wideRow(typ ggml.Type) int64 { return (512/typ.BlockSize() + 1) * typ.BlockSize() }

func typeNamed(name string) ggml.Type {
	for t := range ggml.Type(64) {
		if t.BlockSize() > 0 && t.String() == name {
			return t
		}
	}
	panic("no type " + name)
}

// values are the elements of a tensor of any type, as float64.
func values(t ggml.Tensor) []float64 {
	v := make([]float32, t.Elements())
	if err := ggml.Dequantize(t.Type(), t.Raw(), v); err != nil {
		panic(err)
	}
	out := make([]float64, len(v))
	for i := range v {
		out[i] = float64(v[i])
	}
	return out
}

// eachSIMD runs f with every instruction set of this CPU.
func eachSIMD(t *testing.T, f func(t *testing.T)) {
	best := kernels.SIMD()
	t.Cleanup(func() { kernels.UseSIMD(best) })
	for _, name := range []string{"avx512", "avx2", "neon", "portable"} {
		if kernels.UseSIMD(name) == nil {
			t.Run(name, f)
		}
	}
}

// near fails unless got is within tolerance·scale of want, element by element.
func near(t *testing.T, what string, got []float32, want, scale []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range want {
		if !(math.Abs(float64(got[i])-want[i]) <= tolerance*scale[i]) { // NaN too
			t.Errorf("%s: element %d of %d = %v, want %v within %v", what, i, len(want), got[i], want[i], tolerance*scale[i])
			return
		}
	}
}
