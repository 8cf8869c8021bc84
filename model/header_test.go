package model_test

import (
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/model"
)

// damage is a model of an architecture with keys set, and tensors in other types.
type damage struct {
	name string
	arch string // "llama"; a name of testmodel.Variants too
	keys map[string]any
	drop string // key or tensor that is left out
	typ  map[string]gguf.Type
	dims map[string][]int64 // other shapes
	want string             // in the error
}

// write makes the model. Data of another type or shape is zeros.
func (d damage) write(t *testing.T) string {
	t.Helper()
	whole := filepath.Join(t.TempDir(), "whole.gguf")
	if err := writeModel(whole, d.arch); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := gguf.NewBuilder()
	for _, kv := range f.KVs() {
		if kv.Key != d.drop {
			b.Set(kv.Key, kv.Value)
		}
	}
	for key, v := range d.keys {
		b.Set(key, v)
	}
	for _, tensor := range f.Tensors() {
		if tensor.Name == d.drop {
			continue
		}
		typ, retyped := d.typ[tensor.Name]
		shape, reshaped := d.dims[tensor.Name]
		if !retyped && !reshaped {
			b.CopyTensor(f, tensor.Name)
			continue
		}
		if !retyped {
			typ = tensor.Type
		}
		if !reshaped {
			shape = tensor.Shape
		}
		zeros := gguf.Tensor{Name: tensor.Name, Type: typ, Shape: shape}
		b.AddTensorFunc(tensor.Name, typ, shape, func(w io.Writer) error {
			_, err := w.Write(make([]byte, zeros.Bytes()))
			return err
		})
	}
	path := filepath.Join(t.TempDir(), "damaged.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeModel writes the tiny model of an architecture or a variant.
func writeModel(path, arch string) error {
	for _, v := range testmodel.Variants() {
		if v.Name == arch {
			return v.Write(path)
		}
	}
	return testmodel.Write(path, testmodel.Spec{Arch: arch})
}

func set(key string, value any) map[string]any { return map[string]any{key: value} }

func types(name string, typ gguf.Type) map[string]gguf.Type { return map[string]gguf.Type{name: typ} }

var damages = []damage{
	{name: "no tokens", keys: set("tokenizer.ggml.tokens", gguf.ArrayOf[string]()), want: `key "tokenizer.ggml.tokens": want an array of one or more strings, got [0]string`},
	{name: "tokens a string", keys: set("tokenizer.ggml.tokens", "all"), want: `key "tokenizer.ggml.tokens": want an array of one or more strings, got "all"`},
	{name: "tokens numbers", keys: set("tokenizer.ggml.tokens", gguf.ArrayOf[uint32](1)), want: `want an array of one or more strings, got [1]uint32`},
	{name: "few scores", keys: set("tokenizer.ggml.scores", gguf.ArrayOf[float32](1)), want: `key "tokenizer.ggml.scores": want an array of float32, one for each of the`},
	{name: "types of another kind", keys: set("tokenizer.ggml.token_type", gguf.ArrayOf[float32](1)), want: `key "tokenizer.ggml.token_type": want an array of int32`},
	{name: "merges numbers", keys: set("tokenizer.ggml.merges", gguf.ArrayOf[uint8](1)), want: `key "tokenizer.ggml.merges": want an array of strings`},

	{name: "dimension of 0", dims: map[string][]int64{"blk.1.attn_q.weight": {64, 0}}, want: `tensor "blk.1.attn_q.weight": want dimensions of 1 or more, got [64 0]`},
	{name: "norm in i32", typ: types("blk.0.attn_norm.weight", gguf.TypeI32), want: `tensor "blk.0.attn_norm.weight": want f32 for what is no matrix, got i32`},
	{name: "norm in f16", typ: types("output_norm.weight", gguf.TypeF16), want: `tensor "output_norm.weight": want f32 for what is no matrix, got f16`},
	{name: "norm in mxfp4", typ: types("output_norm.weight", gguf.TypeMXFP4), want: `want f32 for what is no matrix, got mxfp4`},
	{name: "bias in f16", arch: "qwen2", typ: types("blk.0.attn_q.bias", gguf.TypeF16), want: `tensor "blk.0.attn_q.bias": want f32 for what is no matrix, got f16`},
	{name: "norm of heads in f16", arch: "talkie", typ: types("blk.0.attn_q_norm.weight", gguf.TypeF16), want: `want f32 for what is no matrix, got f16`},
	{name: "convolution in f16", arch: "lfm2", typ: types("blk.0.shortconv.conv.weight", gguf.TypeF16), want: `want f32 for what is no matrix, got f16`},
	{name: "convolution in bf16", arch: "qwen35", typ: types("blk.0.ssm_conv1d.weight", gguf.TypeBF16), want: `want f32 for what is no matrix, got bf16`},
	{name: "weights in i16", typ: types("blk.0.ffn_down.weight", gguf.TypeI16), want: `tensor "blk.0.ffn_down.weight": want a type of weights, got i16`},
	{name: "weights in f64", typ: types("blk.0.ffn_down.weight", gguf.TypeF64), want: `want a type of weights, got f64`},
	{name: "weights in q8_1", typ: types("blk.0.ffn_up.weight", gguf.TypeQ8_1), want: `want a type of weights, got q8_1`},

	{name: "rotation odd", arch: "phi2", keys: set("phi2.rope.dimension_count", uint32(7)), want: `key "phi2.rope.dimension_count": want an even number from 2 to 16, the width of a head, got 7`},
	{name: "rotation of nothing", arch: "gemma3", keys: set("gemma3.rope.dimension_count", uint32(0)), want: `want an even number from 2 to 16, the width of a head, got 0`},
	{name: "rotation above the head's", arch: "phi2", keys: set("phi2.rope.dimension_count", uint32(18)), want: `want an even number from 2 to 16, the width of a head, got 18`},
	{name: "rotation of 2^31", arch: "gemma2", keys: set("gemma2.rope.dimension_count", uint32(1<<31)), want: `want an even number from 2 to 16, the width of a head, got 2147483648`},
	{name: "rotation of other layers", arch: "gemma4", keys: set("gemma4.rope.dimension_count_swa", uint32(20)), want: `key "gemma4.rope.dimension_count_swa": want an even number from 2 to 16`},
	{name: "rotation of all layers", arch: "gemma4", drop: "gemma4.rope.dimension_count_swa", want: `key "gemma4.rope.dimension_count_swa": missing, want an even number up to 16, the width of a head, got 32 from other layers`},
	{name: "loops", arch: "nanbeige", keys: set("nanbeige.num_loops", uint32(5)), want: `key "nanbeige.num_loops": want a number from 1 to 4, got 5`},
	{name: "stacks", arch: "hrm_text", keys: set("hrm_text.hrm.l_cycles", uint32(6)), want: `keys "hrm_text.hrm.h_cycles" and "hrm_text.hrm.l_cycles": want at most 12 stacks of blocks in a pass, got 14`},
	{name: "sections of nothing", arch: "qwen2vl", keys: set("qwen2vl.rope.dimension_sections", gguf.ArrayOf[int32](0, 0, 0, 0)), want: `key "qwen2vl.rope.dimension_sections": want shares of a head's 16 channels, got [0 0 0 0]`},
	{name: "sections of more", arch: "qwen2vl", keys: set("qwen2vl.rope.dimension_sections", gguf.ArrayOf[int32](9, 8, 0, 0)), want: `want shares of a head's 16 channels, got [9 8 0 0]`},
	{name: "base of 0", keys: set("llama.rope.freq_base", float32(0)), want: `key "llama.rope.freq_base": want a number above 0, got 0`},

	{name: "epsilon negative", keys: set("llama.attention.layer_norm_rms_epsilon", float32(-1)), want: `key "llama.attention.layer_norm_rms_epsilon": want a number from 0 to 1, got -1`},
	{name: "epsilon NaN", arch: "gpt2", keys: set("gpt2.attention.layer_norm_epsilon", float32(math.NaN())), want: `key "gpt2.attention.layer_norm_epsilon": want a number from 0 to 1, got NaN`},
	{name: "scale NaN", arch: "granite", keys: set("granite.residual_scale", float32(math.NaN())), want: `key "granite.residual_scale": want numbers, got NaN`},

	{name: "window of 1", arch: "gemma2", keys: set("gemma2.attention.sliding_window", uint32(1)), want: `key "gemma2.attention.sliding_window": want a window of 4 tokens or more, or 0 for none, got 1`},
	{name: "window of 3", arch: "cohere2", keys: set("cohere2.attention.sliding_window", uint32(3)), want: `want a window of 4 tokens or more, or 0 for none, got 3`},
	{name: "window of 2^31", arch: "gemma2", keys: set("gemma2.attention.sliding_window", uint32(1<<31)), want: `or 0 for none, got 2147483648`},

	{name: "no blocks", keys: set("llama.block_count", uint32(0)), want: `key "llama.block_count": want a number from 1 to 512, got 0`},
	{name: "blocks a text", keys: set("llama.block_count", "two"), want: `key "llama.block_count": want a number from 1 to 512, got "two"`},
	{name: "no context", keys: set("llama.context_length", uint32(0)), want: `key "llama.context_length": want a number from 1 to 2147483647, got 0`},
	{name: "heads that share unevenly", keys: set("llama.attention.head_count_kv", uint32(3)), want: `key "llama.attention.head_count_kv": want a divisor of the 4 query heads in layer 0, got 3`},
	{name: "state without heads", arch: "qwen35", keys: set("qwen35.ssm.time_step_rank", uint32(0)), want: `key "qwen35.ssm.time_step_rank": want a number from 1`},
	{name: "attention in no layer", arch: "qwen35", keys: set("qwen35.full_attention_interval", uint32(0)), want: `key "qwen35.full_attention_interval": want a number from 1`},
	{name: "convolution of 1", arch: "lfm2", keys: set("lfm2.shortconv.l_cache", uint32(1)), want: `key "lfm2.shortconv.l_cache": want a number from 2`},

	{name: "no heads", arch: "olmo2", drop: "olmo2.attention.head_count", want: `key "olmo2.attention.head_count": missing, want a number from 1 on`},
	{name: "heads of nothing", keys: set("llama.attention.head_count", uint32(0)), want: `key "llama.attention.head_count": want a number from 1 on, got 0`},
	{name: "groups of nothing", arch: "qwen35", keys: set("qwen35.ssm.group_count", uint32(0)), want: `key "qwen35.ssm.group_count": want a number from 1 on, got 0`},
	{name: "attention without queries", arch: "phi3", drop: "blk.1.attn_qkv.weight", want: `block "blk.1": want attn_qkv or attn_q, attn_k, attn_v, which a block with attn_output has in architecture "phi3"`},
	{name: "state without input", arch: "qwen35", drop: "blk.0.attn_gate.weight", want: `block "blk.0": want attn_qkv, attn_gate, which a block with ssm_out has`},
	{name: "experts of nothing", arch: "qwen3moe", keys: map[string]any{"qwen3moe.expert_feed_forward_length": uint32(0), "qwen3moe.expert_used_count": uint32(0)}, want: `key "qwen3moe.expert_used_count": want a number from 1 on, got 0`},
	{name: "wide keys", arch: "olmo2", keys: set("olmo2.attention.key_length", uint32(65536)), want: `key "olmo2.attention.key_length": want at most 96 in all 4 heads, the width of the widest tensor of a block, got 65536`},
	{name: "long token", keys: set("tokenizer.ggml.tokens", gguf.ArrayOf("a", strings.Repeat("b", 5000))), want: `key "tokenizer.ggml.tokens": want tokens of at most 4096 bytes, got 5000 for token 1`},

	{name: "another architecture", keys: set("general.architecture", "qwen2"), want: `key "block_count": want one of architecture "qwen2", which "general.architecture" names, got "llama.block_count"`},
	{name: "no architecture", drop: "general.architecture", want: `key "general.architecture": missing, want the name of an architecture`},
	{name: "no width", drop: "llama.embedding_length", want: `key "llama.embedding_length": missing, want a number`},
	{name: "parts of nothing", keys: set("split.count", uint16(0)), want: `key "split.count": want 1 part or more, got 0`},
}

// Each damage is one line with the file, the key or tensor, what is wanted and what is there.
func TestOpenRefusesDamage(t *testing.T) {
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			if d.arch == "" {
				d.arch = "llama"
			}
			path := d.write(t)
			b, err := model.Open(path)
			if err == nil {
				b.Close()
				t.Fatalf("opened, want an error with %s", d.want)
			}
			for _, part := range []string{d.want, fmt.Sprintf("%q", path)} {
				if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
					t.Errorf("Open = %v, want one line with %s", err, part)
				}
			}
		})
	}
}

