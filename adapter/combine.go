package adapter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"finetune/gguf"
	"finetune/model"
)

// A CombineMethod names a way to make one adapter of several. Each adapter's change counts with its weight, w·ΔW, and as
// zero for tensors that it does not have.
type CombineMethod string

// The methods. The last three thin the changes out so that they are in one another's way less.
const (
	// CombineCat puts the factors side by side: the sum of the changes, exactly, with ranks that add up. LoRAs only.
	CombineCat CombineMethod = "cat"
	// CombineLinear is the sum of the changes, cut.
	CombineLinear CombineMethod = "linear"
	// CombineTIES is TIES-Merging (Yadav et al. 2023, arXiv 2306.01708): of each change the largest elements stay, for
	// each element the sign with more mass is elected, and those of that sign are averaged; then cut.
	CombineTIES CombineMethod = "ties"
	// CombineDARE drops elements of each change at random and scales the others up, so that the sum stays what it was on
	// average (Yu et al. 2023, arXiv 2311.03099); then cut.
	CombineDARE CombineMethod = "dare"
	// CombineDARETIES drops as DARE does, then elects and averages as TIES does.
	CombineDARETIES CombineMethod = "dare-ties"
)

// CombineMethods lists them all.
func CombineMethods() []CombineMethod {
	return []CombineMethod{CombineCat, CombineLinear, CombineTIES, CombineDARE, CombineDARETIES}
}

// Density returns the share of elements that stays where none is asked for: that of the TIES paper's experiments, and
// half with DARE, whose noise a cut to a low rank would let through. It is 1 for methods that keep all.
func (m CombineMethod) Density() float64 {
	switch m {
	case CombineTIES:
		return 0.2
	case CombineDARE, CombineDARETIES:
		return 0.5
	}
	return 1
}

// Ingredient is an adapter with the weight that it counts with.
type Ingredient struct {
	*Adapter
	Weight float32 // other than 0
}

// CombineOptions say how [Combine] goes about it.
type CombineOptions struct {
	CutOptions // Seed also chooses what DARE drops
	Method     CombineMethod
	Cut        Cut     // none for CombineCat; the zero Cut is the largest rank of an ingredient
	Density    float64 // share of elements that stays, above 0 to 1; 0 is the method's
}

// Combine makes one LoRA of several adapters, which have to pass [CheckAlike] but for [ErrOtherBase]. The result has the
// first one's base, without a hash if the others' differ, and the further keys that all have alike. The reports are in
// the order of its weights.
//
// ΔW are formed one at a time, and none where all are LoRAs that are added up. The methods that thin out form one for each
// ingredient, one after the other, to find what its largest elements are.
func Combine(ctx context.Context, all []Ingredient, o CombineOptions) (*Adapter, []Report, error) {
	if err := cmp.Or(o.Check(), checkIngredients(all)); err != nil {
		return nil, nil, err
	}
	o = o.withDefaults(all)
	result := identity(all)
	if o.Method == CombineCat {
		reports, err := result.concatenate(all)
		return result, reports, err
	}
	var weights []named
	for _, name := range names(adapters(all)) {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		c, err := o.combined(name, all)
		if err != nil {
			return nil, nil, err
		}
		weights = append(weights, named{name, c})
	}
	meta := result.Meta
	result, reports, err := o.Cut.project(ctx, result, weights, o.CutOptions)
	if err != nil {
		return nil, nil, err
	}
	result.Meta = meta
	return result, reports, nil
}

// Check reports a method that there is not, a density out of its range or for a method that keeps all, and the errors of
// [Cut.Check].
func (o CombineOptions) Check() error {
	switch thins := o.Method.Density() < 1; {
	case !slices.Contains(CombineMethods(), o.Method):
		return fmt.Errorf("adapter: method %q: want one of %q", o.Method, CombineMethods())
	case o.Density != 0 && !thins:
		return fmt.Errorf("adapter: density %v: %s keeps every element", o.Density, o.Method)
	case o.Density != 0 && !(o.Density > 0 && o.Density <= 1):
		return fmt.Errorf("adapter: density %v: want a share above 0, at most 1", o.Density)
	case o.Cut == (Cut{}):
		return nil
	case o.Method == CombineCat:
		return errors.New("adapter: cat keeps every component: want no rank, energy or budget")
	}
	return o.Cut.Check()
}

// withDefaults fills in what depends on the method and on the ingredients.
func (o CombineOptions) withDefaults(all []Ingredient) CombineOptions {
	if o.Density == 0 {
		o.Density = o.Method.Density()
	}
	if o.Cut == (Cut{}) {
		for _, in := range all {
			o.Cut.Rank = max(o.Cut.Rank, in.Rank())
		}
	}
	return o
}

func checkIngredients(all []Ingredient) error {
	for _, in := range all {
		if in.Weight == 0 || !finite(in.Weight) {
			return fmt.Errorf("adapter: weight %v: want a number other than 0", in.Weight)
		}
	}
	for _, in := range all {
		if err := in.checkBound(); err != nil {
			return err
		}
	}
	if err := CheckAlike(adapters(all)...); err != nil && !errors.Is(err, ErrOtherBase) {
		return err
	}
	return nil
}

// CheckAlike reports adapters that have no meaning together: none at all, of different architectures, with another shape
// of the same weight, or switched on by different tokens. If all of that fits but they are known to be trained on
// different bases, the error is [ErrOtherBase].
func CheckAlike(all ...*Adapter) error {
	if len(all) == 0 {
		return errors.New("adapter: no adapter is given")
	}
	for _, a := range all {
		if !reflect.DeepEqual(a.Meta[KeyInvocation], all[0].Meta[KeyInvocation]) {
			return fmt.Errorf("adapter: %s differ: the adapters are switched on by different tokens", KeyInvocation)
		}
	}
	if err := checkShapes(all); err != nil {
		return err
	}
	return sameBase(all)
}

