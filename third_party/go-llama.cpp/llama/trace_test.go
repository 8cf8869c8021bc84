package llama_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/internal/llamatest"
	"github.com/go-skynet/go-llama.cpp/llama"
)

func traceContext(t *testing.T, m *llama.Model, p llama.ContextParams) *llama.Context {
	p.Trace = true
	p.TypeK, p.TypeV = typ(ggml.F32), typ(ggml.F32)
	return newContext(t, m, p)
}

func TestTraceListsTheGraphWithoutRunningIt(t *testing.T) {
	var logged []string
	llama.SetLog(func(level llama.LogLevel, text string) {
		if level >= llama.LogWarn {
			logged = append(logged, text)
		}
	})
	defer llama.SetLog(nil)

	m := small(t)
	c := traceContext(t, m, llama.ContextParams{NCtx: 256})
	tokens := tokenize(t, m, "Once upon a time")
	logged = nil
	nodes, err := c.Trace(llama.Batch{Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, n := range nodes {
		count[n.Op()]++
	}
	// 5 blocks: 7 matrices and the two products of attention in each, and the output matrix
	if got, want := count["MUL_MAT"], 5*9+1; got != want {
		t.Errorf("MUL_MAT nodes = %d, want %d", got, want)
	}
	if got, want := count["RMS_NORM"], 2*5+1; got != want {
		t.Errorf("RMS_NORM nodes = %d, want %d", got, want)
	}
	if count["FLASH_ATTN_EXT"] != 0 || count["SOFT_MAX"] != 5 {
		t.Errorf("FLASH_ATTN_EXT, SOFT_MAX nodes = %d, %d, want 0, 5", count["FLASH_ATTN_EXT"], count["SOFT_MAX"])
	}
	if got, want := nodes[len(nodes)-1].NE(), [4]int64{1536, 1, 1, 1}; got != want {
		t.Errorf("shape of the last node = %v, want one row of logits %v", got, want)
	}
	seen := map[ggml.Tensor]bool{}
	for _, n := range nodes {
		for i := range ggml.MaxSrc {
			if s := n.Src(i); !s.IsNil() && !s.IsLeaf() && !seen[s] && s != n {
				t.Fatalf("node %q comes before its operand %q", n.Name(), s.Name())
			}
		}
		seen[n] = true
	}
	if len(logged) > 0 {
		t.Errorf("the trace logged %q", logged)
	}
	if got := c.Len(0); got != 0 {
		t.Errorf("Len after a trace = %d, want 0", got)
	}
}

func TestTraceFillsTheInputs(t *testing.T) {
	m := small(t)
	c := traceContext(t, m, llama.ContextParams{NCtx: 256})
	tokens := tokenize(t, m, "Once upon a time there was a little girl")
	nodes, err := c.Trace(llama.Batch{Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	if ids := nodes[0].Src(1); nodes[0].Op() != "GET_ROWS" || !slices.Equal(ids.Ints(), tokens) {
		t.Errorf("first node is %s of %v, want GET_ROWS of the tokens %v", nodes[0].Op(), ids.Ints(), tokens)
	}
	for _, n := range nodes {
		switch n.Op() {
		case "ROPE":
			for i, p := range n.Src(1).Ints() {
				if p != int32(i) {
					t.Fatalf("positions = %v, want 0, 1, 2 …", n.Src(1).Ints())
				}
			}
		case "SOFT_MAX":
			checkCausal(t, n.Src(1), len(tokens))
		}
	}
}

// checkCausal wants row q of mask [n_kv, T] to hide exactly what comes after q.
func checkCausal(t *testing.T, mask ggml.Tensor, n int) {
	t.Helper()
	nkv := int(mask.NE()[0])
	for q, row := 0, mask.Floats(); q < n; q++ {
		for k := range nkv {
			if visible := row[q*nkv+k] == 0; visible != (k <= q) {
				t.Fatalf("mask of token %d at %d = %v", q, k, row[q*nkv+k])
			}
		}
	}
}

func TestTraceOfSeveralSequences(t *testing.T) {
	m := small(t)
	const nSeq, n = 4, 32
	c := traceContext(t, m, llama.ContextParams{NCtx: nSeq * 256, NSeqMax: nSeq, NUBatch: nSeq * n})
	var b llama.Batch
	for s := range int32(nSeq) {
		for i := range int32(n) {
			b.Tokens = append(b.Tokens, 100+i)
			b.Pos = append(b.Pos, i)
			b.Seq = append(b.Seq, s)
			b.Output = append(b.Output, true)
		}
	}
	nodes, err := c.Trace(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := nodes[len(nodes)-1].NE(), [4]int64{1536, nSeq * n, 1, 1}; got != want {
		t.Errorf("shape of the logits = %v, want %v", got, want)
	}
	for _, node := range nodes {
		if node.Op() == "SOFT_MAX" && node.NE()[3] != nSeq {
			t.Fatalf("attention has shape %v, want %d streams", node.NE(), nSeq)
		}
	}
}

func TestTracingLeavesDecodingAsItWas(t *testing.T) {
	m := small(t)
	tokens := tokenize(t, m, "Once upon a time")
	plain := newContext(t, m, llama.ContextParams{NCtx: 256, FlashAttn: llama.FlashAttnOff, TypeK: typ(ggml.F32), TypeV: typ(ggml.F32)})
	c := traceContext(t, m, llama.ContextParams{NCtx: 256})
	want := lastLogits(t, plain, tokens)
	for range 2 {
		if _, err := c.Trace(llama.Batch{Tokens: tokens}); err != nil {
			t.Fatal(err)
		}
		if got := lastLogits(t, c, tokens); !slices.Equal(got, want) {
			t.Fatalf("logits after a trace differ by %g", maxDiff(got, want))
		}
		c.ClearMemory()
	}
}

func TestTraceSeesAdapters(t *testing.T) {
	m := small(t)
	a := loadAdapter(t, m, llamatest.WriteAdapter(t, llamatest.AdapterSpec{Alpha: 4}))
	c := traceContext(t, m, llama.ContextParams{NCtx: 256})
	if _, err := c.Trace(llama.Batch{Tokens: tokenize(t, m, "Once")}); err != nil {
		t.Fatal(err)
	}
	if err := c.SetAdapter(a, 1); err != nil {
		t.Fatal(err)
	}
	nodes, err := c.Trace(llama.Batch{Tokens: tokenize(t, m, "Once")})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, n := range nodes {
		found = found || strings.HasSuffix(n.Src(0).Name(), ".lora_a")
	}
	if !found {
		t.Error("no node multiplies with the adapter's lora_a")
	}
}

func TestTraceRefusesWhatIsNotOneGraph(t *testing.T) {
	m := small(t)
	two := traceContext(t, m, llama.ContextParams{NCtx: 512, NSeqMax: 2, NUBatch: 8})
	for _, tt := range []struct {
		name string
		c    *llama.Context
		b    llama.Batch
		want string
	}{
		{"context not made for it", newContext(t, m, llama.ContextParams{}), llama.Batch{Tokens: []int32{1}}, "ContextParams.Trace"},
		{"above NUBatch", two, llama.Batch{Tokens: make([]int32, 9)}, "at most NUBatch = 8"},
		{"unequal sequences", two, llama.Batch{Tokens: []int32{1, 1, 1}, Seq: []int32{0, 0, 1}}, "wants them equal"},
		{"sequences out of order", two, llama.Batch{Tokens: []int32{1, 1}, Seq: []int32{1, 0}}, "follow each other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.c.Trace(tt.b); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Trace = %v, want %q", err, tt.want)
			}
		})
	}
}
