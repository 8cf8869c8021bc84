package model_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/internal/testmodel"
	"finetune/model"
	"finetune/quant"
)

// Blocks of random bytes are bad where ggml reads a number from them that is none or infinite, in every type of weights.
func TestCheckWeightsFindsWhatDecodesToNoNumber(t *testing.T) {
	const blocks = 9 // in each of two rows
	for _, typ := range gguf.Types() {
		if finite, bad := drawn(typ); finite == nil || bad == nil {
			continue // holds whole numbers, or finite ones only
		}
		t.Run(typ.String(), func(t *testing.T) {
			for seed := range uint64(3) {
				rng := rand.New(rand.NewPCG(seed, uint64(typ)))
				var data []byte
				for range 2 * blocks {
					data = append(data, draw(rng, typ, true)...)
				}
				shape := []int64{blocks * int64(typ.BlockSize()), 2}
				if err := checkWeights(t, typ, shape, data); err != nil {
					t.Fatalf("seed %d: finite numbers: %v", seed, err)
				}
				at := rng.IntN(2 * blocks)
				copy(data[at*typ.BlockBytes():], draw(rng, typ, false))
				err := checkWeights(t, typ, shape, data)
				if want := fmt.Sprintf("at element %d, got NaN or infinity", at*typ.BlockSize()); err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("seed %d: CheckWeights = %v, want %q", seed, err, want)
				}
				if !strings.Contains(err.Error(), `tensor "token_embd.weight"`) || len(hint.Of(err)) == 0 {
					t.Errorf("%v, hints %q", err, hint.Of(err))
				}
			}
		})
	}
}

// drawn returns a block of finite numbers and one with another, nil for what a type cannot hold.
func drawn(typ gguf.Type) (finite, bad []byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	if slices.Contains([]gguf.Type{gguf.TypeI8, gguf.TypeI16, gguf.TypeI32, gguf.TypeI64, gguf.TypeF64, gguf.TypeQ8_1, gguf.TypeQ8_K}, typ) {
		return nil, nil
	}
	return draw(rng, typ, true), draw(rng, typ, false)
}

// draw returns random bytes that are a block of finite numbers, or of others.
func draw(rng *rand.Rand, typ gguf.Type, finite bool) []byte {
	values := make([]float32, typ.BlockSize())
	for range 10000 {
		block := make([]byte, typ.BlockBytes())
		for i := range block {
			block[i] = byte(rng.Uint32())
		}
		if typ == gguf.TypeMXFP4 { // every scale but one is a number, and the largest decode to infinity
			block[0] = 0xff
			if finite {
				block[0] = byte(rng.UintN(0xf0))
			}
			return block
		}
		if err := quant.Decode(typ, block, values); err != nil {
			return nil
		}
		notFinite := slices.ContainsFunc(values, func(x float32) bool { return math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) })
		if notFinite != finite {
			return block
		}
	}
	return nil
}

// checkWeights writes a model of one tensor and looks at it.
func checkWeights(t *testing.T, typ gguf.Type, shape []int64, data []byte) error {
	t.Helper()
	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	for _, key := range []string{"block_count", "context_length", "embedding_length", "attention.head_count"} {
		b.Set("llama."+key, uint32(2))
	}
	b.AddTensor("token_embd.weight", typ, shape, data)
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	base, err := model.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	return base.CheckWeights()
}

// Every type of tiny models is found sound.
func TestCheckWeightsTakesSoundModels(t *testing.T) {
	for _, typ := range []gguf.Type{gguf.TypeF32, gguf.TypeF16, gguf.TypeBF16, gguf.TypeQ8_0, gguf.TypeQ4_0} {
		b, err := model.Open(testmodel.Path(t, testmodel.Spec{Type: typ}))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.CheckWeights(); err != nil {
			t.Errorf("%v: %v", typ, err)
		}
		b.Close()
	}
}
