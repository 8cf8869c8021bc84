package adapter

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"finetune/gguf"
)

// Base is what an adapter has to know of the model it belongs to.
type Base struct {
	Architecture string
	Name         string // general.name, may be empty
	Hash         string // "sha256:" and 64 digits, see ReadBase
	Tensors      []gguf.Tensor
	Template     string // HashText of its chat template, empty if it has none
}

// ReadBase identifies the model in f. The hash is over the architecture and the
// norm weights: quantizers leave those in F32, so that all quantizations of one
// model share a hash, while any training of the model changes it. It returns the
// errors of [gguf.File.Data].
func ReadBase(f *gguf.File) (Base, error) {
	name, _ := f.String("general.name")
	b := Base{Architecture: f.Architecture(), Name: name, Tensors: f.Tensors()}
	slices.SortFunc(b.Tensors, func(s, t gguf.Tensor) int { return compareNames(s.Name, t.Name) })
	sum := sha256.New()
	fmt.Fprintf(sum, "%q\n", b.Architecture)
	for _, t := range b.Tensors {
		if !strings.HasSuffix(t.Name, "_norm.weight") {
			continue
		}
		data, err := f.Data(t.Name)
		if err != nil {
			return Base{}, err
		}
		fmt.Fprintf(sum, "%q %s %v\n", t.Name, t.Type, t.Shape)
		sum.Write(data)
	}
	b.Hash = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if template, err := f.String("tokenizer.chat_template"); err == nil {
		b.Template = HashText(template)
	}
	return b, nil
}

// HashText is "sha256:" and the 64 digits of a text's hash.
func HashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// CheckBase reports a base that the adapter cannot be used with: of another
// architecture, without one of the weights, or with a weight of another shape. If
// all of that fits but the hashes are known and differ, the error is
// [ErrOtherBase]: such an adapter loads and talks nonsense. So is that for a chat
// template other than the one that it was trained with.
func (a *Adapter) CheckBase(b Base) error {
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
	return nil
}

// title is the name with the first digits of the hash.
func title(name, hash string) string {
	return fmt.Sprintf("%q (%.15s)", name, hash)
}
