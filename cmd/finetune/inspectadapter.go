package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"finetune/internal/inspect"
)

// adapterRows are the lines about an adapter as a whole.
func adapterRows(row func(cells ...string), a *inspect.Adapter) {
	method := a.Method
	if a.TrainedWith != "" && a.TrainedWith != a.Method {
		method += ", trained as " + plain(a.TrainedWith)
	}
	row("method", method)
	row("rank", fmt.Sprintf("%s in %s", span(a.RankMin, a.RankMax), counted(len(a.Weights), "matrix", "matrices")))
	alpha := "alpha " + number(a.Alpha)
	if a.Alpha == 0 {
		alpha = "no alpha"
	}
	row("scale", fmt.Sprintf("%s, %s", scaleSpan(a.ScaleMin, a.ScaleMax), alpha))
	name := "not known"
	if a.BaseName != "" || a.BaseHash != "" {
		name = fmt.Sprintf("%s, %s", cmp.Or(plain(a.BaseName), "no name"), cmp.Or(plain(a.BaseHash), "no hash"))
	}
	row("base", name)
	if a.Norm == nil {
		row("‖ΔW‖", "depends on the weights of the base")
		return
	}
	row("‖ΔW‖", number(*a.Norm))
}

// weightRows are a table of the adapted matrices.
func weightRows(w io.Writer, a *inspect.Adapter) {
	fmt.Fprintln(w, "\nmatrices\trank\tscale\t‖ΔW‖\tstable rank\teffective rank\tlargest singular values")
	for _, m := range a.Weights {
		cells := []string{"  " + plain(m.Name), fmt.Sprint(m.Rank), number(m.Scale), normText(m.Norm), optional(m.StableRank), optional(m.EffectiveRank), valuesText(m.SingularValues)}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
}

// normText returns a norm, and a dash where it is not known.
func normText(v *float64) string {
	if v == nil {
		return "–"
	}
	return number(*v)
}

// optional returns a figure, and a dash where it was not worked out.
func optional(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.2f", *v)
}

func valuesText(vs []float64) string {
	switch {
	case vs == nil:
		return "–"
	case len(vs) == 0:
		return "0"
	}
	var parts []string
	for _, v := range vs {
		parts = append(parts, fmt.Sprintf("%.3g", v))
	}
	return strings.Join(parts, " ")
}
