package graph

import (
	"testing"

	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testmodel"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

const typeF32 = ggml.F32

// The sums of a product may be formed in another order than llama.cpp forms them: 1e-3 of the largest logit is far above
// that and far below any mistake in the graph.
const logitsTolerance = 1e-3

func TestLogitsEqualLlamaDecode(t *testing.T) {
	onTrained(t, func(t *testing.T, path string) {
		for _, shape := range []Shape{{Ctx: 48, Seqs: 1}, {Ctx: 40, Seqs: 3}} {
			m := loadModel(t, path)
			ws := windows(shape, m.Vocab().NTokens())
			e := newEngine(t, m, nil, Options{Shape: shape})
			got, err := e.logits(ws)
			if err != nil {
				t.Fatal(err)
			}
			want := decode(t, m, shape, ws)
			if d := near.Share(got, want); d > logitsTolerance {
				t.Errorf("%v: %d logits differ by %v of the largest of %d, want within %v", shape, len(got), d, len(want), logitsTolerance)
			} else {
				t.Logf("%v: logits differ by %v of the largest", shape, d)
			}
		}
	})
}

func TestLogitsOfTinyModelsEqualLlamaDecode(t *testing.T) {
	for _, arch := range testmodel.Architectures() {
		checkLogits(t, arch, testmodel.Path(t, tinySpec(arch)))
	}
}

// checkLogits compares the logits of a model without adapter with llama.cpp's own.
func checkLogits(t *testing.T, arch, path string) {
	t.Helper()
	shape := Shape{Ctx: 24, Seqs: 2}
	m := loadModel(t, path)
	ws := windows(shape, m.Vocab().NTokens())
	got, err := newEngine(t, m, nil, Options{Shape: shape, Threads: 1}).logits(ws)
	if err != nil {
		t.Fatal(err)
	}
	want := decode(t, m, shape, ws)
	if d := near.Share(got, want); d > logitsTolerance {
		t.Errorf("%s: logits differ by %v of the largest, want within %v", arch, d, logitsTolerance)
	}
}

func TestFreshAdapterChangesNoLogit(t *testing.T) {
	check := func(t *testing.T, path string) {
		m := loadModel(t, path)
		shape := Shape{Ctx: 32, Seqs: 2}
		ws := windows(shape, m.Vocab().NTokens())
		want, err := newEngine(t, m, nil, Options{Shape: shape}).logits(ws)
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range formulas {
			got, err := newEngine(t, m, allLinear(t, path, method, 8), Options{Shape: shape}).logits(ws)
			if err != nil {
				t.Fatal(err)
			}
			if d := near.Farthest(got, want); d != 0 {
				t.Errorf("%s: a fresh adapter changes a logit by %v", method, d)
			}
		}
	}
	onTrained(t, check)
	need.Each(t, []string{"demo/base.gguf"}, []string{"models/stories260K-q8_0.gguf"}, check)
}
