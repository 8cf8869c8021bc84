// Package oracle holds converted adapters against llama.cpp: what a model with the
// adapter computes equals what it computes with W + scale·B·A in its weights. It is a
// package of its own, so that the tests of convert need no native code.
package oracle

import (
	"fmt"
	"slices"
	"strings"
)

// weight is a matrix of a transformers model: out rows of in.
type weight struct {
	in, out int
	v       []float32
}

// reshaped returns the numbers of an array after a transposition of its axes, as numpy
// does it: reshape(shape).transpose(perm).ravel().
func reshaped(v []float32, shape, perm []int) []float32 {
	strides, n := make([]int, len(shape)), 1
	for i := len(shape) - 1; i >= 0; i-- {
		strides[i], n = n, n*shape[i]
	}
	if n != len(v) {
		panic(fmt.Sprintf("reshape of %d numbers to %v", len(v), shape))
	}
	out, index := make([]float32, 0, n), make([]int, len(shape))
	for range n {
		at := 0
		for i, p := range perm {
			at += index[i] * strides[p]
		}
		out = append(out, v[at])
		for i := len(perm) - 1; i >= 0; i-- {
			if index[i]++; index[i] < shape[perm[i]] {
				break
			}
			index[i] = 0
		}
	}
	return out
}

// permute is LlamaModel.permute of llama.cpp's convert_hf_to_gguf.py:
// weights.reshape(n_head, 2, rows // n_head // 2, cols).swapaxes(1, 2)
func permute(w weight, heads int) []float32 {
	return reshaped(w.v, []int{heads, 2, w.out / heads / 2, w.in}, []int{0, 2, 1, 3})
}

// byHead is what its GPTNeoXModel and BloomModel do to query_key_value:
// reshape(n_head, 3, head_dim, cols), then all of q, all of k, all of v.
func byHead(w weight, heads int) []float32 {
	return reshaped(w.v, []int{heads, 3, w.out / heads / 3, w.in}, []int{1, 0, 2, 3})
}

// groups is view(n_head_kv, n_head // n_head_kv + 2, head_dim, cols), of which q is
// [:, :-2], k [:, -2] and v [:, -1], as its FalconModel and InternLM2Model have it.
func groups(w weight, heads, kv int) (q, k, v weight) {
	d := w.out / (heads + 2*kv)
	per := heads/kv + 2
	for head := range heads + 2*kv {
		rows := w.v[head*d*w.in : (head+1)*d*w.in]
		part := &q
		switch head % per {
		case per - 2:
			part = &k
		case per - 1:
			part = &v
		}
		part.in, part.out, part.v = w.in, part.out+d, append(part.v, rows...)
	}
	return q, k, v
}

// piece says how the converter makes a tensor of modules: which, and what of them.
type piece struct {
	tensor  string   // without "blk.*." and ".weight"
	modules []string // with * and #; several are put one below the other
	make    func(w weight, heads, kv int) []float32
}

func asIs(w weight, _, _ int) []float32 { return w.v }

// one is the common case.
func one(tensor, module string) piece { return piece{tensor, []string{module}, asIs} }

// The families, in the words of transformers' model classes. This list is written by
// hand once more, apart from the one of package convert that it checks.
var (
	qPermuted = piece{"attn_q", []string{"model.layers.*.self_attn.q_proj"}, func(w weight, heads, _ int) []float32 { return permute(w, heads) }}
	kPermuted = piece{"attn_k", []string{"model.layers.*.self_attn.k_proj"}, func(w weight, _, kv int) []float32 { return permute(w, kv) }}

	outside = []piece{one("token_embd", "model.embed_tokens"), one("output", "lm_head")}
	vAndO   = []piece{one("attn_v", "model.layers.*.self_attn.v_proj"), one("attn_output", "model.layers.*.self_attn.o_proj")}
	mlp     = []piece{one("ffn_gate", "model.layers.*.mlp.gate_proj"), one("ffn_up", "model.layers.*.mlp.up_proj"), one("ffn_down", "model.layers.*.mlp.down_proj")}
	qAndK   = []piece{one("attn_q", "model.layers.*.self_attn.q_proj"), one("attn_k", "model.layers.*.self_attn.k_proj")}

	like     = slices.Concat(outside, qAndK, vAndO, mlp)
	permuted = slices.Concat(outside, []piece{qPermuted, kPermuted}, vAndO, mlp)
)

