package model

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"finetune/gguf"
)

// checkTensors wants tensors that have elements, in types that ggml computes with where they are used.
func (h header) checkTensors() error {
	for _, t := range h.Tensors() {
		if slices.Contains(t.Shape, 0) {
			return fmt.Errorf("model %q: tensor %q: want dimensions of 1 or more, got %v", h.Path(), t.Name, t.Shape)
		}
		if want := wantedType(t); want != "" {
			return fmt.Errorf("model %q: tensor %q: want %s, got %s", h.Path(), t.Name, want, t.Type)
		}
	}
	return nil
}

// wantedType returns what type a tensor should have, "" where its own will do.
func wantedType(t gguf.Tensor) string {
	switch {
	case isIndex.MatchString(t.Name):
		if t.Type != gguf.TypeI32 {
			return gguf.TypeI32.String()
		}
	case elementwise(t):
		if t.Type != gguf.TypeF32 {
			return gguf.TypeF32.String() + " for what is no matrix"
		}
	case slices.Contains(noWeights, t.Type):
		return "a type of weights"
	}
	return ""
}

// noWeights are the types that ggml multiplies with nothing: whole numbers, and those of activations on their way into a
// product.
var noWeights = []gguf.Type{gguf.TypeI8, gguf.TypeI16, gguf.TypeI32, gguf.TypeI64, gguf.TypeF64, gguf.TypeQ8_1, gguf.TypeQ8_K}

// elementwise reports whether a tensor is used element by element, which ggml does with F32 beside F32 only: norms, biases,
// scales, and the short convolutions, shares and decays of recurrent layers. llama.cpp's converter writes them, and all whose names
// do not end in .weight, in F32.
func elementwise(t gguf.Tensor) bool {
	return len(t.Shape) < 2 || !strings.HasSuffix(t.Name, ".weight") || isElementwise.MatchString(t.Name)
}

var (
	isElementwise = regexp.MustCompile(`(_norm|\.ssm_conv1d(_[qkv])?|\.ssm_[ad]|\.shortconv\.conv|_mix_lerp_\w+|_mix_first)\.weight$`)
	isIndex       = regexp.MustCompile(`_tid2eid(\.weight)?$`) // experts by token
)
