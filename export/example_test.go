package export_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"finetune/adapter"
	"finetune/export"
	"finetune/newmodel"
	"finetune/run"
	"finetune/trainer"
)

// Train a Dual LoRA, and make of it a LoRA of rank 4 for llama.cpp.
func Example() {
	dir, err := os.MkdirTemp("", "export")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	trained := train(dir)

	c := export.DefaultConfig()
	c.Run, c.Out, c.Rank, c.Threads = trained, filepath.Join(dir, "adapter.gguf"), 4, 1
	r, err := export.Run(context.Background(), c, nil)
	if err != nil {
		log.Fatal(err)
	}
	a, err := adapter.Load(r.File)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.Method(), "of rank", a.Rank(), "with", a.Parameters(), "parameters")
	fmt.Println("lower loss than the base:", r.ExportLoss < r.BaseLoss)
	// Output:
	// lora of rank 4 with 2176 parameters
	// lower loss than the base: true
}

// train makes a base and a run over it in dir, and returns the run directory.
func train(dir string) string {
	text := strings.Repeat("The quick brown fox jumps over the lazy dog.\n", 40)
	bpe, err := newmodel.TrainBPE(slices.Values([]string{text}), 290)
	if err != nil {
		log.Fatal(err)
	}
	spec := newmodel.DefaultSpec()
	spec.Layers, spec.Embd, spec.Heads, spec.FF, spec.Vocabulary = 1, 32, 4, 64, bpe.Vocabulary()
	m, err := newmodel.New(spec)
	if err != nil {
		log.Fatal(err)
	}
	c := run.DefaultConfig()
	c.Model, c.Data, c.Out = filepath.Join(dir, "base.gguf"), filepath.Join(dir, "train.txt"), filepath.Join(dir, "run")
	c.Rank, c.Ctx, c.Batch, c.Steps, c.LR, c.Threads = 4, 32, 2, 10, 1e-2, 1
	if err := m.WriteFile(c.Model); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(c.Data, []byte(text), 0o666); err != nil {
		log.Fatal(err)
	}
	if _, err := trainer.Train(context.Background(), c, false, nil); err != nil {
		log.Fatal(err)
	}
	return c.Out
}
