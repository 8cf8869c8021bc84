package adapter

import (
	"regexp"
	"slices"
	"strings"

	"finetune/gguf"
)

// Targets describes the weights that the adapter is on so that [ParseTargets] selects the same of the tensors: by one of
// the named targets, by the short names of modules, or, where it is on some blocks only, name by name.
func (a *Adapter) Targets(tensors []gguf.Tensor) string {
	var names, modules []string
	for _, w := range a.Weights {
		names = append(names, regexp.QuoteMeta(w.Name))
		modules = append(modules, regexp.QuoteMeta(shortName(w.Name)))
	}
	slices.Sort(modules)
	modules = slices.Compact(modules)
	for _, text := range []string{TargetsLinear, TargetsAttention, strings.Join(modules, "|")} {
		if a.selectedBy(text, tensors) {
			return text
		}
	}
	return strings.Join(names, "|")
}

// selectedBy reports whether targets select of the tensors the adapter's weights and no other.
func (a *Adapter) selectedBy(text string, tensors []gguf.Tensor) bool {
	t, err := ParseTargets(text)
	if err != nil {
		return false
	}
	chosen, err := t.Select(tensors)
	return err == nil && len(chosen) == len(a.Weights) && !slices.ContainsFunc(chosen, func(c gguf.Tensor) bool {
		_, ok := a.Weight(c.Name)
		return !ok
	})
}