// transformerH is the naming of GPT-2 and its kin.
func transformerH(embeddings, qkv, dense, up, down string, shape func(w weight, heads, kv int) []float32) []piece {
	const h = "transformer.h.*."
	return []piece{one("token_embd", "transformer."+embeddings), one("output", "lm_head"), {"attn_qkv", []string{h + qkv}, shape},
		one("attn_output", h+dense), one("ffn_up", h+up), one("ffn_down", h+down)}
}

func byHeadOf(w weight, heads, _ int) []float32 { return byHead(w, heads) }

func byGroupOf(w weight, heads, kv int) []float32 {
	q, k, v := groups(w, heads, kv)
	return slices.Concat(q.v, k.v, v.v)
}

// vHeads is _reorder_v_heads of the converter, over rows of n heads of v, 3 for each of 2 heads of k:
// reshape(k heads, v heads of each, head_dim, …).permute(1, 0, 2, …)
func vHeads(w weight) []float32 {
	return reshaped(w.v, []int{2, 3, w.out / 6, w.in}, []int{1, 0, 2, 3})
}

// gatedDelta are the modules around the state of a Qwen3.5: 2 heads of q and k, 6 of v. in_proj_qkv has its v reordered,
// out_proj its columns.
var gatedDelta = []piece{
	{"attn_qkv", []string{"model.layers.*.linear_attn.in_proj_qkv"}, func(w weight, _, _ int) []float32 {
		qk := w.out * 4 / 10 * w.in
		return slices.Concat(w.v[:qk], vHeads(weight{w.in, w.out - w.out*4/10, w.v[qk:]}))
	}},
	{"attn_gate", []string{"model.layers.*.linear_attn.in_proj_z"}, func(w weight, _, _ int) []float32 { return vHeads(w) }},
	{"ssm_beta", []string{"model.layers.*.linear_attn.in_proj_b"}, func(w weight, _, _ int) []float32 { return vHeads(w) }},
	{"ssm_alpha", []string{"model.layers.*.linear_attn.in_proj_a"}, func(w weight, _, _ int) []float32 { return vHeads(w) }},
	{"ssm_out", []string{"model.layers.*.linear_attn.out_proj"}, func(w weight, _, _ int) []float32 {
		return reshaped(w.v, []int{w.out, 2, 3, w.in / 6}, []int{0, 2, 1, 3})
	}},
}

