package eval_test

import (
	"context"
	"strings"
	"testing"

	"finetune/eval"
	"finetune/internal/testmodel"
	"finetune/model/native"
)

// A model with a table of positions has none behind its last: a text ends there, as a prompt that is longer begins where it
// fits.
func TestGenerateStaysInTheContext(t *testing.T) {
	m, err := native.Open(testmodel.Path(t, testmodel.Spec{Arch: "gpt2", HeadsKV: 4, Ctx: 16}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e, err := eval.NewEvaluator(m, 16, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, prompt := range []string{"once", strings.Repeat("once upon a time ", 20)} {
		pieces := 0
		if err := e.Generate(context.Background(), prompt, eval.Sampling{Tokens: 100, Temp: 1, TopP: 1, Seed: 1}, func(string) { pieces++ }); err != nil {
			t.Fatal(err)
		}
		if pieces > 16 {
			t.Errorf("a prompt of %d bytes is continued by %d pieces, want at most 16", len(prompt), pieces)
		}
	}
}
