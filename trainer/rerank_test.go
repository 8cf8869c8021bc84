package trainer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/chat"
	"finetune/classify"
	"finetune/eval"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/merge"
	"finetune/run"
	"finetune/trainer/data"
)

// reranking is a run over a tiny encoder that learns which word makes a document the relevant one, of three.
func reranking(t *testing.T, encoder string) run.Config {
	t.Helper()
	all := testmodel.Encoders()
	path := filepath.Join(t.TempDir(), "encoder.gguf")
	if err := all[slices.IndexFunc(all, func(v testmodel.Variant) bool { return v.Name == encoder })].Write(path); err != nil {
		t.Fatal(err)
	}
	var records strings.Builder
	for i := range 40 {
		fmt.Fprintf(&records, "{\"query\":\"which is fine, %d\",\"documents\":[\"bad %d\",\"good %d\",\"bad thing %d\"],\"relevance\":[0,2,0]}\n", i, i, i+1, i+2)
	}
	c := testrun.Tiny(t)
	c.Model, c.Data, c.Task = path, testrun.Write(t, "ranking.jsonl", records.String()), run.TaskRerank
	c.Method, c.Rank, c.Ctx, c.Batch, c.Steps, c.LR, c.ValFraction = "lora", 4, 64, 2, 40, 1e-2, 0.25
	return c.Completed(nil)
}

// The reranker is trained beside the adapter, orders documents rightly by llama.cpp's states, and rank pooling of the merged model
// gives the same scores.
func TestRerankerOfARunAndOfAMergedModel(t *testing.T) {
	for _, encoder := range []string{"bert", "bert with three projections", "modern-bert", "neo-bert"} {
		t.Run(encoder, func(t *testing.T) {
			c := reranking(t, encoder)
			s, _ := mustTrain(t, c, false)
			if !(s.ValLoss < s.BaseValLoss-0.2) { // who knows the share of relevant documents alone has 0.64
				t.Errorf("validation loss %v → %v, want clearly less", s.BaseValLoss, s.ValLoss)
			}
			h, err := classify.Load(filepath.Join(c.Out, run.ClassifierFile))
			if err != nil {
				t.Fatal(err)
			}
			e, m := readerOf(t, c)
			queries, err := data.LoadRanked(context.Background(), c, m.Vocab(), chat.SourceOf(m), nil)
			if err != nil {
				t.Fatal(err)
			}
			var lists, relevances [][]float32
			var texts [][]int32
			for _, q := range queries {
				scores, err := e.Scores(context.Background(), q.Documents, h, nil)
				if err != nil {
					t.Fatal(err)
				}
				lists, relevances, texts = append(lists, slices.Concat(scores...)), append(relevances, q.Relevances), append(texts, q.Documents...)
			}
			if r := eval.GradeRankings(lists, relevances); r.Right < 0.9 || r.NDCG10 < 0.9 {
				t.Errorf("ranking %+v, want nine of ten pairs in order at least", r)
			}
			merged := filepath.Join(t.TempDir(), "merged.gguf")
			_, err = merge.Merge(context.Background(), merge.Config{Model: c.Model, Out: merged, Classifier: filepath.Join(c.Out, run.ClassifierFile),
				Adapters: []merge.Adapter{{Path: s.Adapter, Scale: 1}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			scores := slices.Concat(lists...)
			for i, got := range ranked(t, merged, texts[:12]) {
				if len(got) != 1 || !near.Enough(got[0], scores[i], sameLossTolerance) {
					t.Errorf("text %d: llama.cpp's rank pooling of the merged model gives %v, the run %v", i, got, scores[i])
				}
			}
		})
	}
}

// A run that is stopped and resumed ends with the same reranker, to the last bit.
func TestRerankerOfAResumedRun(t *testing.T) {
	c := reranking(t, "bert")
	c.Method, c.Steps = "dual-lora", 6
	c = c.Completed(nil)
	mustTrain(t, c, false)
	again := testrun.Elsewhere(t, c)
	ctx, stop := context.WithCancel(context.Background())
	if _, err := Train(ctx, again, false, func(e Event) {
		if e.Kind == "step" && e.Step == 3 {
			stop()
		}
	}); !errors.Is(err, ErrInterrupted) {
		t.Fatalf("Train = %v, want ErrInterrupted", err)
	}
	mustTrain(t, again, true)
	for _, name := range []string{run.ClassifierFile, run.AdapterFile} {
		if string(testrun.Read(t, c.Out, name)) != string(testrun.Read(t, again.Out, name)) {
			t.Errorf("%s differs from that of the run that was not stopped", name)
		}
	}
}
