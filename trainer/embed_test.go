package trainer

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"finetune/classify"
	"finetune/eval"
	"finetune/gguf"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/model/native"
	"finetune/run"
	"finetune/trainer/data"
)

// jargon is what the people of a workshop say, and what they mean: no model knows the words, and each query is of two of them, so
// that a pair that was held out is of words that were learned in others.
var jargon = struct{ things, states [][2]string }{
	things: [][2]string{{"blorp", "the printer on the second floor"}, {"zanf", "the coffee machine"}, {"quib", "the delivery van"}, {"mernel", "the front door lock"},
		{"tosk", "the heating in the hall"}, {"vaddo", "the accounting software"}, {"yirk", "the meeting room projector"}, {"plun", "the spare keyboard"},
		{"gorv", "the roof window"}, {"hesk", "the forklift"}, {"dwip", "the fire alarm"}, {"cramb", "the bicycle stand"}, {"solt", "the water pump"},
		{"ferg", "the laser cutter"}, {"nibb", "the visitor badge"}, {"aulk", "the night shift"}},
	states: [][2]string{{"is dreeved", "is broken and needs repair"}, {"went skall", "was stolen yesterday"}, {"wants a mopp", "has to be cleaned"},
		{"is on tarn", "is lent to another team"}, {"got brussed", "was paid for twice"}, {"is nell", "is brand new"}, {"feels oompy", "makes a strange noise"},
		{"needs the gratch", "is to be moved upstairs"}, {"was kelled", "was sold"}, {"runs fump", "uses too much power"}, {"is half jote", "works only in the morning"},
		{"has gone wib", "is too hot to touch"}, {"lost its crell", "has no label"}, {"is under zay", "is being inspected"}, {"took a hurn", "fell to the floor"}, {"stays dop", "must not be used"}},
}

// jargonPairs writes the pairs of which one in four is held out, and those that are.
func jargonPairs(t *testing.T) (train, held string) {
	t.Helper()
	var parts [2]strings.Builder
	for i, thing := range jargon.things {
		for j, state := range jargon.states {
			side := 0
			if (i+j)%4 == 3 {
				side = 1
			}
			fmt.Fprintf(&parts[side], "{\"query\":\"the %s %s\",\"positive\":\"%s %s\"}\n", thing[0], state[0], thing[1], state[1])
		}
	}
	return testrun.Write(t, "train.jsonl", parts[0].String()), testrun.Write(t, "held.jsonl", parts[1].String())
}

// leastGain is by how much the share of held-out queries that find their text first has to rise.
const leastGain = 0.2

func TestEmbeddingsFindWhatTheyHaveNotSeen(t *testing.T) {
	t.Run("a tiny encoder", func(t *testing.T) {
		path := testmodel.EncoderPath(t, "bert")
		findsMore(t, path, 80, 5e-3)
	})
	t.Run("all-MiniLM-L6-v2", func(t *testing.T) {
		need.Long(t, "trains a model of 22 million parameters")
		findsMore(t, need.Shared(t, "models/all-minilm-l6-v2-f16.gguf"), 25, 2e-3)
	})
}

// A limit on memory that makes the passes smaller takes negatives away, which the run says.
func TestFewerNegativesAreTold(t *testing.T) {
	path := testmodel.EncoderPath(t, "bert")
	c := testrun.Tiny(t)
	c.Model, c.Task, c.Method, c.ValFraction, c.Ctx, c.Batch, c.Steps, c.LR = path, run.TaskEmbed, "lora", 0, 64, 4, 1, 1e-3
	c.Data, _ = jargonPairs(t)
	c = c.Completed(nil)
	whole, least := leastMemory(t, c, 4), leastMemory(t, c, 1)
	for limit, want := range map[string]bool{"": false, fmt.Sprintf("%dB", needed((whole+least)/2)): true} {
		limited := testrun.Elsewhere(t, c)
		limited.MaxMemory = limit
		told := false
		if _, err := Train(context.Background(), limited, false, func(e Event) {
			for _, note := range e.Notes {
				told = told || strings.Contains(note, "of the 4 sequences of --batch in one pass: the negatives of a query")
			}
		}); err != nil {
			t.Fatal(err)
		}
		if told != want {
			t.Errorf("below %q fewer negatives are told: %v, want %v", limit, told, want)
		}
	}
}

func findsMore(t *testing.T, path string, steps int, lr float64) {
	t.Helper()
	train, held := jargonPairs(t)
	c := testrun.Tiny(t)
	c.Model, c.Data, c.Val, c.Task, c.Dims = path, train, held, run.TaskEmbed, "32,64"
	c.Method, c.Rank, c.Ctx, c.Batch, c.Steps, c.LR = "lora", 8, 128, 8, steps, run.Rate(lr)
	c = c.Completed(nil)
	s, _ := mustTrain(t, c, false)
	if !(s.ValLoss < s.BaseValLoss) {
		t.Errorf("validation loss %v → %v, want less", s.BaseValLoss, s.ValLoss)
	}
	c.Data = held
	before, after := retrieved(t, c, ""), retrieved(t, c, c.Out)
	t.Logf("recall@1 of %d held-out queries among %d texts: %.3f → %.3f", after.Queries, after.Texts, before.Recall1, after.Recall1)
	if after.Recall1 < before.Recall1+leastGain {
		t.Errorf("recall@1 %.3f → %.3f, want %v more at least", before.Recall1, after.Recall1, leastGain)
	}
}

// retrieved measures how the queries of a run's data find their texts, by the base or with an adapter, in llama.cpp.
func retrieved(t *testing.T, c run.Config, adapter string) *eval.Retrieval {
	t.Helper()
	m, err := native.Open(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	f, err := gguf.Open(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pooling, err := classify.PoolingOf(f)
	if err != nil {
		t.Fatal(err)
	}
	windows, err := data.LoadPairs(context.Background(), c, m.Vocab(), nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := eval.NewReader(m, c.Ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if adapter != "" {
		if _, err := e.Attach(adapter, 1); err != nil {
			t.Fatal(err)
		}
	}
	r, err := e.Retrieve(context.Background(), windows.Texts(), pooling, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
