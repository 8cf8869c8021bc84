package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"finetune/gguf"
	"finetune/newmodel"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// shape is the size of a model.
type shape struct {
	newmodel.Spec
	vocab int // tokens
}

// shapes are real architectures' sizes, by the names that --shape takes. Speed does not depend on the values of weights.
var shapes = map[string]shape{
	"tiny":    {newmodel.Spec{Arch: "llama", Layers: 4, Embd: 256, Heads: 8, HeadsKV: 4, FF: 768, Ctx: 4096, Tied: true}, 4096},
	"smol135": {newmodel.Spec{Arch: "llama", Layers: 30, Embd: 576, Heads: 9, HeadsKV: 3, FF: 1536, Ctx: 4096, Tied: true}, 32000},
	"qwen05":  {newmodel.Spec{Arch: "qwen2", Layers: 24, Embd: 896, Heads: 14, HeadsKV: 2, FF: 4864, Ctx: 4096, Tied: true}, 151936},
	"tiny1b":  {newmodel.Spec{Arch: "llama", Layers: 22, Embd: 2048, Heads: 32, HeadsKV: 4, FF: 5632, Ctx: 4096}, 32000},
	"7b":      {newmodel.Spec{Arch: "llama", Layers: 32, Embd: 4096, Heads: 32, HeadsKV: 32, FF: 11008, Ctx: 4096}, 32000},
}

// write writes a model of the shape with the start of a training in its weights, which are of the type.
func (s shape) write(path string, t gguf.Type) (err error) {
	s.Name, s.Type, s.Seed, s.RopeBase, s.Epsilon = "bench", t, 1, 10000, 1e-5
	if s.Vocabulary, err = byteVocabulary(s.vocab); err != nil {
		return err
	}
	m, err := newmodel.New(s.Spec)
	if err != nil {
		return err
	}
	return m.WriteFile(path)
}

// byteVocabulary returns a byte-level tokenizer of so many tokens: the bytes, one pair of them, an end of text, and for
// the rest unused ones.
func byteVocabulary(size int) (*newmodel.Vocabulary, error) {
	space := string(newmodel.ByteRune(' '))
	var tokens []string
	kinds := make([]int32, size)
	for b := range 256 {
		tokens = append(tokens, string(newmodel.ByteRune(byte(b))))
	}
	tokens = append(tokens, space+"t", "<|endoftext|>")
	end := len(tokens) - 1
	for i := range kinds {
		switch {
		case i < end:
			kinds[i] = newmodel.TokenNormal
		case i == end:
			kinds[i] = newmodel.TokenControl
		default:
			tokens, kinds[i] = append(tokens, fmt.Sprintf("<unused%d>", i)), newmodel.TokenUnused
		}
	}
	return newmodel.NewVocabulary([]gguf.KV{
		{Key: "tokenizer.ggml.model", Value: "gpt2"},
		{Key: "tokenizer.ggml.pre", Value: "gpt-2"},
		{Key: "tokenizer.ggml.tokens", Value: tokens},
		{Key: "tokenizer.ggml.token_type", Value: kinds},
		{Key: "tokenizer.ggml.merges", Value: []string{space + " t"}},
		{Key: "tokenizer.ggml.bos_token_id", Value: uint32(end)},
		{Key: "tokenizer.ggml.eos_token_id", Value: uint32(end)},
	})
}

// Shapes lists the names of the shapes.
func Shapes() []string {
	var names []string
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// direct are the types that a model is written in at once; the others are made by llama.cpp's quantizer.
var direct = map[string]gguf.Type{"f32": gguf.TypeF32, "f16": gguf.TypeF16, "bf16": gguf.TypeBF16, "q8_0": gguf.TypeQ8_0, "q4_0": gguf.TypeQ4_0}

// Model returns the path of a model of the shape with seeded random weights of the type, a mix such as "q4_k_m" or a plain
// one, in folder dir. A file that an earlier call has made is used again.
func Model(dir, name, kind string) (string, error) {
	spec, ok := shapes[name]
	if !ok {
		return "", fmt.Errorf("bench: shape %q: want one of %s", name, strings.Join(Shapes(), ", "))
	}
	kind = strings.ToLower(kind)
	path := filepath.Join(dir, name+"-"+kind+".gguf")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	if t, ok := direct[kind]; ok {
		return path, spec.write(path, t)
	}
	source, err := Model(dir, name, "f16")
	if err != nil {
		return "", err
	}
	half := path + ".part"
	if err := llama.Quantize(source, half, kind, 0); err != nil {
		os.Remove(half)
		return "", err
	}
	return path, os.Rename(half, path)
}
