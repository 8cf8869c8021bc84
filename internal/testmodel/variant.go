package testmodel

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"finetune/gguf"
	"finetune/newmodel"
)

// Variant is an architecture whose tensors are nearly those of another one: a model of
// the latter with tensors dropped, tensors added and keys added.
type Variant struct {
	Name string // for people and tests; one architecture can have several
	Arch string // general.architecture
	Of   Spec
	Drop []string           // names, without "blk.N."
	Add  map[string][]int64 // shapes, fastest dimension first; "blk.*" is every block, vocab the number of tokens. F32 always
	Keys map[string]any

	Experts     bool     // the graph chooses among experts by what it computes
	Unadapted   []string // parts of names of weights that llama.cpp multiplies without asking for an adapter
	Unconverted bool     // package convert has no names for its matrices
}

// Variants returns architectures beside those of [Architectures], in a size of 64 wide,
// with 4 heads that share 2 keys where the architecture can.
func Variants() []Variant { return slices.Clone(variants) }

// vocab stands in a shape for the number of tokens.
const vocab = -1

var (
	likeLlama = Spec{Arch: "llama"}
	likeGPT2  = Spec{Arch: "gpt2", HeadsKV: 4}
)

// variants by what only they have.
var variants = []Variant{
	{Name: "mixtral", Arch: "llama", Of: likeLlama, Experts: true,
		Drop: []string{"ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"},
		Add: map[string][]int64{"blk.*.ffn_gate_inp.weight": {64, 4}, "blk.*.ffn_gate_exps.weight": {64, 96, 4},
			"blk.*.ffn_up_exps.weight": {64, 96, 4}, "blk.*.ffn_down_exps.weight": {96, 64, 4}},
		Keys: map[string]any{"llama.expert_count": uint32(4), "llama.expert_used_count": uint32(2)}},
	{Name: "qwen3moe", Arch: "qwen3moe", Of: Spec{Arch: "qwen3"}, Experts: true,
		Drop: []string{"ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"},
		Add: map[string][]int64{"blk.*.ffn_gate_inp.weight": {64, 4}, "blk.*.ffn_gate_exps.weight": {64, 32, 4},
			"blk.*.ffn_up_exps.weight": {64, 32, 4}, "blk.*.ffn_down_exps.weight": {32, 64, 4}},
		Keys: map[string]any{"qwen3moe.expert_count": uint32(4), "qwen3moe.expert_used_count": uint32(2),
			"qwen3moe.expert_feed_forward_length": uint32(32)}},
	{Name: "phi2 with three projections", Arch: "phi2", Of: Spec{Arch: "phi2", HeadsKV: 4},
		Drop: []string{"attn_qkv.weight", "attn_qkv.bias"},
		Add: map[string][]int64{"blk.*.attn_q.weight": {64, 64}, "blk.*.attn_k.weight": {64, 64}, "blk.*.attn_v.weight": {64, 64},
			"blk.*.attn_q.bias": {64}, "blk.*.attn_k.bias": {64}, "blk.*.attn_v.bias": {64}}},
	{Name: "bloom", Arch: "bloom", Of: likeGPT2, // ALiBi, a norm of the embeddings
		Drop: []string{"position_embd.weight"},
		Add:  map[string][]int64{"token_embd_norm.weight": {64}, "token_embd_norm.bias": {64}}},
	{Name: "mpt", Arch: "mpt", Of: likeGPT2, // ALiBi, clamped Q, K and V
		Drop: []string{"position_embd.weight"},
		Keys: map[string]any{"mpt.attention.clamp_kqv": float32(0.9), "mpt.attention.max_alibi_bias": float32(8)}},
	{Name: "refact", Arch: "refact", Of: likeLlama, Unconverted: true}, // ALiBi with SwiGLU
	{Name: "starcoder", Arch: "starcoder", Of: Spec{Arch: "gpt2", HeadsKV: 1}},
	{Name: "gptneox", Arch: "gptneox", Of: likeGPT2, // both residuals at once, of different norms
		Drop: []string{"position_embd.weight"},
		Keys: map[string]any{"gptneox.use_parallel_residual": true, "gptneox.rope.dimension_count": uint32(8)}},
	{Name: "nemotron", Arch: "nemotron", Of: Spec{Arch: "starcoder2"}},               // ReLU²
	{Name: "arcee", Arch: "arcee", Of: likeLlama, Drop: []string{"ffn_gate.weight"}}, // ReLU² with RMSNorm
	{Name: "olmo", Arch: "olmo", Of: likeLlama, // norms without weights
		Drop: []string{"attn_norm.weight", "ffn_norm.weight", "output_norm.weight"},
		Keys: map[string]any{"olmo.attention.layer_norm_epsilon": float32(1e-5), "olmo.attention.clamp_kqv": float32(0.9)}},
	{Name: "olmo2", Arch: "olmo2", Of: Spec{Arch: "llama", HeadsKV: 4}, // norms after the blocks, and of all of q and k
		Drop: []string{"attn_norm.weight", "ffn_norm.weight"},
		Add: map[string][]int64{"blk.*.attn_q_norm.weight": {64}, "blk.*.attn_k_norm.weight": {64},
			"blk.*.post_attention_norm.weight": {64}, "blk.*.post_ffw_norm.weight": {64}}},
	{Name: "command-r", Arch: "command-r", Of: likeLlama, // scaled logits
		Drop: []string{"ffn_norm.weight", "output.weight"},
		Keys: map[string]any{"command-r.attention.layer_norm_epsilon": float32(1e-5), "command-r.logit_scale": float32(0.5)}},
	{Name: "cohere2", Arch: "cohere2", Of: Spec{Arch: "llama", Layers: 4}, // windows, but in every fourth layer
		Drop: []string{"ffn_norm.weight", "output.weight"},
		Keys: map[string]any{"cohere2.attention.layer_norm_epsilon": float32(1e-5), "cohere2.logit_scale": float32(0.5),
			"cohere2.attention.sliding_window": uint32(8)}},
	{Name: "gemma3", Arch: "gemma3", Of: Spec{Arch: "gemma2", Layers: 6, Ctx: 32}, // windows, but in every sixth layer; norms of q and k
		Add: map[string][]int64{"blk.*.attn_q_norm.weight": {16}, "blk.*.attn_k_norm.weight": {16}}},
	{Name: "apertus", Arch: "apertus", Of: likeLlama, // xIELU
		Drop: []string{"ffn_gate.weight"},
		Add:  map[string][]int64{"blk.*.attn_q_norm.weight": {16}, "blk.*.attn_k_norm.weight": {16}},
		Keys: map[string]any{"xielu.alpha_n": []float32{0.3, 0.4}, "xielu.alpha_p": []float32{0.8, 0.7},
			"xielu.beta": []float32{0.5, 0.5}, "xielu.eps": []float32{-1e-6, -1e-6}}},
	{Name: "qwen2vl", Arch: "qwen2vl", Of: Spec{Arch: "qwen2"}, Unconverted: true, // four positions a token
		Keys: map[string]any{"qwen2vl.rope.dimension_sections": []int32{2, 3, 3, 0}}},
	{Name: "glm4", Arch: "glm4", Of: Spec{Arch: "qwen2"}, Unconverted: true, // fused gate, norms after the blocks
		Drop: []string{"ffn_gate.weight", "ffn_up.weight"},
		Add: map[string][]int64{"blk.*.ffn_up.weight": {64, 192}, "blk.*.post_attention_norm.weight": {64},
			"blk.*.post_ffw_norm.weight": {64}}},
	{Name: "orion", Arch: "orion", Of: likeLlama, // LayerNorm with SwiGLU
		Add:  map[string][]int64{"output_norm.bias": {64}, "blk.*.attn_norm.bias": {64}, "blk.*.ffn_norm.bias": {64}},
		Keys: map[string]any{"orion.attention.layer_norm_epsilon": float32(1e-5)}},
	{Name: "granite", Arch: "granite", Of: likeLlama, // scaled residuals
		Keys: map[string]any{"granite.logit_scale": float32(2), "granite.residual_scale": float32(0.5),
			"granite.embedding_scale": float32(3), "granite.attention.scale": float32(0.2)}},
	{Name: "smollm3", Arch: "smollm3", Of: Spec{Arch: "llama", Layers: 4}}, // no rotation in every fourth layer
	{Name: "internlm2", Arch: "internlm2", Of: likeLlama},
	{Name: "xverse", Arch: "xverse", Of: likeLlama},
	{Name: "minicpm3", Arch: "minicpm3", Of: Spec{Arch: "llama", HeadsKV: 4}, Unconverted: true, // latent attention
		Drop: []string{"attn_q.weight", "attn_k.weight", "attn_v.weight"},
		Add: map[string][]int64{"blk.*.attn_q_a.weight": {64, 24}, "blk.*.attn_q_a_norm.weight": {24}, "blk.*.attn_q_b.weight": {24, 64},
			"blk.*.attn_kv_a_mqa.weight": {64, 24}, "blk.*.attn_kv_a_norm.weight": {16}, "blk.*.attn_kv_b.weight": {16, 96}},
		Keys: map[string]any{"minicpm3.attention.q_lora_rank": uint32(24), "minicpm3.attention.kv_lora_rank": uint32(16),
			"minicpm3.rope.dimension_count": uint32(8)},
		Unadapted: []string{"attn_q_", "attn_kv_"}},

	// Those of 2026.
	{Name: "qwen35", Arch: "qwen35", Of: Spec{Arch: "qwen3", Layers: 3}, // every second layer: gated delta rule
		Drop: []string{"attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight", "attn_q_norm.weight", "attn_k_norm.weight", "ffn_norm.weight"},
		Add: inBlocks(map[int]map[string][]int64{0: deltaNet, 2: deltaNet, 1: {"attn_q.weight": {64, 128}, "attn_k.weight": {64, 32},
			"attn_v.weight": {64, 32}, "attn_output.weight": {64, 64}, "attn_q_norm.weight": {16}, "attn_k_norm.weight": {16}}},
			map[string][]int64{"blk.*.post_attention_norm.weight": {64}}),
		Keys: map[string]any{"qwen35.full_attention_interval": uint32(2), "qwen35.rope.dimension_count": uint32(8),
			"qwen35.rope.dimension_sections": []int32{2, 1, 1, 0}, "qwen35.ssm.conv_kernel": uint32(4), "qwen35.ssm.inner_size": uint32(96),
			"qwen35.ssm.state_size": uint32(16), "qwen35.ssm.time_step_rank": uint32(6), "qwen35.ssm.group_count": uint32(2)}},
	{Name: "lfm2", Arch: "lfm2", Of: Spec{Arch: "qwen3", Layers: 3}, // short convolutions beside attention
		Drop: []string{"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight", "blk.0.attn_q_norm.weight",
			"blk.0.attn_k_norm.weight", "blk.2.attn_q.weight", "blk.2.attn_k.weight", "blk.2.attn_v.weight", "blk.2.attn_output.weight",
			"blk.2.attn_q_norm.weight", "blk.2.attn_k_norm.weight", "output_norm.weight"},
		Add:  inBlocks(map[int]map[string][]int64{0: shortConv, 2: shortConv}, map[string][]int64{"token_embd_norm.weight": {64}}),
		Keys: map[string]any{"lfm2.shortconv.l_cache": uint32(3), "lfm2.attention.head_count_kv": []int32{0, 2, 0}}},
	{Name: "gemma4", Arch: "gemma4", Of: likeGemma4, // a second table, K and V of the last two layers from those before
		Drop: []string{"blk.1.attn_q.weight", "blk.1.attn_k.weight", "blk.1.attn_v.weight", "blk.1.attn_output.weight",
			"blk.3.attn_q.weight", "blk.3.attn_output.weight",
			"blk.2.attn_k.weight", "blk.3.attn_k.weight", "blk.2.attn_v.weight", "blk.3.attn_v.weight",
			"blk.2.ffn_gate.weight", "blk.2.ffn_up.weight", "blk.2.ffn_down.weight",
			"blk.3.ffn_gate.weight", "blk.3.ffn_up.weight", "blk.3.ffn_down.weight"},
		Add: map[string][]int64{"per_layer_token_embd.weight": {4 * 16, vocab}, "per_layer_model_proj.weight": {64, 4 * 16},
			"per_layer_proj_norm.weight": {16}, "rope_freqs.weight": {16},
			"blk.*.inp_gate.weight": {64, 16}, "blk.*.proj.weight": {16, 64}, "blk.*.post_norm.weight": {64},
			"blk.0.layer_output_scale.weight": {1}, "blk.1.layer_output_scale.weight": {1}, // the norm undoes the last one
			"blk.1.attn_q.weight": {64, 128}, "blk.1.attn_k.weight": {64, 64}, "blk.1.attn_v.weight": {64, 64},
			"blk.1.attn_output.weight": {128, 64}, "blk.3.attn_q.weight": {64, 128}, "blk.3.attn_output.weight": {128, 64},
			"blk.0.attn_q_norm.weight": {16}, "blk.0.attn_k_norm.weight": {16}, "blk.1.attn_q_norm.weight": {32},
			"blk.1.attn_k_norm.weight": {32}, "blk.2.attn_q_norm.weight": {16}, "blk.3.attn_q_norm.weight": {32},
			"blk.2.ffn_gate.weight": {64, 192}, "blk.2.ffn_up.weight": {64, 192}, "blk.2.ffn_down.weight": {192, 64},
			"blk.3.ffn_gate.weight": {64, 192}, "blk.3.ffn_up.weight": {64, 192}, "blk.3.ffn_down.weight": {192, 64}},
		Keys: gemma4Keys(map[string]any{"gemma4.embedding_length_per_layer_input": uint32(16),
			"gemma4.attention.shared_kv_layers": uint32(2), "gemma4.feed_forward_length": []int32{96, 96, 192, 192}})},
	{Name: "gemma4 with V from K", Arch: "gemma4", Of: likeGemma4, // in the layers that see all of the context, and no second table
		Drop: []string{"blk.1.attn_q.weight", "blk.1.attn_k.weight", "blk.1.attn_v.weight", "blk.1.attn_output.weight",
			"blk.3.attn_q.weight", "blk.3.attn_k.weight", "blk.3.attn_v.weight", "blk.3.attn_output.weight"},
		Add: map[string][]int64{"rope_freqs.weight": {16}, "blk.0.layer_output_scale.weight": {1},
			"blk.1.attn_q.weight": {64, 128}, "blk.1.attn_k.weight": {64, 32}, "blk.1.attn_output.weight": {128, 64},
			"blk.3.attn_q.weight": {64, 128}, "blk.3.attn_k.weight": {64, 32}, "blk.3.attn_output.weight": {128, 64},
			"blk.0.attn_q_norm.weight": {16}, "blk.0.attn_k_norm.weight": {16}, "blk.1.attn_q_norm.weight": {32},
			"blk.1.attn_k_norm.weight": {32}, "blk.2.attn_q_norm.weight": {16}, "blk.2.attn_k_norm.weight": {16},
			"blk.3.attn_q_norm.weight": {32}, "blk.3.attn_k_norm.weight": {32}},
		Keys: gemma4Keys(map[string]any{"gemma4.embedding_length_per_layer_input": uint32(0),
			"gemma4.attention.head_count_kv": []int32{2, 1, 2, 1}})},
	{Name: "granite_swa", Arch: "granite_swa", Of: likeLlama, // granite with windows and sinks
		Add: map[string][]int64{"blk.*.attn_sinks.weight": {4}},
		Keys: map[string]any{"granite_swa.logit_scale": float32(2), "granite_swa.residual_scale": float32(0.5),
			"granite_swa.embedding_scale": float32(3), "granite_swa.attention.scale": float32(0.2),
			"granite_swa.attention.sliding_window": uint32(8), "granite_swa.attention.sliding_window_pattern": []bool{true, false}}},
	{Name: "maincoder", Arch: "maincoder", Of: Spec{Arch: "qwen3"}},
	{Name: "plamo3", Arch: "plamo3", Of: Spec{Arch: "phi3", Layers: 4}, Unconverted: true, // norms before and after the blocks, windows
		Add: map[string][]int64{"blk.*.attn_q_norm.weight": {16}, "blk.*.attn_k_norm.weight": {16},
			"blk.*.post_attention_norm": {64}, "blk.*.post_ffw_norm": {64}},
		Keys: map[string]any{"plamo3.attention.sliding_window": uint32(8), "plamo3.attention.sliding_window_pattern": uint32(2),
			"plamo3.rope.freq_base_swa": float32(1000)}},
	{Name: "jais2", Arch: "jais2", Of: Spec{Arch: "starcoder2", HeadsKV: 4}}, // ReLU² with LayerNorm
	{Name: "nanbeige", Arch: "nanbeige", Of: likeLlama, // all layers twice, a norm between
		Keys: map[string]any{"nanbeige.num_loops": uint32(2)}},
	{Name: "talkie", Arch: "talkie", Of: Spec{Arch: "llama", HeadsKV: 4}, Unconverted: true, // norms without weights, the embeddings added to each layer
		Drop: []string{"attn_norm.weight", "ffn_norm.weight", "output_norm.weight"},
		Add:  map[string][]int64{"blk.*.attn_q_norm.weight": {1, 4}, "blk.*.layer_output_scale.weight": {1}},
		Keys: map[string]any{"talkie.logit_scale": float32(0.5)}},
	{Name: "hrm_text", Arch: "hrm_text", Of: likeLlama, Unconverted: true, // two stacks of one layer each, in turns; gated attention
		Drop: []string{"attn_norm.weight", "ffn_norm.weight", "output_norm.weight"},
		Add:  map[string][]int64{"hrm.z_l_init": {64}, "blk.*.attn_gate.weight": {64, 64}},
		Keys: map[string]any{"hrm_text.block_count": uint32(6), "hrm_text.hrm.layers_per_stack": uint32(1),
			"hrm_text.hrm.h_cycles": uint32(2), "hrm_text.hrm.l_cycles": uint32(2), "hrm_text.embedding_scale": float32(3)}},
	{Name: "spark2_5", Arch: "spark2_5", Of: likeLlama, Unconverted: true, // a gate for each head
		Add: map[string][]int64{"blk.*.attn_gate.weight": {64, 4}},
		Keys: map[string]any{"spark2_5.attention.sliding_window": uint32(8), "spark2_5.attention.sliding_window_pattern": []bool{true, false},
			"spark2_5.rope.freq_base_swa": float32(1000)}},
	{Name: "muse-glimmer", Arch: "muse-glimmer", Of: Spec{Arch: "qwen3", Layers: 4, Seed: 1}, // gated attention, norms after the blocks
		Add: map[string][]int64{"blk.*.attn_gate.weight": {64, 64}, "blk.*.post_attention_norm.weight": {64}, "blk.*.post_ffw_norm.weight": {64}},
		Keys: map[string]any{"muse-glimmer.logit_scale": float32(0.5), "muse-glimmer.final_logit_softcapping": float32(30),
			"muse-glimmer.attention.sliding_window": uint32(8)}},
	{Name: "hunyuan_vl", Arch: "hunyuan_vl", Of: Spec{Arch: "qwen3"}, // norms behind the rotation, four positions a token
		Keys: map[string]any{"hunyuan_vl.rope.dimension_sections": []int32{2, 3, 3, 0}}},
	{Name: "hunyuan-dense", Arch: "hunyuan-dense", Of: Spec{Arch: "qwen3"}},
}

