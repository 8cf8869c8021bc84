package llama_test

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/internal/llamatest"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// tracedWeights are the weights that the graph of one token reads.
func tracedWeights(t *testing.T, m *llama.Model) (weights []ggml.Tensor) {
	t.Helper()
	nodes, err := traceContext(t, m, llama.ContextParams{NCtx: 256}).Trace(llama.Batch{Tokens: []int32{1}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[ggml.Tensor]bool{}
	for _, n := range nodes {
		for i := range ggml.MaxSrc {
			if w := n.Src(i); !w.IsNil() && w.IsLeaf() && w.IsWeight() && !seen[w] {
				seen[w] = true
				weights = append(weights, w)
			}
		}
	}
	return weights
}

// residentFile is how much of mapped files is in the process's memory, in bytes.
func residentFile(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		if runtime.GOOS == "linux" {
			t.Fatal(err)
		}
		t.Skip("needs system: what of files is resident is not told here")
	}
	_, rest, _ := strings.Cut(string(status), "RssFile:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

func TestDroppedWeightsAreReadAgain(t *testing.T) {
	m := small(t)
	weights := tracedWeights(t, m)
	var before [][]byte
	size := int64(0)
	for _, w := range weights {
		before = append(before, bytes.Clone(w.Raw()))
		size += w.Bytes()
	}
	resident := residentFile(t)
	if got, want := m.DropWeights(weights), runtime.GOOS == "linux"; got != want {
		t.Fatalf("DropWeights = %v on %s, want %v", got, runtime.GOOS, want)
	}
	const shared = 256 << 10 // pages of the program itself that came or went meanwhile
	if left := residentFile(t); resident-left < size-shared {
		t.Errorf("%d bytes of files were resident, %d after dropping weights of %d", resident, left, size)
	}
	for i, w := range weights {
		if !bytes.Equal(w.Raw(), before[i]) {
			t.Errorf("%s changed", w.Name())
		}
	}
}

func TestWeightsThatWereReadAreNotDropped(t *testing.T) {
	m, err := llama.LoadModel(llamatest.Model(t), llama.ModelParams{NoMmap: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrFail(t, m) })
	weights := tracedWeights(t, m)
	before := bytes.Clone(weights[0].Raw())
	if m.DropWeights(weights) {
		t.Error("DropWeights of weights in ordinary memory = true")
	}
	if !bytes.Equal(weights[0].Raw(), before) {
		t.Error("the weights are lost")
	}
}
