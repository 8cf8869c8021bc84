package ggml_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// What ggml asserts when a tensor is written, read, cleared or copied is an error of the call, and the process goes on.
func TestFailedTransfersAreErrors(t *testing.T) {
	ctx, err := ggml.NewContext(2, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	homeless := ctx.NewTensor(ggml.F32, 3).SetName("homeless") // no buffer was given to it
	for doing, err := range map[string]error{
		"writing":  homeless.SetFloats(make([]float32, 3)),
		"reading":  homeless.GetFloats(make([]float32, 3)),
		"clearing": homeless.Zero(),
		"copying":  homeless.CopyTo(ctx.NewTensor(ggml.F32, 3)),
	} {
		if err == nil || !strings.Contains(err.Error(), doing) || !strings.Contains(err.Error(), `"homeless" of 12 bytes`) || !strings.Contains(err.Error(), "buffer") || errors.Is(err, ggml.ErrNoMemory) {
			t.Errorf("%s a tensor without memory: %v", doing, err)
		}
	}
}

// Memory that no device has is refused by each, for tensors and for graphs on one backend and on several. Then they still compute.
func TestDevicesWithoutMemoryAreErrors(t *testing.T) {
	for _, d := range ggml.Devices() {
		t.Run(d.Name(), func(t *testing.T) {
			b, err := d.NewBackend()
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			ctx, err := ggml.NewContext(8, 4)
			if err != nil {
				t.Fatal(err)
			}
			defer ctx.Close()
			const absurd = 1 << 50 // bytes
			x := ctx.NewTensor(ggml.F32, absurd/4)
			g := ctx.NewGraph(4)
			g.Expand(ctx.Neg(x))
			refused := map[string]error{}
			_, refused["graph"] = b.Allocate(g)
			_, refused["placed graph"] = ggml.AllocatePlaced([]*ggml.Backend{b, b}, g, []int32{1}, []int32{0})
			_, refused["tensors"] = b.AllocateAll(ctx)
			for what, err := range refused {
				if !errors.Is(err, ggml.ErrNoMemory) || !strings.Contains(err.Error(), d.Name()) {
					t.Errorf("%s of %d bytes: %v, want ErrNoMemory and the device's name", what, int64(absurd), err)
				}
			}
			computeOn(t, d)
		})
	}
}