// likeGemma4 has every other layer see all of the context, with heads twice as wide.
var likeGemma4 = Spec{Arch: "gemma2", Layers: 4, Ctx: 32}

// gemma4Keys adds keys to those that every Gemma 4 has.
func gemma4Keys(more map[string]any) map[string]any {
	keys := map[string]any{"gemma4.attention.key_length": uint32(32), "gemma4.attention.value_length": uint32(32),
		"gemma4.attention.key_length_swa": uint32(16), "gemma4.attention.value_length_swa": uint32(16),
		"gemma4.rope.dimension_count": uint32(32), "gemma4.rope.dimension_count_swa": uint32(16), "gemma4.rope.freq_base_swa": float32(1000),
		"gemma4.attention.sliding_window": uint32(8), "gemma4.attention.sliding_window_pattern": []bool{true, false, true, false}}
	maps.Copy(keys, more)
	return keys
}

// The layers that carry a state: 2 heads of keys and 6 of values, 16 wide; a short convolution.
var (
	deltaNet = map[string][]int64{"attn_qkv.weight": {64, 160}, "attn_gate.weight": {64, 96}, "ssm_conv1d.weight": {4, 160}, "ssm_dt.bias": {6},
		"ssm_a": {6}, "ssm_beta.weight": {64, 6}, "ssm_alpha.weight": {64, 6}, "ssm_norm.weight": {16}, "ssm_out.weight": {96, 64}}
	shortConv = map[string][]int64{"shortconv.conv.weight": {3, 64}, "shortconv.in_proj.weight": {64, 192}, "shortconv.out_proj.weight": {64, 64}}
)

