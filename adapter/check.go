package adapter

import (
	"fmt"

	"finetune/model"
)

// CheckBase reports a base that the adapter cannot be used with: of another
// architecture, without one of the weights, or with a weight of another shape. If
// all of that fits but the hashes are known and differ, the error is
// [ErrOtherBase]: such an adapter loads and talks nonsense. So is that for a chat
// template other than the one that it was trained with. Where only the sampled weights
// are known to differ it is [ErrOtherWeights].
func (a *Adapter) CheckBase(b model.Identity) error {
	if a.Architecture != b.Architecture {
		return fmt.Errorf("adapter: made for architecture %q, the model is %q", a.Architecture, b.Architecture)
	}
	shapes := map[string][]int64{}
	for _, t := range b.Tensors {
		shapes[t.Name] = t.Shape
	}
	for _, w := range a.Weights {
		nIn, nOut := w.Shape()
		shape, ok := shapes[w.Name]
		switch {
		case isEmbedding(w.Name) && shapes["output.weight"] == nil: // llama.cpp would take the pair for the output too, and read past its end
			return fmt.Errorf("adapter: tensor %q: the model's output matrix is its table of embeddings, which no adapter can be on", w.Name)
		case !ok:
			return fmt.Errorf("adapter: tensor %q: not in the model", w.Name)
		case len(shape) != 2 || shape[0] != int64(nIn) || shape[1] != int64(nOut):
			return fmt.Errorf("adapter: tensor %q: made for shape [%d %d], the model has %v", w.Name, nIn, nOut, shape)
		}
	}
	if a.BaseHash != "" && b.Hash != "" && a.BaseHash != b.Hash {
		return fmt.Errorf("adapter: %w: %s, the model is %s", ErrOtherBase, title(a.BaseName, a.BaseHash), title(b.Name, b.Hash))
	}
	if template, _ := a.Meta[KeyTemplateHash].(string); template != "" && b.Template != "" && template != b.Template {
		return fmt.Errorf("adapter: %w: with chat template %.15s, that of the model is %.15s", ErrOtherBase, template, b.Template)
	}
	if weights, _ := a.Meta[KeyBaseWeights].(string); weights != "" && b.Weights != "" && weights != b.Weights {
		return fmt.Errorf("adapter: %w: %s, the model has %s", ErrOtherWeights, title(a.BaseName, weights), title(b.Name, b.Weights))
	}
	return nil
}

// title returns the name with the first digits of the hash.
func title(name, hash string) string {
	return fmt.Sprintf("%q (%.15s)", name, hash)
}
