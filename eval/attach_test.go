package eval_test

import (
	"errors"
	"path/filepath"
	"testing"

	"finetune/adapter"
	"finetune/eval"
	"finetune/internal/hint"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/internal/testrun/trained"
	"finetune/run"
	"finetune/trainer/data"
)

// With 24 to 28 blocks of nine tensors, as a Llama of 3 billion parameters has, adapters over all matrices are more than a
// graph has room for that llama.cpp sized without them, and it would end the process: while training traces, and with
// adapters in use.
func TestAdaptersOverManyBlocks(t *testing.T) {
	c := testrun.Tiny(t)
	c.Model = testmodel.Path(t, testmodel.Spec{Layers: 28, Embd: 32, FF: 48, Ctx: 64})
	c.Method, c.Steps = "lora", 2
	trained.Run(t, c)
	m := testrun.Model(t, c)
	_, val := testrun.Data(t, m, c)
	e := trained.Evaluator(t, m, c.Ctx)
	path := filepath.Join(c.Out, run.AdapterFile)
	const adapters = 4
	for range adapters {
		if _, err := e.Attach(path, 1); err != nil {
			t.Fatal(err)
		}
	}
	four := trained.Loss(t, e, val.All())
	one := trained.Evaluator(t, m, c.Ctx)
	if _, err := one.Attach(path, adapters); err != nil {
		t.Fatal(err)
	}
	if got := trained.Loss(t, one, val.All()); !near.Within(got, four, sameBatchTolerance) {
		t.Errorf("loss %.6f with one adapter at four times its scale, %.6f with four", got, four)
	}
}

// More documents fit into a batch by their tokens than llama.cpp takes sequences.
func TestManyShortDocuments(t *testing.T) {
	c := testrun.Tiny(t)
	c.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48})
	m := testrun.Model(t, c)
	const n = 2 * eval.MaxSequences
	many := data.Blank(n)
	var single []data.Window
	for i := range n {
		token, target := int32(3+i%256), int32(5+i%250)
		many.Tokens[i], many.Targets[i], many.Pos[i], many.Doc[i], many.LossMask[i] = token, target, 0, int32(i), 1
		single = append(single, data.Window{Tokens: []int32{token}, Targets: []int32{target}, Pos: []int32{0}, Doc: []int32{0}, LossMask: []float32{1}})
	}
	want := trained.Loss(t, trained.Evaluator(t, m, 1), single)
	if got := trained.Loss(t, trained.Evaluator(t, m, n), []data.Window{many}); !near.Within(got, want, sameBatchTolerance) {
		t.Errorf("loss of %d documents of one token in a window %.6f, want %.6f", n, got, want)
	}
}

func TestAttachAddsUpAndDetaches(t *testing.T) {
	c := testrun.Tiny(t)
	c.Steps = 30
	trained.Run(t, c)
	m := testrun.Model(t, c)
	_, val := testrun.Data(t, m, c)
	e := trained.Evaluator(t, m, c.Ctx)
	base := trained.Loss(t, e, val.All())
	whole, err := e.Attach(c.Out, 1) // a run directory
	if err != nil {
		t.Fatal(err)
	}
	with := trained.Loss(t, e, val.All())
	if !near.Apart(with, base, 20*sameLossTolerance) {
		t.Fatalf("loss %v with the adapter, %v without: too little to tell", with, base)
	}
	if err := whole(); err != nil {
		t.Fatal(err)
	}
	if got := trained.Loss(t, e, val.All()); got != base {
		t.Errorf("loss %v after the adapter was taken off, want %v", got, base)
	}
	for range 2 { // two halves
		detach, err := e.Attach(filepath.Join(c.Out, run.AdapterFile), 0.5)
		if err != nil {
			t.Fatal(err)
		}
		defer detach()
	}
	if got := trained.Loss(t, e, val.All()); !near.Within(got, with, sameLossTolerance) {
		t.Errorf("loss %v with two halves of the adapter, want %v", got, with)
	}
}

// What is too large for llama.cpp is refused before its exact form is made.
func TestAttachRefusesAnExactFormThatIsTooLarge(t *testing.T) {
	testrun.NoLeavings(t)
	c := testrun.Tiny(t)
	c.Steps = 2
	trained.Run(t, c)
	e := trained.Evaluator(t, testrun.Model(t, c), c.Ctx)
	a, err := adapter.Load(filepath.Join(c.Out, run.AdapterFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, missing := range []int64{0, 1} {
		eval.LimitExact(e, a.ExactBytes()-missing)
		detach, err := e.Attach(c.Out, 1)
		if got := errors.Is(err, eval.ErrExactTooLarge); got != (missing > 0) || got && len(hint.Of(err)) == 0 {
			t.Errorf("%d bytes too few: Attach = %v", missing, err)
		}
		if err == nil {
			detach()
		}
	}
}

// Each detach takes off its own adapter and no other.
func TestDetachLeavesTheOthers(t *testing.T) {
	c := testrun.Tiny(t)
	c.Steps = 30
	trained.Run(t, c)
	other := testrun.Elsewhere(t, c)
	other.Seed, other.Method = 7, "lora"
	trained.Run(t, other)
	m := testrun.Model(t, c)
	_, val := testrun.Data(t, m, c)
	first, both := trained.Evaluator(t, m, c.Ctx), trained.Evaluator(t, m, c.Ctx)
	if _, err := first.Attach(c.Out, 0.7); err != nil {
		t.Fatal(err)
	}
	want := trained.Loss(t, first, val.All())
	if _, err := both.Attach(c.Out, 0.7); err != nil {
		t.Fatal(err)
	}
	detach, err := both.Attach(other.Out, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := trained.Loss(t, both, val.All()); got == want {
		t.Fatalf("loss %v with a second adapter as with one: too little to tell", got)
	}
	if err := detach(); err != nil {
		t.Fatal(err)
	}
	if got := trained.Loss(t, both, val.All()); got != want {
		t.Errorf("loss %v after the second adapter was taken off, want %v as with the first alone", got, want)
	}
}

// sameLossTolerance is for losses of one model in batches of other shapes.
const sameLossTolerance = 1e-3

// sameBatchTolerance is for llama.cpp's loss when documents share a batch.
const sameBatchTolerance = 1e-4
