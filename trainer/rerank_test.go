package trainer

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/chat"
	"finetune/classify"
	"finetune/eval"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/merge"
	"finetune/run"
	"finetune/trainer/data"
)

// reranking is a run over a tiny encoder that learns which word makes a document the relevant one, of three.
func reranking(t *testing.T, encoder string) run.Config {
	t.Helper()
	var records strings.Builder
	for i := range 40 {
		fmt.Fprintf(&records, "{\"query\":\"which is fine, %d\",\"documents\":[\"bad %d\",\"good %d\",\"bad thing %d\"],\"relevance\":[0,2,0]}\n", i, i, i+1, i+2)
	}
	c := testrun.Tiny(t)
	c.Model, c.Data, c.Task = testmodel.EncoderPath(t, encoder), testrun.Write(t, "ranking.jsonl", records.String()), run.TaskRerank
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
	checkResumed(t, reranking(t, "bert"))
}

// By the vocabularies of models: one that puts nothing between two texts gets a line end there, this file's has [CLS] before a query,
// and adds its EOS, [SEP], behind both.
func TestTokensOfAQueryAndADocumentByModels(t *testing.T) {
	tokens := func(t *testing.T, path string) ([]int32, func(text string, special bool) []int32) {
		m := testrun.Model(t, run.Config{Model: path})
		ids, _, err := data.RankTokens(m.Vocab(), chat.SourceOf(m).Rerank, "Hello world", "good morning", 0)
		if err != nil {
			t.Fatal(err)
		}
		return ids, func(text string, special bool) []int32 {
			ids, err := m.Vocab().Tokenize(text, special, false)
			if err != nil {
				t.Fatal(err)
			}
			return ids
		}
	}
	t.Run("a tiny decoder", func(t *testing.T) {
		ids, of := tokens(t, testmodel.Path(t, testmodel.Spec{Arch: "llama"}))
		if want := slices.Concat(of("Hello world", true), of("\ngood morning", false)); !slices.Equal(ids, want) {
			t.Errorf("tokens %v, want %v", ids, want)
		}
	})
	t.Run("all-MiniLM-L6-v2", func(t *testing.T) {
		ids, _ := tokens(t, need.Shared(t, "models/all-minilm-l6-v2-f16.gguf"))
		if want := []int32{101, 7592, 2088, 102, 2204, 2851, 102}; !slices.Equal(ids, want) {
			t.Errorf("tokens %v, want %v", ids, want)
		}
	})
}
