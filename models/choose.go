package models

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"finetune/internal/hint"
)

// usualType is what a repository's name without a type stands for, where it has one of that type.
const usualType = "Q4_K_M"

// variant is one model of a repository: a file, or the parts of a split one in their order.
type variant struct{ parts []string }

// name returns the path of the first part, which is the one that is opened.
func (v variant) name() string { return v.parts[0] }

// stem returns what of the name tells models of one repository apart.
func (v variant) stem() string {
	name := strings.TrimSuffix(v.name(), ".gguf")
	if m := splitPart.FindStringSubmatch(v.name()); m != nil {
		name = m[1]
	}
	return name
}

var splitPart = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// variantsOf returns the base models among the files of a repository, in the order of their names. Split ones of which a part
// is missing are none, and neither are projectors of images and importance matrices.
func variantsOf(files []string) (all []variant) {
	there := map[string]bool{}
	for _, f := range files {
		there[f] = true
	}
	for _, f := range files {
		base := strings.ToLower(path.Base(f))
		if !strings.HasSuffix(f, ".gguf") || strings.Contains(base, "mmproj") || strings.HasPrefix(base, "imatrix") {
			continue
		}
		if parts := partsOf(f); slices.IndexFunc(parts, func(p string) bool { return !there[p] }) < 0 {
			all = append(all, variant{parts})
		}
	}
	slices.SortFunc(all, func(a, b variant) int { return cmp.Compare(a.name(), b.name()) })
	return all
}

// partsOf returns the names of all parts of a model whose first part, or only one, is f; none where f is a later part.
func partsOf(f string) (parts []string) {
	m := splitPart.FindStringSubmatch(f)
	if m == nil {
		return []string{f}
	}
	const most = 1 << 10
	count, _ := strconv.Atoi(m[3]) // five digits
	if m[2] != "00001" || count < 1 || count > most {
		return []string{""} // which no file is called
	}
	for i := range count {
		parts = append(parts, fmt.Sprintf("%s-%05d-of-%s.gguf", m[1], i+1, m[3]))
	}
	return parts
}

// choose returns the model of a repository that a reference means: a file, a type, or neither, which is usualType or the only one.
func choose(r repository, files []string) (variant, error) {
	all := variantsOf(files)
	var fit []variant
	switch {
	case len(all) == 0:
		return variant{}, fmt.Errorf("models: %q: no GGUF model in it", r.String())
	case r.file != "":
		fit = filter(all, func(v variant) bool { return v.name() == r.file })
	case r.kind != "":
		fit = filter(all, func(v variant) bool { return v.isOf(r.kind) })
	default:
		if fit = filter(all, func(v variant) bool { return v.isOf(usualType) }); len(fit) == 0 {
			fit = all
		}
	}
	if len(fit) == 1 {
		return fit[0], nil
	}
	found, advice := "none", all
	if len(fit) > 1 {
		found, advice = fmt.Sprintf("%d", len(fit)), fit
	}
	return variant{}, hint.With(fmt.Errorf("models: %q: want one model, found %s", r.String(), found), listed(r, advice))
}

// isOf reports whether a type such as Q4_K_M, in any case, is a word of the name.
func (v variant) isOf(kind string) bool {
	stem, kind := strings.ToLower(v.stem()), strings.ToLower(kind)
	if strings.HasSuffix(stem, "_"+kind) {
		return true
	}
	between := func(r rune) bool { return r == '-' || r == '.' || r == '/' }
	words, want := strings.FieldsFunc(stem, between), strings.FieldsFunc(kind, between)
	for i := 0; len(want) > 0 && i+len(want) <= len(words); i++ {
		if slices.Equal(words[i:i+len(want)], want) {
			return true
		}
	}
	return false
}

// listed names what there is to choose from, in a line.
func listed(r repository, all []variant) string {
	const most = 12
	var names []string
	for _, v := range all[:min(len(all), most)] {
		names = append(names, r.at()+"/"+v.name())
	}
	text := "there is " + strings.Join(names, ", ")
	if n := len(all) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

func filter(all []variant, keep func(variant) bool) (kept []variant) {
	for _, v := range all {
		if keep(v) {
			kept = append(kept, v)
		}
	}
	return kept
}
