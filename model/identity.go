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
	Hash         string        // "sha256:" and 64 digits, over the architecture and the norms: the same for every quantization of a model
	Weights      string        // likewise, over names, types, shapes and a sample of the bytes of all tensors: of this file's weights only
	Tensors      []gguf.Tensor // by name, blk.2 before blk.10
	Template     string        // HashText of its chat template, empty if it has none
}

// identify reads the identity. The hash is over the architecture and the norm weights: quantizers leave those in F32, so
// that all quantizations of one model share a hash. A model made anew has norms of 1, and merging an adapter leaves norms as
// they are: what tells such models apart is the sample of all weights.
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
	weights, err := sampleWeights(f, id.Tensors)
	if err != nil {
		return Identity{}, err
	}
	id.Weights = weights
	if template, err := f.String("tokenizer.chat_template"); err == nil {
		id.Template = HashText(template)
	}
	return id, nil
}

// A sample is all of a small tensor, and of a larger one some pieces that lie evenly, its first and its last blocks among
// them: some 5 MiB of a model of 300 matrices, however large they are.
const (
	wholeBytes  = 16 << 10
	pieces      = 4
	pieceBlocks = 16 // of the tensor's type, 512 weights of a quantized one
)

// sampleWeights hashes the tensors. Another quantization, a training and a merged adapter change every piece of what they
// touch; a change of single rows between the pieces of a tensor is not seen.
func sampleWeights(f *gguf.File, tensors []gguf.Tensor) (string, error) {
	sum := sha256.New()
	for _, t := range tensors {
		fmt.Fprintf(sum, "%q %s %v\n", t.Name, t.Type, t.Shape)
		for _, p := range samplesOf(t) {
			data, err := f.Part(t.Name, p[0], p[1])
			if err != nil {
				return "", err
			}
			sum.Write(data)
		}
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// samplesOf returns the first and the last byte plus one of each piece.
func samplesOf(t gguf.Tensor) [][2]int64 {
	total, block := t.Bytes(), int64(t.Type.BlockBytes())
	if total <= wholeBytes {
		return [][2]int64{{0, total}}
	}
	size := pieceBlocks * block
	var all [][2]int64
	for i := range int64(pieces) {
		from := (total - size) / block * i / (pieces - 1) * block
		all = append(all, [2]int64{from, from + size})
	}
	return all
}

// HashText returns "sha256:" and the 64 digits of a text's hash.
func HashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}