// families by the names of the tiny models; what is not here is "like" Llama without
// the permutation.
var families = map[string][]piece{
	"llama": permuted, "granite": permuted, "smollm3": permuted, "olmo": permuted, "xverse": permuted, "arcee": permuted,
	"granite_swa": permuted, "nanbeige": permuted,
	"muse-glimmer": slices.Concat(permuted, []piece{one("attn_gate", "model.layers.*.self_attn.gate_proj")}),
	"gemma4":       slices.Concat(like, []piece{one("inp_gate", "model.layers.*.per_layer_input_gate"), one("proj", "model.layers.*.per_layer_projection")}),
	"mixtral": slices.Concat(permuted, []piece{
		one("ffn_gate_inp", "model.layers.*.block_sparse_moe.gate"),
		one("ffn_gate_exps", "model.layers.*.block_sparse_moe.experts.#.w1"),
		one("ffn_down_exps", "model.layers.*.block_sparse_moe.experts.#.w2"),
		one("ffn_up_exps", "model.layers.*.block_sparse_moe.experts.#.w3")}),
	"qwen35": slices.Concat(like, gatedDelta),
	"lfm2": slices.Concat(outside, qAndK, []piece{one("attn_v", "model.layers.*.self_attn.v_proj"), one("attn_output", "model.layers.*.self_attn.out_proj"),
		one("shortconv.in_proj", "model.layers.*.conv.in_proj"), one("shortconv.out_proj", "model.layers.*.conv.out_proj"),
		one("ffn_gate", "model.layers.*.feed_forward.w1"), one("ffn_up", "model.layers.*.feed_forward.w3"), one("ffn_down", "model.layers.*.feed_forward.w2")}),
	"qwen3moe": slices.Concat(like, []piece{
		one("ffn_gate_inp", "model.layers.*.mlp.gate"),
		one("ffn_gate_exps", "model.layers.*.mlp.experts.#.gate_proj"),
		one("ffn_down_exps", "model.layers.*.mlp.experts.#.down_proj"),
		one("ffn_up_exps", "model.layers.*.mlp.experts.#.up_proj")}),
	"starcoder2": slices.Concat(outside, qAndK, vAndO, []piece{one("ffn_up", "model.layers.*.mlp.c_fc"), one("ffn_down", "model.layers.*.mlp.c_proj")}),
	"phi3": slices.Concat(outside, []piece{one("attn_qkv", "model.layers.*.self_attn.qkv_proj"), one("attn_output", "model.layers.*.self_attn.o_proj"),
		one("ffn_up", "model.layers.*.mlp.gate_up_proj"), one("ffn_down", "model.layers.*.mlp.down_proj")}),
	"phi2": slices.Concat(outside, phiRest, []piece{{"attn_qkv", []string{
		"model.layers.*.self_attn.q_proj", "model.layers.*.self_attn.k_proj", "model.layers.*.self_attn.v_proj"}, asIs}}),
	"phi2 with three projections": slices.Concat(outside, phiRest, qAndK, []piece{one("attn_v", "model.layers.*.self_attn.v_proj")}),
	"internlm2": {one("token_embd", "model.tok_embeddings"), one("output", "output"),
		{"attn_q", []string{wqkv}, func(w weight, heads, kv int) []float32 { q, _, _ := groups(w, heads, kv); return permute(q, heads) }},
		{"attn_k", []string{wqkv}, func(w weight, heads, kv int) []float32 { _, k, _ := groups(w, heads, kv); return permute(k, kv) }},
		{"attn_v", []string{wqkv}, func(w weight, heads, kv int) []float32 { _, _, v := groups(w, heads, kv); return v.v }},
		one("attn_output", "model.layers.*.attention.wo"), one("ffn_gate", "model.layers.*.feed_forward.w1"),
		one("ffn_down", "model.layers.*.feed_forward.w2"), one("ffn_up", "model.layers.*.feed_forward.w3")},
	"gpt2":      transformerH("wte", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj", asIs),
	"starcoder": transformerH("wte", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj", asIs),
	"bloom":     transformerH("word_embeddings", "self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", byHeadOf),
	"falcon":    transformerH("word_embeddings", "self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", byGroupOf),
	"gptneox": {one("token_embd", "gpt_neox.embed_in"), one("output", "embed_out"),
		{"attn_qkv", []string{"gpt_neox.layers.*.attention.query_key_value"}, byHeadOf}, one("attn_output", "gpt_neox.layers.*.attention.dense"),
		one("ffn_up", "gpt_neox.layers.*.mlp.dense_h_to_4h"), one("ffn_down", "gpt_neox.layers.*.mlp.dense_4h_to_h")},
	"mpt": {one("token_embd", "transformer.wte"), one("output", "lm_head"),
		one("attn_qkv", "transformer.blocks.*.attn.Wqkv"), one("attn_output", "transformer.blocks.*.attn.out_proj"),
		one("ffn_up", "transformer.blocks.*.ffn.up_proj"), one("ffn_down", "transformer.blocks.*.ffn.down_proj")},
}

var phiRest = []piece{one("attn_output", "model.layers.*.self_attn.dense"), one("ffn_up", "model.layers.*.mlp.fc1"), one("ffn_down", "model.layers.*.mlp.fc2")}

const wqkv = "model.layers.*.attention.wqkv"

func family(name string) []piece {
	if f, ok := families[name]; ok {
		return f
	}
	return like
}

// fill puts the numbers of a layer and an expert into a name.
func fill(name string, layer, expert int) string {
	return strings.NewReplacer("*", fmt.Sprint(layer), "#", fmt.Sprint(expert)).Replace(name)
}
