package graph

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/testmodel"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// variant is an architecture whose tensors are nearly those of another one: the tiny model of the latter with tensors
// dropped, tensors added and keys added.
type variant struct {
	arch      string
	of        testmodel.Spec
	drop      []string           // names, without "blk.N."
	add       map[string][]int64 // "blk.*" is every block
	keys      map[string]any
	unadapted []string // as for checkModel
}

// variants by what only they have.
var variants = []variant{
	{arch: "bloom", of: tinySpec("gpt2"), // ALiBi, a norm of the embeddings
		drop: []string{"position_embd.weight"},
		add:  map[string][]int64{"token_embd_norm.weight": {64}, "token_embd_norm.bias": {64}}},
	{arch: "mpt", of: tinySpec("gpt2"), // ALiBi, clamped Q, K and V
		drop: []string{"position_embd.weight"},
		keys: map[string]any{"mpt.attention.clamp_kqv": float32(0.9), "mpt.attention.max_alibi_bias": float32(8)}},
	{arch: "refact", of: tinySpec("llama")}, // ALiBi with SwiGLU
	{arch: "starcoder", of: tinySpec("gpt2")},
	{arch: "gptneox", of: tinySpec("gpt2"), // both residuals at once, of different norms
		drop: []string{"position_embd.weight"},
		keys: map[string]any{"gptneox.use_parallel_residual": true, "gptneox.rope.dimension_count": uint32(8)}},
	{arch: "nemotron", of: tinySpec("starcoder2")},                            // ReLU²
	{arch: "arcee", of: tinySpec("llama"), drop: []string{"ffn_gate.weight"}}, // ReLU² with RMSNorm
	{arch: "olmo", of: tinySpec("llama"), // norms without weights
		drop: []string{"attn_norm.weight", "ffn_norm.weight", "output_norm.weight"},
		keys: map[string]any{"olmo.attention.layer_norm_epsilon": float32(1e-5), "olmo.attention.clamp_kqv": float32(0.9)}},
	{arch: "olmo2", of: testmodel.Spec{Arch: "llama", HeadsKV: 4}, // norms after the blocks, and of all of q and k
		drop: []string{"attn_norm.weight", "ffn_norm.weight"},
		add: map[string][]int64{"blk.*.attn_q_norm.weight": {64}, "blk.*.attn_k_norm.weight": {64},
			"blk.*.post_attention_norm.weight": {64}, "blk.*.post_ffw_norm.weight": {64}}},
	{arch: "command-r", of: tinySpec("llama"), // scaled logits
		drop: []string{"ffn_norm.weight", "output.weight"},
		keys: map[string]any{"command-r.attention.layer_norm_epsilon": float32(1e-5), "command-r.logit_scale": float32(0.5)}},
	{arch: "cohere2", of: testmodel.Spec{Arch: "llama", Layers: 4}, // windows, but in every fourth layer
		drop: []string{"ffn_norm.weight", "output.weight"},
		keys: map[string]any{"cohere2.attention.layer_norm_epsilon": float32(1e-5), "cohere2.logit_scale": float32(0.5), "cohere2.attention.sliding_window": uint32(8)}},
	{arch: "gemma3", of: testmodel.Spec{Arch: "gemma2", Layers: 6, Ctx: 32}, // windows, but in every sixth layer; norms of q and k
		add: map[string][]int64{"blk.*.attn_q_norm.weight": {16}, "blk.*.attn_k_norm.weight": {16}}},
	{arch: "apertus", of: tinySpec("llama"), // xIELU
		drop: []string{"ffn_gate.weight"},
		add:  map[string][]int64{"blk.*.attn_q_norm.weight": {16}, "blk.*.attn_k_norm.weight": {16}},
		keys: map[string]any{"xielu.alpha_n": []float32{0.3, 0.4}, "xielu.alpha_p": []float32{0.8, 0.7},
			"xielu.beta": []float32{0.5, 0.5}, "xielu.eps": []float32{-1e-6, -1e-6}}},
	{arch: "qwen2vl", of: tinySpec("qwen2"), // four positions a token
		keys: map[string]any{"qwen2vl.rope.dimension_sections": []int32{2, 3, 3, 0}}},
	{arch: "glm4", of: tinySpec("qwen2"), // fused gate, norms after the blocks
		drop:      []string{"ffn_gate.weight", "ffn_up.weight"},
		add:       map[string][]int64{"blk.*.ffn_up.weight": {64, 192}, "blk.*.post_attention_norm.weight": {64}, "blk.*.post_ffw_norm.weight": {64}},
		unadapted: []string{"attn_output", "ffn_down"}},
	{arch: "orion", of: tinySpec("llama"), // LayerNorm with SwiGLU
		add:  map[string][]int64{"output_norm.bias": {64}, "blk.*.attn_norm.bias": {64}, "blk.*.ffn_norm.bias": {64}},
		keys: map[string]any{"orion.attention.layer_norm_epsilon": float32(1e-5)}},
	{arch: "granite", of: tinySpec("llama"), // scaled residuals
		keys: map[string]any{"granite.logit_scale": float32(2), "granite.residual_scale": float32(0.5), "granite.embedding_scale": float32(3), "granite.attention.scale": float32(0.2)}},
	{arch: "smollm3", of: testmodel.Spec{Arch: "llama", Layers: 4}}, // no rotation in every fourth layer
	{arch: "internlm2", of: tinySpec("llama")},
	{arch: "solar", of: tinySpec("llama"), // scalars, which are elements of a weight that all layers share
		add: map[string][]int64{"bskcn_tv.weight": {2}},
		keys: map[string]any{"solar.attention.block_skip_connection.0": []uint32{1, 0}, "solar.attention.block_skip_connection.1": []uint32{0, 0},
			"solar.attention.block_skip_connection.2": []uint32{0, 1}, "solar.attention.block_skip_connection.3": []uint32{0, 0}}},
	{arch: "xverse", of: tinySpec("llama")},
	{arch: "minicpm3", of: testmodel.Spec{Arch: "llama", HeadsKV: 4}, // latent attention: REPEAT and CONCAT
		drop: []string{"attn_q.weight", "attn_k.weight", "attn_v.weight"},
		add: map[string][]int64{"blk.*.attn_q_a.weight": {64, 24}, "blk.*.attn_q_a_norm.weight": {24}, "blk.*.attn_q_b.weight": {24, 64},
			"blk.*.attn_kv_a_mqa.weight": {64, 24}, "blk.*.attn_kv_a_norm.weight": {16}, "blk.*.attn_kv_b.weight": {16, 96}},
		keys:      map[string]any{"minicpm3.attention.q_lora_rank": uint32(24), "minicpm3.attention.kv_lora_rank": uint32(16), "minicpm3.rope.dimension_count": uint32(8)},
		unadapted: []string{"attn_q_", "attn_kv_"}},
}