// inBlocks adds the tensors of single blocks to those of all.
func inBlocks(blocks map[int]map[string][]int64, all map[string][]int64) map[string][]int64 {
	for i, tensors := range blocks {
		for name, shape := range tensors {
			all[fmt.Sprintf("blk.%d.%s", i, name)] = shape
		}
	}
	return all
}

// Write writes the variant to path.
func (v Variant) Write(path string) error {
	dir, err := os.MkdirTemp("", "testmodel")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	of := v.Of.withDefaults()
	plain := filepath.Join(dir, "of.gguf")
	if err := Write(plain, of); err != nil {
		return err
	}
	f, err := gguf.Open(plain)
	if err != nil {
		return err
	}
	defer f.Close()
	b := gguf.NewBuilder()
	for _, kv := range f.KVs() {
		if name, ok := strings.CutPrefix(kv.Key, of.Arch+"."); ok {
			kv.Key = v.Arch + "." + name
		}
		b.Set(kv.Key, kv.Value)
	}
	b.Set("general.architecture", v.Arch)
	b.Set("general.name", "testmodel "+v.Name)
	for _, name := range slices.Sorted(maps.Keys(v.Keys)) {
		b.Set(name, v.Keys[name])
	}
	for _, t := range f.Tensors() {
		if !slices.ContainsFunc(v.Drop, func(end string) bool { return strings.HasSuffix("."+t.Name, "."+end) }) {
			b.CopyTensor(f, t.Name)
		}
	}
	table, _ := f.Tensor("token_embd.weight")
	for _, name := range slices.Sorted(maps.Keys(v.Add)) {
		v.add(b, name, of, table.Shape[1])
	}
	return b.WriteFile(path)
}

// add adds a tensor, or one for each block, with the numbers of any other of that name and shape.
func (v Variant) add(b *gguf.Builder, name string, of Spec, tokens int64) {
	for i := range of.Layers {
		t := newmodel.Tensor{Name: strings.Replace(name, "*", fmt.Sprint(i), 1), Type: gguf.TypeF32, Shape: slices.Clone(v.Add[name])}
		if at := slices.Index(t.Shape, vocab); at >= 0 {
			t.Shape[at] = tokens
		}
		b.AddTensorFunc(t.Name, t.Type, t.Shape, func(w io.Writer) error {
			next, values := draw(t, of), make([]float32, t.Elements())
			for i := range values {
				values[i] = float32(next())
			}
			return binary.Write(w, binary.LittleEndian, values)
		})
		if t.Name == name {
			return
		}
	}
}
