package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"finetune/classify"
	"finetune/eval"
	"finetune/internal/setting"
	"finetune/model"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// retrievalReport is what finetune eval --task embed prints: how texts are found, by whole states and by their beginnings.
type retrievalReport struct {
	*eval.Retrieval
	Dims []retrievalOf `json:"dims,omitempty"`
}

type retrievalOf struct {
	Dims int `json:"dims"`
	*eval.Retrieval
}

// correlationReport is what finetune eval --task embed prints of pairs with scores.
type correlationReport struct {
	eval.Correlation
	Dims []correlationOf `json:"dims,omitempty"`
}

type correlationOf struct {
	Dims int `json:"dims"`
	eval.Correlation
}

// evaluateEmbeddings is finetune eval --task embed: pairs with scores are compared with them, others are to be found.
func evaluateEmbeddings(ctx context.Context, u *ui, f evalFlags) error {
	return withReader(u, f, func(base *model.Base, m *llama.Model, e *eval.Evaluator) error {
		c := f.records
		c.Model, c.Data, c.Ctx = f.model, f.data, e.NCtx()
		if err := c.ValidateRecords(); err != nil {
			return err
		}
		pooling, err := classify.PoolingOf(base.File)
		if err != nil {
			return err
		}
		scored, err := data.LoadScored(ctx, c, f.scoreField, m.Vocab(), u.reading())
		if err != nil {
			return err
		}
		if scored != nil {
			return correlate(ctx, u, e, scored, pooling, c.DimList(), m.NEmbd())
		}
		windows, err := data.LoadPairs(ctx, c, m.Vocab(), u.reading())
		if err != nil {
			return err
		}
		texts := windows.Texts()
		retrieve := func(dims int) (*eval.Retrieval, error) {
			return e.Retrieve(ctx, texts, pooling, dims, func(done, total int) { u.progress("text %d of %d", done, total) })
		}
		whole, err := retrieve(0)
		if err != nil {
			return err
		}
		r := retrievalReport{Retrieval: whole}
		for _, dims := range c.DimList() {
			part, err := retrieve(dims)
			if err != nil {
				return err
			}
			r.Dims = append(r.Dims, retrievalOf{dims, part})
		}
		if u.json {
			return u.printJSON(r)
		}
		return printRetrieval(u.results(), r, m.NEmbd())
	})
}

func printRetrieval(w io.Writer, r retrievalReport, nEmbd int) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s among %s\trecall@1\t@5\t@10\tnDCG@10\tMRR\n", counted(r.Queries, "query", "queries"), count(r.Texts, "text"))
	row := func(dims int, r *eval.Retrieval) {
		fmt.Fprintf(t, "%d dimensions\t%s\t%.1f %%\t%.1f %%\t%.4f\t%.4f\n", dims, uncertain(r.Recall1, r.StdErr), 100*r.Recall5, 100*r.Recall10, r.NDCG10, r.MRR)
	}
	row(nEmbd, r.Retrieval)
	for _, part := range r.Dims {
		row(part.Dims, part.Retrieval)
	}
	return t.Flush()
}

// correlate compares the embeddings of pairs with their scores.
func correlate(ctx context.Context, u *ui, e *eval.Evaluator, pairs []data.ScoredPair, pooling classify.Pooling, dims []int, nEmbd int) error {
	whole, parts, err := e.Correlate(ctx, pairs, pooling, dims, func(done, total int) { u.progress("text %d of %d", done, total) })
	if err != nil {
		return err
	}
	r := correlationReport{Correlation: whole}
	for i, part := range parts {
		r.Dims = append(r.Dims, correlationOf{dims[i], part})
	}
	if u.json {
		return u.printJSON(r)
	}
	t := tabwriter.NewWriter(u.results(), 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\tSpearman\tPearson\n", count(r.Pairs, "pair"))
	for _, row := range append([]correlationOf{{nEmbd, whole}}, r.Dims...) {
		fmt.Fprintf(t, "%d dimensions\t%.4f\t%.4f\n", row.Dims, row.Spearman, row.Pearson)
	}
	return t.Flush()
}

// embedded is what finetune run --task embed prints of a text with --json.
type embedded struct {
	Text      string    `json:"text"`
	Embedding []float32 `json:"embedding"`
}

// embedLines is finetune run --task embed: a JSON array of numbers, a vector of length 1, for the prompt or for each line of standard
// input.
func embedLines(ctx context.Context, u *ui, f runFlags, prompted bool, in io.Reader) error {
	return withReader(u, f.evalFlags, func(base *model.Base, m *llama.Model, e *eval.Evaluator) error {
		if f.dims < 0 || f.dims > m.NEmbd() {
			return &setting.Error{Key: "dims", Want: fmt.Sprintf("0 to %d, the numbers of a state", m.NEmbd()), Got: strconv.Itoa(f.dims)}
		}
		pooling, err := classify.PoolingOf(base.File)
		if err != nil {
			return err
		}
		return eachText(f, prompted, in, func(line string) error {
			ids, cut, err := data.TextTokens(m.Vocab(), line, "", e.NCtx())
			if err != nil {
				return err
			}
			u.warnOfCut(cut, e.NCtx())
			v, err := e.Embed(ctx, ids, pooling, f.dims)
			if err != nil {
				return err
			}
			if u.json {
				return u.printJSON(embedded{line, v})
			}
			return u.printJSON(v)
		})
	})
}
