package graph

import (
	"fmt"
	"math"
	"testing"

	"finetune/adapter"
	"finetune/classify"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// onEncoders runs a test over tiny models of all architectures of encoders, and over a real one where it is.
func onEncoders(t *testing.T, test func(t *testing.T, path string)) {
	t.Helper()
	for _, v := range testmodel.Encoders() {
		t.Run(v.Name, func(t *testing.T) { test(t, writeVariant(t, v)) })
	}
	t.Run("all-MiniLM-L6-v2", func(t *testing.T) { test(t, need.Shared(t, "models/all-minilm-l6-v2-f16.gguf")) })
}

// embeddings are llama.cpp's own states [n_embd, N] for the windows, every document in a batch of its own: without a memory
// llama.cpp has one for each sequence in no other way.
func embeddings(t *testing.T, m *llama.Model, ws []data.Window) (states []float32) {
	t.Helper()
	for _, w := range ws {
		for _, doc := range documentsOf(w) {
			n := len(doc.Tokens)
			ctx, err := llama.NewContext(m, llama.ContextParams{NCtx: n, NBatch: n, NUBatch: n, Threads: 1, FlashAttn: llama.FlashAttnOff,
				Embeddings: true, NoPooling: true})
			if err != nil {
				t.Fatal(err)
			}
			output := make([]bool, n)
			for i := range output {
				output[i] = true
			}
			if err := ctx.Decode(llama.Batch{Tokens: doc.Tokens, Pos: doc.Pos, Output: output}); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				states = append(states, ctx.Embedding(i)...)
			}
			ctx.Close()
		}
	}
	return states
}

// documentsOf cuts a window into its documents, those that are not trained too.
func documentsOf(w data.Window) (docs []data.Window) {
	from := 0
	for i := range w.Doc {
		if i+1 == len(w.Doc) || w.Doc[i+1] != w.Doc[from] {
			docs = append(docs, data.Window{Tokens: w.Tokens[from : i+1], Pos: w.Pos[from : i+1]})
			from = i + 1
		}
	}
	return docs
}

func TestStatesOfEncodersEqualLlamaCpp(t *testing.T) {
	onEncoders(t, func(t *testing.T, path string) {
		for _, shape := range []Shape{{Ctx: 24, Seqs: 1}, {Ctx: 24, Seqs: 3}} {
			m := loadModel(t, path)
			ws := windows(shape, m.Vocab().NTokens())
			got, err := newEngine(t, m, nil, Options{Shape: shape}).Hidden(ws)
			if err != nil {
				t.Fatal(err)
			}
			want := embeddings(t, m, ws)
			if d := near.Share(got, want); d > logitsTolerance {
				t.Errorf("%v: %d states differ by %v of the largest of %d, want within %v", shape, len(got), d, len(want), logitsTolerance)
			} else {
				t.Logf("%v: states differ by %v of the largest", shape, d)
			}
		}
	})
}

// A reranker has one score, and its targets are relevances between 0 and 1. The graph of ggml's own operations has the same loss.
func TestGradientsOfARelevance(t *testing.T) {
	path := writeVariant(t, testmodel.Encoders()[0])
	m := loadModel(t, path)
	shape := Shape{Ctx: 16, Seqs: 2}
	ws := classified(windows(shape, m.Vocab().NTokens()), []float32{1, 1, 1})
	for _, w := range ws {
		for i, class := range w.Targets {
			w.Targets[i] = int32(math.Float32bits([]float32{0, 1, 0.3}[class%3]))
		}
	}
	for _, pooling := range []classify.Pooling{classify.PoolFirst, classify.PoolMean} {
		weights := allLinear(t, path, adapter.MethodLoRA, 4)
		disturb(weights)
		e := newEngine(t, m, weights, Options{Shape: shape, Threads: 1, Classes: newClasses(m.NEmbd(), 1, pooling)})
		if names := e.Unreached(); len(names) > 0 {
			t.Fatalf("no gradient reaches %v", names)
		}
		makeSmooth(t, tableNodes(e))
		checkDirections(t, e, ws, documentLossStep, newStill(t, path, weights))
	}
}

