package run_test

import (
	"fmt"

	"finetune/run"
)

// Settings are checked before anything is opened, and say which of them make another run.
func Example() {
	c := run.DefaultConfig()
	c.Model, c.Data, c.Out = "base.gguf", "train.jsonl", "run"
	fmt.Println(c.Method, "of rank", c.Rank, c.Validate())

	c.Ctx = 0
	fmt.Println(c.Validate())

	earlier := run.DefaultConfig()
	c.Ctx, c.LR, c.Threads = earlier.Ctx, 1e-3, 4 // the number of threads changes nothing
	fmt.Println(c.Changed(earlier), c.Hash() == earlier.Hash())
	// Output:
	// dual-lora of rank 16 <nil>
	// setting "ctx": want 2 or more, got 0
	// [lr] false
}
