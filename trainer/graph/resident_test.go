package graph

import (
	"fmt"
	"runtime"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testmodel"
)

// planned is an engine that has no memory yet, closed at the end of the test.
func planned(t *testing.T, path string, method adapter.Method, shape Shape) *Engine {
	t.Helper()
	m := loadModel(t, path)
	e, err := Prepare(m, allLinear(t, path, method, 4), Options{Shape: shape, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// stepWith is the loss of one step and its gradients after f has chosen between memory and work.
func stepWith(t *testing.T, e *Engine, f func()) (float64, []Gradient) {
	t.Helper()
	f()
	if err := e.Allocate(); err != nil {
		t.Fatal(err)
	}
	loss, err := e.Step(windows(e.Shape(), e.model.Vocab().NTokens()), 1)
	if err != nil {
		t.Fatal(err)
	}
	return loss, e.Gradients()
}

// Weights that were paged out come back as they were, whatever the graph was cut into.
func TestPagingOutChangesNothingButMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		need.Skip(t, need.System, "weights are paged out on Linux only")
	}
	for i, arch := range []string{"llama", "gpt2", "gemma2", "falcon"} {
		path := testmodel.Path(t, testmodel.Spec{Arch: arch, Layers: 4, Embd: 512, FF: 1024})
		shape, method := Shape{Ctx: 32, Seqs: 2}, []adapter.Method{adapter.MethodDual, adapter.MethodDoRA}[i%2]
		wantLoss, want := stepWith(t, planned(t, path, method, shape), func() {})
		for _, part := range []int64{1, 2, 5} {
			e := planned(t, path, method, shape)
			all := e.Sizes()
			limit := all.LeastWeights + (all.Weights-all.LeastWeights)*(part-1)/8
			loss, got := stepWith(t, e, func() { e.SetResidentWeights(limit) })
			what := fmt.Sprintf("%s, %d of %d bytes", arch, limit, all.Weights)
			if s := e.Sizes(); s.Weights > limit || len(e.forward) < 2 {
				t.Errorf("%s: %d bytes stay, in %d sections", what, s.Weights, len(e.forward))
			}
			if loss != wantLoss {
				t.Errorf("%s: loss %v, want %v", what, loss, wantLoss)
			}
			for i := range want {
				if d := near.Farthest(got[i].Data, want[i].Data); d != 0 {
					t.Errorf("%s: the gradient of %s differs by %v", what, want[i].Name, d)
				}
			}
		}
	}
}

func TestSectionsCoverTheGraph(t *testing.T) {
	e := planned(t, testmodel.Path(t, testmodel.Spec{Layers: 6, Embd: 512, FF: 1024}), adapter.MethodLoRA, Shape{Ctx: 16, Seqs: 1})
	least := e.Sizes().LeastWeights
	for _, limit := range []int64{0, 1, least, 3 * least, 1 << 40} {
		at, reads := 0, 0
		for _, p := range sections(e.placed, 0, e.graph.Len(), limit) {
			if p.from != at || p.to <= p.from {
				t.Fatalf("limit %d: a section from %d to %d behind %d", limit, p.from, p.to, at)
			}
			if limit >= least && p.bytes() > limit {
				t.Errorf("limit %d: a section reads %d bytes", limit, p.bytes())
			}
			at, reads = p.to, reads+len(p.weights)
		}
		if at != e.graph.Len() || reads < len(sections(e.placed, 0, e.graph.Len(), 0)[0].weights) {
			t.Errorf("limit %d: the sections end at node %d of %d and read %d weights", limit, at, e.graph.Len(), reads)
		}
	}
}

// What was said before is what the allocators then hold.
func TestSizesAreKnownBeforeMemoryIsTaken(t *testing.T) {
	for _, method := range formulas {
		path := testmodel.Path(t, testmodel.Spec{Layers: 4, Type: gguf.TypeQ8_0})
		e := planned(t, path, method, Shape{Ctx: 48, Seqs: 2})
		if err := e.FitMemory(e.Sizes().Work() * 3 / 4); err != nil {
			t.Fatal(err)
		}
		before := e.Sizes()
		if err := e.Allocate(); err != nil {
			t.Fatal(err)
		}
		if got, want := e.alloc.Bytes(), before.Activations; got != want {
			t.Errorf("%s: the body takes %d bytes, said %d", method, got, want)
		}
		if got, want := e.head.alloc.Bytes(), before.Head; got != want {
			t.Errorf("%s: the head takes %d bytes, said %d", method, got, want)
		}
		if got, want := e.stores[onCPU].memory.Bytes(), before.Adapter+before.Gradients; got < want || got > want+alignments*2*int64(len(e.params)) {
			t.Errorf("%s: factors and gradients take %d bytes, said %d", method, got, want)
		}
		after := e.Sizes()
		if before.Trace, after.Trace = 0, 0; after != before {
			t.Errorf("%s: Sizes are %+v with memory taken, %+v before", method, after, before)
		}
		if again, all := e.Segments(); again < 1 || again > all {
			t.Errorf("%s: %d of %d segments recomputed", method, again, all)
		}
	}
}

// alignments is what ggml may leave free behind the tensors of a factor and its gradients, in bytes.
const alignments = 2 * 64

func TestTraceIsMeasuredAndGivenBack(t *testing.T) {
	e := planned(t, testmodel.Path(t, testmodel.Spec{Layers: 3}), adapter.MethodLoRA, Shape{Ctx: 300, Seqs: 1})
	const (
		cells = 512                // 300 tokens in blocks of 256
		cache = 3 * cells * 64 * 2 // keys and values of 2 heads of 16 in F16, in every block
		mask  = 300 * cells * 4
		small = 128 << 10 // other inputs and the zero adapter
	)
	if got := e.Sizes().Trace; got < cache+mask || got > cache+mask+small {
		t.Errorf("the trace takes %d bytes, want %d for the cache, %d for the mask and little else", got, cache, mask)
	}
	if err := e.Allocate(); err != nil {
		t.Fatal(err)
	}
	if got := e.Sizes().Trace; got != 0 || e.trace != nil {
		t.Errorf("the trace still takes %d bytes", got)
	}
}