// The loss is torch's BCEWithLogitsLoss, in float64 over the states that the engine has: also where the logit is large.
func TestLossOfARelevance(t *testing.T) {
	path := writeVariant(t, testmodel.Encoders()[0])
	m := loadModel(t, path)
	shape := Shape{Ctx: 16, Seqs: 1}
	w := data.Reading([]int32{5, 6, 7, 8}, shape.Ctx)
	w.LossMask[3] = 2
	for _, c := range []struct{ bias, relevance float32 }{{0, 1}, {0, 0}, {3, 0.25}, {80, 0}, {80, 1}, {-80, 1}, {-80, 0}} {
		w.Targets[3] = int32(math.Float32bits(c.relevance))
		classes := newClasses(m.NEmbd(), 1, classify.PoolLast)
		classes.Biases[0] = c.bias
		e := newEngine(t, m, nil, Options{Shape: shape, Threads: 1, Classes: classes})
		states, err := e.Hidden([]data.Window{w})
		if err != nil {
			t.Fatal(err)
		}
		z := float64(c.bias)
		for i, v := range states[3*m.NEmbd():][:m.NEmbd()] {
			z += float64(v) * float64(classes.Weights[i])
		}
		want := 2 * (max(z, 0) - z*float64(c.relevance) + math.Log1p(math.Exp(-math.Abs(z))))
		got, err := e.Loss([]data.Window{w})
		if err != nil || !near.Enough(got, want, relevanceTolerance) {
			t.Errorf("bias %v, relevance %v: loss %v, %v, want %v", c.bias, c.relevance, got, err, want)
		}
	}
}

// relevanceTolerance is what a logit of some tens loses as a float32.
const relevanceTolerance = 5e-5

// classified turns windows into those of a classifier: the last place of each document has one of the classes that have the weights.
func classified(ws []data.Window, weights []float32) []data.Window {
	for i := range ws {
		w := &ws[i]
		clear(w.LossMask)
		for at := range w.Doc {
			if at+1 == len(w.Doc) || w.Doc[at+1] != w.Doc[at] {
				class := (int(w.Doc[at]) + i) % len(weights)
				w.LossMask[at], w.Targets[at] = weights[class], int32(class)
			}
		}
	}
	return ws
}

// newClasses returns a classifier of random numbers.
func newClasses(n, classes int, pooling classify.Pooling) *Classes {
	return &Classes{Weights: testmodel.Uniform("classifier", n*classes, 0.5), Biases: testmodel.Uniform("biases", classes, 0.5), Pooling: pooling}
}

func TestGradientsOfEncoders(t *testing.T) {
	for _, v := range testmodel.Encoders() {
		for _, pooling := range []classify.Pooling{classify.PoolFirst, classify.PoolMean, classify.PoolLast} {
			t.Run(fmt.Sprintf("%s pooling %v", v.Name, pooling), func(t *testing.T) {
				path := writeVariant(t, v)
				for _, method := range formulas {
					checkClassifier(t, path, method, pooling, 1, 1, 1)
				}
			})
		}
	}
}

// The classes of a classifier may weigh differently in the loss.
func TestGradientsOfWeightedClasses(t *testing.T) {
	checkClassifier(t, writeVariant(t, testmodel.Encoders()[0]), adapter.MethodLoRA, classify.PoolMean, 0.5, 3, 1.5)
}

// documentLossStep is lossStep for a loss that is summed over three documents, where fifty tokens have others.
const documentLossStep = 0.0004

// checkClassifier compares the gradient of every factor, and of the classifier, with the change of the loss along it.
func checkClassifier(t *testing.T, path string, method adapter.Method, pooling classify.Pooling, classWeights ...float32) {
	t.Helper()
	m := loadModel(t, path)
	weights := allLinear(t, path, method, 4)
	disturb(weights)
	shape := Shape{Ctx: 16, Seqs: 2}
	ws := classified(windows(shape, m.Vocab().NTokens()), classWeights)
	e := newEngine(t, m, weights, Options{Shape: shape, Threads: 1, Classes: newClasses(m.NEmbd(), len(classWeights), pooling)})
	if names := e.Unreached(); len(names) > 0 {
		t.Fatalf("no gradient reaches %v", names)
	}
	makeSmooth(t, tableNodes(e))
	checkDirections(t, e, ws, documentLossStep, newStill(t, path, weights))
}