func checkShapes(all []*Adapter) error {
	shapes := map[string][2]int{}
	for _, a := range all {
		if a.Architecture != all[0].Architecture {
			return fmt.Errorf("adapter: one is made for architecture %q, another for %q", all[0].Architecture, a.Architecture)
		}
		for _, w := range a.Weights {
			nIn, nOut := w.Shape()
			if known, ok := shapes[w.Name]; ok && known != [2]int{nIn, nOut} {
				return fmt.Errorf("adapter: tensor %q: of shape %v in one adapter, [%d %d] in another", w.Name, known, nIn, nOut)
			}
			shapes[w.Name] = [2]int{nIn, nOut}
		}
	}
	return nil
}

func sameBase(all []*Adapter) error {
	var known *Adapter
	for _, a := range all {
		switch {
		case a.BaseHash == "":
		case known == nil:
			known = a
		case a.BaseHash != known.BaseHash:
			return fmt.Errorf("adapter: %w: %s, the other on %s", ErrOtherBase, title(a.BaseName, a.BaseHash), title(known.BaseName, known.BaseHash))
		}
	}
	return nil
}

// identity returns an adapter without weights that stands for all.
func identity(all []Ingredient) *Adapter {
	first := all[0].Adapter
	result := &Adapter{Architecture: first.Architecture, BaseName: first.BaseName, BaseHash: first.BaseHash, Meta: derivedMeta(first.Meta)}
	for _, in := range all {
		if result.BaseHash == "" {
			result.BaseName, result.BaseHash = in.BaseName, in.BaseHash
		}
		maps.DeleteFunc(result.Meta, func(key string, v gguf.Value) bool { return !reflect.DeepEqual(in.Meta[key], v) })
	}
	for _, in := range all {
		if in.BaseHash != "" && in.BaseHash != result.BaseHash {
			result.BaseHash = ""
			break
		}
	}
	return result
}

func adapters(all []Ingredient) []*Adapter {
	var list []*Adapter
	for _, in := range all {
		list = append(list, in.Adapter)
	}
	return list
}

// names lists the weights that any of the adapters has, in the order of an adapter.
func names(all []*Adapter) []string {
	var list []string
	for _, a := range all {
		for _, w := range a.Weights {
			list = append(list, w.Name)
		}
	}
	slices.SortFunc(list, model.CompareNames)
	return slices.Compact(list)
}

// concatenate fills the weights with the factors of all, side by side.
func (a *Adapter) concatenate(all []Ingredient) (reports []Report, err error) {
	for _, name := range names(adapters(all)) {
		var parts []weighted
		for _, in := range all {
			if w, ok := in.Adapter.Weight(name); ok {
				parts = append(parts, weighted{w.Factors, in.Weight})
			}
		}
		l, err := concat(parts)
		if err != nil {
			return nil, fmt.Errorf("adapter: tensor %q: %w", name, err)
		}
		whole, err := Norm(Weight{name, l})
		if err != nil {
			return nil, err
		}
		a.Weights = append(a.Weights, Weight{name, l})
		reports = append(reports, Report{Name: name, Rank: l.Rank(), Total: whole * whole, Energy: 1})
	}
	return reports, nil
}

// weighted are the factors of one ingredient.
type weighted struct {
	Factors
	weight float32
}

// concat returns Σ w·s·B·A as one LoRA. The scale of the first becomes the scale of all, so that only the B of those
// whose own differs have to be multiplied.
func concat(parts []weighted) (*LoRA, error) {
	rank := 0
	for _, p := range parts {
		rank += p.Rank()
	}
	nIn, nOut := parts[0].Shape()
	scale := float64(parts[0].weight) * float64(parts[0].Scale())
	alpha, err := normal(scale * float64(rank))
	if err != nil {
		return nil, err
	}
	joined := &LoRA{A: NewMat(nIn, rank), B: NewMat(rank, nOut), Alpha: alpha}
	at := 0
	for _, p := range parts {
		l, ok := p.Factors.(*LoRA)
		if !ok {
			return nil, fmt.Errorf("%s has no low-rank form to put beside others", p.Method())
		}
		ratio := float64(p.weight) * float64(l.Scale()) / scale
		copy(joined.A.Data[at*nIn:], l.A.Data)
		for o := range nOut {
			for k, v := range l.B.Row(o) {
				joined.B.Row(o)[at+k] = float32(ratio * float64(v))
			}
		}
		at += l.Rank()
	}
	return joined, nil
}

// combined returns the change that all make together of one weight.
func (o CombineOptions) combined(name string, all []Ingredient) (change, error) {
	m := &mixture{elect: o.Method == CombineTIES || o.Method == CombineDARETIES}
	var plain []weighted
	for i, in := range all {
		w, ok := in.Adapter.Weight(name)
		if !ok {
			continue
		}
		p := thinned{weighted: weighted{w.Factors, in.Weight}}
		switch o.Method {
		case CombineTIES:
			p.thin = largest(w, o.Density)
		case CombineDARE, CombineDARETIES:
			p.thin = dropped(o.Density, streamKey(o.Seed, i, name))
		}
		if w.Method() == MethodLoRA {
			plain = append(plain, p.weighted)
		}
		m.parts = append(m.parts, p)
	}
	if o.Method == CombineLinear && len(plain) == len(m.parts) {
		l, err := concat(plain)
		if err != nil {
			return nil, fmt.Errorf("adapter: tensor %q: %w", name, err)
		}
		return l, nil
	}
	return m, nil
}
