package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"finetune/chat"
	"finetune/classify"
	"finetune/eval"
	"finetune/internal/hint"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// evaluateRanking is finetune eval --task rerank.
func evaluateRanking(ctx context.Context, u *ui, f evalFlags) error {
	return withClassifier(u, f, run.TaskRerank, func(m *llama.Model, h *classify.Head, e *eval.Evaluator) error {
		c := f.records
		c.Model, c.Data, c.Ctx = f.model, f.data, e.NCtx()
		if err := c.ValidateRecords(); err != nil {
			return err
		}
		queries, err := data.LoadRanked(ctx, c, m.Vocab(), chat.SourceOf(m), u.reading())
		if err != nil {
			return err
		}
		var texts [][]int32
		var relevances [][]float32
		for _, q := range queries {
			texts, relevances = append(texts, q.Documents...), append(relevances, q.Relevances)
		}
		all, err := e.Scores(ctx, texts, h, func(done int) { u.progress("document %d of %d", done, len(texts)) })
		if err != nil {
			return err
		}
		var scores [][]float32
		for _, list := range relevances {
			of := make([]float32, len(list))
			for i := range of {
				of[i] = all[i][0]
			}
			scores, all = append(scores, of), all[len(of):]
		}
		r := eval.GradeRankings(scores, relevances)
		if u.json {
			return u.printJSON(r)
		}
		t := tabwriter.NewWriter(u.results(), 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, "%s, %s\tMRR\tnDCG@10\tpairs in the right order\n", counted(r.Queries, "query", "queries"), count(r.Documents, "document"))
		fmt.Fprintf(t, "\t%.4f\t%.4f\t%s of %s\n", r.MRR, r.NDCG10, uncertain(r.Right, r.StdErr), thousands(int64(r.Pairs)))
		return t.Flush()
	})
}

// scored is what finetune run --task rerank prints of a document with --json.
type scored struct {
	Query    string  `json:"query"`
	Document string  `json:"document"`
	Score    float64 `json:"score"` // the logit of the relevance, as llama-server's relevance_score
}

// rankLines is finetune run --task rerank: a score for the prompt, or for each line of standard input.
func rankLines(ctx context.Context, u *ui, f runFlags, prompted bool, in io.Reader) error {
	return withClassifier(u, f.evalFlags, run.TaskRerank, func(m *llama.Model, h *classify.Head, e *eval.Evaluator) error {
		template := chat.SourceOf(m).Rerank
		return eachText(f, prompted, in, func(line string) error {
			query, documents, err := parseRanked(line)
			if err != nil {
				return err
			}
			for _, document := range documents {
				ids, cut, err := data.RankTokens(m.Vocab(), template, query, document, e.NCtx())
				if err != nil {
					return err
				}
				u.warnOfCut(cut, e.NCtx())
				scores, err := e.Scores(ctx, [][]int32{ids}, h, nil)
				if err != nil {
					return err
				}
				r := scored{query, document, float64(scores[0][0])}
				if u.json {
					err = u.printJSON(r)
				} else {
					_, err = fmt.Fprintf(u.results(), "%.4f\t%s\t%s\n", r.Score, plain(query), plain(document))
				}
				if err != nil {
					return err
				}
			}
			u.flush()
			return nil
		})
	})
}

// parseRanked reads a query and what is to be ranked for it: two texts with a tab between them, or a JSON object.
func parseRanked(line string) (query string, documents []string, err error) {
	if strings.HasPrefix(strings.TrimSpace(line), "{") {
		var o struct {
			Query     string   `json:"query"`
			Document  string   `json:"document"`
			Documents []string `json:"documents"`
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			return "", nil, fmt.Errorf("line %.60q: %w", line, err)
		}
		if documents = o.Documents; o.Document != "" {
			documents = append([]string{o.Document}, documents...)
		}
		query = o.Query
	} else if q, document, ok := strings.Cut(line, "\t"); ok {
		query, documents = q, []string{document}
	}
	if strings.TrimSpace(query) == "" || len(documents) == 0 {
		return "", nil, hint.With(fmt.Errorf("line %.60q: want a query and a document", line), `write QUERY, a tab and DOCUMENT, or {"query": …, "documents": […]}`)
	}
	return query, documents, nil
}

// checkTask refuses a classifier that was trained for another task.
func checkTask(h *classify.Head, task string) error {
	switch {
	case h.Ranks() && task != run.TaskRerank:
		return hint.With(errors.New("the classifier is a reranker's, of one score, want classes"), "--task rerank takes it")
	case !h.Ranks() && task == run.TaskRerank:
		return hint.With(fmt.Errorf("the classifier has %d classes, want a reranker's one score", len(h.Labels)), "--task classify takes it")
	}
	return nil
}
