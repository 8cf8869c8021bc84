package kernels_test

import (
	"os"
	"strings"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Where a custom operation's own parameters start is stated twice: here and in the binding of ggml, whose folder is of
// another module.
func TestParametersLieWhereTheBindingPutsThem(t *testing.T) {
	const want = "enum { FT_PARAM = 8 };"
	for _, name := range []string{"tensor.h", "../third_party/go-llama.cpp/ggml/abi.h"} {
		if text := read(t, name); !strings.Contains(text, want) {
			t.Errorf("%s does not have %q", name, want)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestNameTellsOursFromGgmls(t *testing.T) {
	k := newBench(t, 16, 1)
	w, x := k.small("w", 3, 2), k.small("x", 3, 4)
	for want, node := range map[string]ggml.Tensor{
		"WEIGHT_MUL": kernels.WeightMul(k.ctx, w, x),
		"ADD_SUMS":   kernels.AddSums(k.ctx, k.small("total", 3), x, ggml.Tensor{}),
		"":           k.ctx.MulMat(w, x),
	} {
		if got := kernels.Name(node); got != want {
			t.Errorf("Name of %s = %q, want %q", node.Op(), got, want)
		}
	}
	if got := kernels.Name(w); got != "" {
		t.Errorf("Name of a leaf = %q, want none", got)
	}
}
