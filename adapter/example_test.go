package adapter_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"finetune/adapter"
	"finetune/gguf"
)

// matrices are two weights of a base, [n_in, n_out]. Those of a real one come from model.Open.
var matrices = []gguf.Tensor{
	{Name: "blk.0.attn_q.weight", Shape: []int64{8, 8}},
	{Name: "blk.0.attn_v.weight", Shape: []int64{8, 4}},
}

// Build a LoRA of rank 2, write it as the GGUF that llama.cpp loads, and read it back.
func Example() {
	dir, err := os.MkdirTemp("", "adapter")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "adapter.gguf")

	targets, err := adapter.ParseTargets("attention")
	if err != nil {
		log.Fatal(err)
	}
	chosen, err := targets.Select(matrices)
	if err != nil {
		log.Fatal(err)
	}
	a, err := adapter.Build(adapter.MethodLoRA, 2, 4, chosen) // alpha 4: ΔW = 4/2·B·A
	if err != nil {
		log.Fatal(err)
	}
	a.Architecture = "llama"
	a.Init(1) // A is drawn, B is zero: nothing has changed yet

	if err := a.Save(path); err != nil {
		log.Fatal(err)
	}
	a, err = adapter.Load(path)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.Method(), "of rank", a.Rank(), "with", a.Parameters(), "parameters")
	for _, w := range a.Weights {
		norm, err := adapter.Norm(w)
		fmt.Println(w.Name, "scale", w.Scale(), "‖ΔW‖", norm, err)
	}
	// Output:
	// lora of rank 2 with 56 parameters
	// blk.0.attn_q.weight scale 2 ‖ΔW‖ 0 <nil>
	// blk.0.attn_v.weight scale 2 ‖ΔW‖ 0 <nil>
}

// Cut a Dual LoRA, whose ΔW has a high rank, to the LoRA that llama.cpp loads.
func ExampleDecompose() {
	dir, err := os.MkdirTemp("", "adapter")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "adapter.gguf")

	a, err := adapter.Build(adapter.MethodDual, 4, 0, matrices)
	if err != nil {
		log.Fatal(err)
	}
	a.Architecture = "llama"
	a.Init(1)
	for _, w := range a.Weights { // as if it had been trained
		for i, dual := 0, w.Factors.(*adapter.Dual); i < len(dual.B.Data); i++ {
			dual.B.Data[i] = 0.1
		}
	}

	d, err := adapter.Decompose(context.Background(), a, adapter.DecomposeOptions{Energy: 0.9})
	if err != nil {
		log.Fatal(err)
	}
	lora, reports, err := d.Project(d.Whole())
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range reports {
		fmt.Println(r.Name, "rank", r.Rank, "keeps 90 %:", r.Energy >= 0.9)
	}
	fmt.Println(lora.Method(), lora.WriteLoRA(path, adapter.LoRAOptions{Type: gguf.TypeF16}))
	// Output:
	// blk.0.attn_q.weight rank 2 keeps 90 %: true
	// blk.0.attn_v.weight rank 1 keeps 90 %: true
	// lora <nil>
}
