package model

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"finetune/gguf"
)

// Identity is what an adapter, a run and a checkpoint have to know of the model that they belong to.
type Identity struct {
	Architecture string        // general.architecture
	Name         string        // general.name, may be empty
	Hash         string        // "sha256:" and 64 digits, over the architecture and the norms
	Tensors      []gguf.Tensor // by name, blk.2 before blk.10
	Template     string        // HashText of its chat template, empty if it has none
}

// identify reads the identity. The hash is over the architecture and the norm weights: quantizers leave those in F32, so
// that all quantizations of one model share a hash, while any training of the model changes it.
func identify(f *gguf.File) (Identity, error) {
	name, _ := f.String("general.name")
	id := Identity{Architecture: f.Architecture(), Name: name, Tensors: f.Tensors()}
	slices.SortFunc(id.Tensors, func(s, t gguf.Tensor) int { return CompareNames(s.Name, t.Name) })
	sum := sha256.New()
	fmt.Fprintf(sum, "%q\n", id.Architecture)
	for _, t := range id.Tensors {
		if !strings.HasSuffix(t.Name, "_norm.weight") {
			continue
		}
		data, err := f.Data(t.Name)
		if err != nil {
			return Identity{}, err
		}
		fmt.Fprintf(sum, "%q %s %v\n", t.Name, t.Type, t.Shape)
		sum.Write(data)
	}
	id.Hash = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if template, err := f.String("tokenizer.chat_template"); err == nil {
		id.Template = HashText(template)
	}
	return id, nil
}

// HashText returns "sha256:" and the 64 digits of a text's hash.
func HashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}