// The damaged models of ../shared, each with one value patched, are refused by their headers; that of one weight is not.
func TestOpenRefusesPatchedModels(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"eps", `key "llama.attention.layer_norm_rms_epsilon"`},
		{"dim0", `tensor "blk.0.attn_q.weight"`},
		{"norm", `tensor "blk.0.attn_norm.weight"`},
		{"i16", `tensor "blk.0.ffn_down.weight"`},
		{"notok", `key "tokenizer.ggml.tokens"`},
		{"rope", `key "gemma2.rope.dimension_count"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			patch := need.Shared(t, "cases/hostile-models/patch.py")
			python, err := exec.LookPath("python3")
			if err != nil {
				need.Skip(t, need.App, "no python3")
			}
			args := []string{patch, tt.name}
			if tt.name == "rope" {
				args = append(args, testmodel.Path(t, testmodel.Spec{Arch: "gemma2"}))
			}
			patched, err := exec.Command(python, args...).Output()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "patched.gguf")
			if err := os.WriteFile(path, patched, 0o666); err != nil {
				t.Fatal(err)
			}
			b, err := model.Open(path)
			if err == nil {
				b.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open = %v, want an error of %s", err, tt.want)
			}
		})
	}
}

// What llama.cpp loads and runs, as the tests of internal/testmodel show, opens.
func TestOpenTakesEveryArchitecture(t *testing.T) {
	open := func(t *testing.T, path string) {
		t.Helper()
		b, err := model.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
	}
	for _, arch := range testmodel.Architectures() {
		for _, typ := range []gguf.Type{gguf.TypeF32, gguf.TypeF16, gguf.TypeBF16, gguf.TypeQ8_0, gguf.TypeQ4_0} {
			t.Run(fmt.Sprintf("%s/%v", arch, typ), func(t *testing.T) { open(t, testmodel.Path(t, testmodel.Spec{Arch: arch, Type: typ})) })
		}
	}
	for _, v := range testmodel.Variants() {
		t.Run(v.Name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "variant.gguf")
			if err := v.Write(path); err != nil {
				t.Fatal(err)
			}
			open(t, path)
		})
	}
	need.Each(t, []string{"demo/base.gguf"}, []string{"models/stories260K-f32.gguf", "models/stories260K-f16.gguf", "models/stories260K-q8_0.gguf",
		"models/all-minilm-l6-v2-f16.gguf"}, open)
}
