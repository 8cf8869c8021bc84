package merge_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/merge"
	"finetune/quant"
)

// Put a LoRA into the one weight that it is on. The other tensor, and every key, stays as it was.
func Example() {
	dir, err := os.MkdirTemp("", "merge")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	base, lora := filepath.Join(dir, "base.gguf"), filepath.Join(dir, "adapter.gguf")

	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	b.AddTensor("blk.0.attn_q.weight", gguf.TypeF32, []int64{4, 2}, make([]byte, 4*4*2))
	b.AddTensor("output_norm.weight", gguf.TypeF32, []int64{4}, make([]byte, 4*4))
	if err := b.WriteFile(base); err != nil {
		log.Fatal(err)
	}

	a := &adapter.Adapter{Architecture: "llama", Weights: []adapter.Weight{{
		Name: "blk.0.attn_q.weight",
		Factors: &adapter.LoRA{
			A:     adapter.Mat{NE: [2]int{4, 1}, Data: []float32{1, 2, 3, 4}}, // [n_in, rank]
			B:     adapter.Mat{NE: [2]int{1, 2}, Data: []float32{1, -1}},      // [rank, n_out]
			Alpha: 2,                                                          // ΔW = 2/1·B·A
		},
	}}}
	if err := a.Save(lora); err != nil {
		log.Fatal(err)
	}

	r, err := merge.Merge(context.Background(), merge.Config{
		Model: base, Out: filepath.Join(dir, "merged.gguf"),
		Adapters: []merge.Adapter{{Path: lora, Scale: 0.5}},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range r.Tensors {
		fmt.Println(t.Name, "in", t.Type, "keeps", t.Kept, "of ΔW")
	}

	merged, err := gguf.Open(r.Files[0])
	if err != nil {
		log.Fatal(err)
	}
	defer merged.Close()
	w := make([]float32, 8)
	raw, err := merged.Data("blk.0.attn_q.weight")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(quant.Decode(gguf.TypeF32, raw, w), w)
	// Output:
	// blk.0.attn_q.weight in f32 keeps 1 of ΔW
	// <nil> [1 2 3 4 -1 -2 -3 -4]
}
