package kernels_test

import (
	"os"
	"strings"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// The kernels state again what a tensor looks like (tensor.h). It has to be what the binding of ggml states, which
// ggml.Check compares with the library.
func TestTensorIsTheOneOfTheBinding(t *testing.T) {
	ours, theirs := read(t, "tensor.h"), read(t, "../third_party/go-llama.cpp/ggml/abi.h")
	for _, opening := range []string{"enum { FT_MAX_DIMS", "enum { FT_PARAM", "typedef void *ggml_object;", "struct ggml_tensor {", "struct ggml_type_traits {"} {
		got, want := declaration(ours, opening), declaration(theirs, opening)
		if got == "" || got != want {
			t.Errorf("tensor.h has %q, the binding's abi.h has %q", got, want)
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

// declaration is what begins so in a header, up to the line that ends it.
func declaration(header, opening string) string {
	at := strings.Index(header, "\n"+opening)
	if at < 0 {
		return ""
	}
	var lines []string
	for line := range strings.Lines(header[at+1:]) {
		lines = append(lines, line)
		if lines[0] == line && strings.Contains(line, ";") || strings.HasPrefix(line, "}") {
			break
		}
	}
	return strings.Join(lines, "")
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
