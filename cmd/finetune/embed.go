package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"finetune/classify"
	"finetune/eval"
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

// evaluateEmbeddings is finetune eval --task embed.
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
