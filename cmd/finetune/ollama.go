package main

import (
	"context"
	"fmt"
	"io"

	"finetune/export"
	"finetune/ollama"
)

// exportReport is what finetune export prints with --json.
type exportReport struct {
	*export.Result
	Ollama *ollama.Result `json:"ollama,omitempty"`
}

// ollamaConfig says what Modelfile an export wants; nil without a name for the model. What cannot be had is an error before
// anything is exported.
func ollamaConfig(c export.Config, name string, beside, force bool) (*ollama.Config, error) {
	if name == "" {
		return nil, nil
	}
	base, err := exportBase(c)
	if err != nil {
		return nil, err
	}
	o := &ollama.Config{Name: name, Base: base, Adapter: c.Out, Run: c.Run, Beside: beside, Force: force}
	return o, o.Check()
}

// modelfile makes an Ollama model of an export.
func modelfile(ctx context.Context, u *ui, c *ollama.Config) (*ollama.Result, error) {
	if c == nil {
		return nil, nil
	}
	r, err := ollama.Write(ctx, *c, func(done, total int) {
		u.counting("merging, tensor", done, total)
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
