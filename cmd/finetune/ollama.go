package main

import (
	"context"
	"fmt"
	"io"

	"finetune/export"
	"finetune/ollama"
	"finetune/run"
)

// exportReport is what finetune export prints with --json.
type exportReport struct {
	*export.Result
	Ollama *ollama.Result `json:"ollama,omitempty"`
}

// modelfile makes an Ollama model of an export; nil without a name for it.
func modelfile(ctx context.Context, u *ui, c export.Config, name string) (*ollama.Result, error) {
	if name == "" {
		return nil, nil
	}
	base := c.Model
	if base == "" {
		saved, err := run.LoadSaved(c.Run)
		if err != nil {
			return nil, err
		}
		base = saved.Model
	}
	r, err := ollama.Write(ctx, ollama.Config{Name: name, Base: base, Adapter: c.Out, Run: c.Run}, func(done, total int) {
		u.progress("merging, %d of %s", done, count(total, "tensor"))
	})
	if err != nil {
		return nil, err
	}
	for _, note := range r.Notes {
		u.warn(note)
	}
	return r, nil
}

// printModelfile says what to do with it.
func printModelfile(w io.Writer, r *ollama.Result) error {
	if r == nil {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nfor Ollama:\n  ollama create %s -f %s\n", r.Name, shellWord(r.Modelfile))
	return err
}
