package fileops

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"finetune/adapter"
	"finetune/internal/hint"
)

// Scale writes the adapter in with factor times its effect. Only alpha changes, and the factors stay as they are to the
// bit: in their type where that can be, else in F32. A type in out is obeyed, though it may round.
func Scale(in string, factor float32, out Output) (*Report, error) {
	if err := out.check(Source{File: in}); err != nil {
		return nil, err
	}
	a, err := read(in)
	if err != nil {
		return nil, err
	}
	scaled, err := a.Scaled(factor)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", in, err)
	}
	r := &Report{Operation: "scale", How: fmt.Sprintf("by %v", factor), From: []Source{source(in, 1)}, Energy: 1}
	return r, out.write(scaled, out.typeOf(scaled, []*adapter.Adapter{a}, true), r)
}

// Rerank writes the LoRA that a cut leaves of the adapter in.
func Rerank(ctx context.Context, in string, c adapter.Cut, o adapter.CutOptions, out Output) (*Report, error) {
	if err := out.check(Source{File: in}); err != nil {
		return nil, err
	}
	a, err := read(in)
	if err != nil {
		return nil, err
	}
	cut, reports, err := adapter.Rerank(ctx, a, c, o)
	if err != nil {
		return nil, err
	}
	r := &Report{Operation: "rerank", From: []Source{source(in, 1)}}
	r.tensors(reports)
	r.How = fmt.Sprintf("to %s: %s of the energy", cutText(c), percent(r.Energy))
	return r, out.write(cut, out.typeOf(cut, []*adapter.Adapter{a}, false), r)
}

// Combine writes one LoRA made of several adapters. That they were trained on different bases is reported, not refused.
func Combine(ctx context.Context, from []Source, o adapter.CombineOptions, out Output) (*Report, error) {
	if err := out.check(from...); err != nil {
		return nil, err
	}
	var inputs []*adapter.Adapter
	var all []adapter.Ingredient
	for _, s := range from {
		a, err := read(s.File)
		if err != nil {
			return nil, err
		}
		if o.Method == adapter.CombineCat && a.Method() != adapter.MethodLoRA {
			return nil, hint.With(fmt.Errorf("adapter: %q: %s has no factors to put beside others", s.File, a.Method()),
				"--method linear adds its ΔW to the others and cuts the sum to a rank")
		}
		inputs = append(inputs, a)
		all = append(all, adapter.Ingredient{Adapter: a, Weight: float32(s.Weight)})
	}
	combined, reports, err := adapter.Combine(ctx, all, o)
	if err != nil {
		return nil, err
	}
	r := &Report{Operation: "combine", From: from}
	if err := adapter.CheckAlike(inputs...); errors.Is(err, adapter.ErrOtherBase) {
		r.OtherBase = err.Error()
	}
	r.tensors(reports)
	r.How = fmt.Sprintf("by %s of %s: %s of the energy", o.Method, sourcesText(from), percent(r.Energy))
	return r, out.write(combined, out.typeOf(combined, inputs, o.Method == adapter.CombineCat), r)
}

func source(path string, weight float64) Source { return Source{path, weight} }

// cutText returns a cut in words.
func cutText(c adapter.Cut) string {
	switch {
	case c.Rank > 0:
		return fmt.Sprintf("rank %d", c.Rank)
	case c.Energy > 0:
		return fmt.Sprintf("energy %v", c.Energy)
	}
	return fmt.Sprintf("%d parameters", c.Budget)
}

// sourcesText names the files without their folders, which are nobody's business in a file that is passed on.
func sourcesText(from []Source) string {
	var parts []string
	for _, s := range from {
		parts = append(parts, fmt.Sprintf("%q × %v", filepath.Base(s.File), s.Weight))
	}
	return strings.Join(parts, ", ")
}

func percent(share float64) string { return fmt.Sprintf("%.2f %%", 100*share) }