// write makes the variant's file.
func (v variant) write(t *testing.T) string {
	t.Helper()
	f, err := gguf.Open(testmodel.Path(t, v.of))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := gguf.NewBuilder()
	for _, kv := range f.KVs() {
		if name, ok := strings.CutPrefix(kv.Key, v.of.Arch+"."); ok {
			kv.Key = v.arch + "." + name
		}
		b.Set(kv.Key, kv.Value)
	}
	b.Set("general.architecture", v.arch)
	for _, name := range slices.Sorted(maps.Keys(v.keys)) {
		b.Set(name, v.keys[name])
	}
	for _, tensor := range f.Tensors() {
		if !slices.ContainsFunc(v.drop, func(end string) bool { return strings.HasSuffix("."+tensor.Name, "."+end) }) {
			b.CopyTensor(f, tensor.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.add)) {
		addTensor(b, name, v.add[name], max(v.of.Layers, 2))
	}
	path := filepath.Join(t.TempDir(), v.arch+".gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// addTensor adds random F32 tensors: norms around 1, matrices that keep the size of what passes through.
func addTensor(b *gguf.Builder, name string, shape []int64, layers int) {
	n := 1
	for _, m := range shape {
		n *= int(m)
	}
	for i := range layers {
		v := noise(n, float64(i+len(name)))
		for k := range v {
			switch {
			case len(shape) > 1:
				v[k] /= float32(math.Sqrt(float64(shape[0])))
			case strings.HasSuffix(name, ".weight"):
				v[k] = 1 + v[k]*0.1
			default:
				v[k] *= 0.1
			}
		}
		one := strings.Replace(name, "*", fmt.Sprint(i), 1)
		b.AddTensor(one, gguf.TypeF32, shape, f32Bytes(v))
		if one == name {
			return
		}
	}
}

func f32Bytes(v []float32) []byte {
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return raw
}

func TestVariantsOfTinyModels(t *testing.T) {
	for _, v := range variants {
		t.Run(v.arch, func(t *testing.T) {
			path := v.write(t)
			checkLogits(t, v.arch, path)
			for _, method := range formulas {
				checkModel(t, path, method, false, v.unadapted...)
			}
		})
	}
}

// A router chooses experts by the data, which no rule differentiates.
func TestMixtureOfExpertsIsUnsupported(t *testing.T) {
	moe := variant{arch: "llama", of: tinySpec("llama"),
		drop: []string{"ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"},
		add: map[string][]int64{"blk.*.ffn_gate_inp.weight": {64, 4}, "blk.*.ffn_gate_exps.weight": {64, 96, 4},
			"blk.*.ffn_up_exps.weight": {64, 96, 4}, "blk.*.ffn_down_exps.weight": {96, 64, 4}},
		keys: map[string]any{"llama.expert_count": uint32(4), "llama.expert_used_count": uint32(2)}}
	path := moe.write(t)
	weights := allLinear(t, path, adapter.MethodLoRA, 4)
	_, err := New(loadModel(t, path), weights, Options{Shape: Shape{Ctx: 8, Seqs: 1}, Threads: 1})
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) {
		t.Fatalf("New = %v, want an *UnsupportedError", err)
	}
	t.Log(err)
	if unsupported.Arch != "llama" || unsupported.Op != "GET_ROWS" || unsupported.Node != "ffn_moe_weights-0" {
		t.Errorf("New = %v, want one that names llama, GET_ROWS and ffn_moe_weights-0", err)
	}
}

// llama.cpp would end the process.
func TestWeightThatLlamaCannotAdaptIsUnsupported(t *testing.T) {
	i := slices.IndexFunc(variants, func(v variant) bool { return v.arch == "glm4" })
	path := variants[i].write(t)
	_, err := New(loadModel(t, path), allLinear(t, path, adapter.MethodLoRA, 4), Options{Shape: Shape{Ctx: 8, Seqs: 1}, Threads: 1})
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) || unsupported.Arch != "glm4" || !strings.Contains(unsupported.Node, ".weight") {
		t.Errorf("New = %v, want an *UnsupportedError that names glm4 and a weight", err)
	}
}

func TestOperationWithoutRuleIsUnsupported(t *testing.T) {
	ctx, err := ggml.NewContext(16, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	r := newRewriter("test", Shape{Ctx: 4, Seqs: 1}, ctx, products{}, trained{})
	x := ctx.NewTensor(ggml.F32, 4)
	r.needs[x] = true
	y := r.add(ctx.Log(x).SetName("logarithm"))
	s := &sweep{rewriter: r, grads: map[ggml.Tensor]ggml.Tensor{y: ctx.NewTensor(ggml.F32, 4)}}
	want := UnsupportedError{Arch: "test", Op: "LOG", Node: "logarithm", Why: "the operation has no derivative rule"}
	var got *UnsupportedError
	if err := s.backward(); !errors.As(err, &got) || *got != want {
		t.Errorf("backward() = %v, want %v", err, &want)
	}
}
