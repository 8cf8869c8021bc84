package ggml_test

import (
	"fmt"
	"log"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// A product of a matrix with two vectors.
func Example() {
	cpu, err := ggml.NewCPU(1)
	if err != nil {
		log.Fatal(err)
	}
	defer cpu.Close()
	ctx, err := ggml.NewContext(16, 1)
	if err != nil {
		log.Fatal(err)
	}
	defer ctx.Close()

	w := ctx.NewTensor(ggml.F32, 3, 2).SetInput() // [n_in, n_out]
	x := ctx.NewTensor(ggml.F32, 3, 2).SetInput() // [n_in, n_tokens]
	y := ctx.MulMat(w, x).SetOutput()             // [n_out, n_tokens]
	g := ctx.NewGraph(16)
	g.Expand(y)
	memory, err := cpu.Allocate(g)
	if err != nil {
		log.Fatal(err)
	}
	defer memory.Close()

	w.SetFloats([]float32{1, 2, 3, 4, 5, 6})
	x.SetFloats([]float32{1, 0, 0, 0, 1, -1})
	if err := cpu.Compute(g); err != nil {
		log.Fatal(err)
	}
	fmt.Println(y.Floats())
	// Output: [1 4 -1 -1]
}
