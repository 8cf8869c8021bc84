package trainer_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"finetune/newmodel"
	"finetune/run"
	"finetune/trainer"
)

// Train a LoRA over a model made from nothing, on one sentence.
func Example() {
	dir, err := os.MkdirTemp("", "trainer")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	text := strings.Repeat("The quick brown fox jumps over the lazy dog.\n", 40)

	c := run.DefaultConfig()
	c.Model, c.Data, c.Out = makeBase(dir, text), filepath.Join(dir, "train.txt"), filepath.Join(dir, "run")
	c.Method, c.Rank, c.Ctx, c.Batch, c.Steps, c.LR, c.Threads = "lora", 4, 32, 2, 10, 1e-2, 1
	if err := os.WriteFile(c.Data, []byte(text), 0o666); err != nil {
		log.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		log.Fatal(err)
	}

	steps := 0
	s, err := trainer.Train(context.Background(), c, false, func(e trainer.Event) {
		switch e.Kind {
		case "start":
			fmt.Printf("%d trainable parameters in %d matrices\n", e.Parameters, e.Matrices)
		case "step":
			steps++
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(steps, "steps, the validation loss is lower:", s.ValLoss < s.BaseValLoss)
	fmt.Println(filepath.Base(s.Adapter), "is a GGUF LoRA")
	// Output:
	// 2176 trainable parameters in 7 matrices
	// 10 steps, the validation loss is lower: true
	// adapter.gguf is a GGUF LoRA
}

// makeBase writes an untrained llama of one block, with a tokenizer learned from text, and returns its path.
func makeBase(dir, text string) string {
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
	path := filepath.Join(dir, "base.gguf")
	if err := m.WriteFile(path); err != nil {
		log.Fatal(err)
	}
	return path
}
