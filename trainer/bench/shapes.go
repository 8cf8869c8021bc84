package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"finetune/gguf"
	"finetune/internal/testmodel"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// shapes are real architectures' sizes, by the names that --shape takes. Speed does not depend on the values of weights.
var shapes = map[string]testmodel.Spec{
	"tiny":    {Arch: "llama", Layers: 4, Embd: 256, Heads: 8, HeadsKV: 4, FF: 768, Vocab: 4096, Ctx: 4096, Tied: true},
	"smol135": {Arch: "llama", Layers: 30, Embd: 576, Heads: 9, HeadsKV: 3, FF: 1536, Vocab: 32000, Ctx: 4096, Tied: true},
	"qwen05":  {Arch: "qwen2", Layers: 24, Embd: 896, Heads: 14, HeadsKV: 2, FF: 4864, Vocab: 151936, Ctx: 4096, Tied: true},
	"tiny1b":  {Arch: "llama", Layers: 22, Embd: 2048, Heads: 32, HeadsKV: 4, FF: 5632, Vocab: 32000, Ctx: 4096},
	"7b":      {Arch: "llama", Layers: 32, Embd: 4096, Heads: 32, HeadsKV: 32, FF: 11008, Vocab: 32000, Ctx: 4096},
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
func Model(dir, shape, kind string) (string, error) {
	spec, ok := shapes[shape]
	if !ok {
		return "", fmt.Errorf("bench: shape %q: want one of %s", shape, strings.Join(Shapes(), ", "))
	}
	kind = strings.ToLower(kind)
	path := filepath.Join(dir, shape+"-"+kind+".gguf")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	if t, ok := direct[kind]; ok {
		spec.Type = t
		return path, testmodel.Write(path, spec)
	}
	source, err := Model(dir, shape, "f16")
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
