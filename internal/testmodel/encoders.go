package testmodel

import (
	"path/filepath"
	"slices"
)

// Encoders returns architectures that attend in both directions and predict no token: what they end with is a state for each
// token. They are 64 wide, with 4 heads.
func Encoders() []Variant { return slices.Clone(encoders) }

// EncoderPath writes one of them by its name into a folder of the test and returns its path.
func EncoderPath(t test, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "encoder.gguf")
	i := slices.IndexFunc(encoders, func(v Variant) bool { return v.Name == name })
	if i < 0 {
		t.Fatal("there is no encoder " + name)
	}
	if err := encoders[i].Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// decoderOnly are tensors of decoders that no encoder has; gptBiases and gptNorms those of gpt2 that some have not.
var (
	gptNorms  = []string{"attn_norm.weight", "attn_norm.bias", "ffn_norm.weight", "ffn_norm.bias", "output_norm.weight", "output_norm.bias", "output.weight"}
	gptBiases = []string{"attn_qkv.bias", "attn_output.bias", "ffn_up.bias", "ffn_down.bias"}
	bertNorms = map[string][]int64{"token_types.weight": {64, 2}, "token_embd_norm.weight": {64}, "token_embd_norm.bias": {64},
		"blk.*.attn_output_norm.weight": {64}, "blk.*.attn_output_norm.bias": {64},
		"blk.*.layer_output_norm.weight": {64}, "blk.*.layer_output_norm.bias": {64}}
)

// encoderKeys are the keys of an architecture that pools by the mean, and others.
func encoderKeys(arch string, others map[string]any) map[string]any {
	keys := map[string]any{arch + ".attention.causal": false, arch + ".pooling_type": uint32(1), "tokenizer.ggml.token_type_count": uint32(2)}
	for name, value := range others {
		keys[arch+"."+name] = value
	}
	return keys
}

// with returns the shapes of both tables.
func with(a, b map[string][]int64) map[string][]int64 {
	all := map[string][]int64{}
	for _, m := range []map[string][]int64{a, b} {
		for name, shape := range m {
			all[name] = shape
		}
	}
	return all
}

// encoders by what only they have.
var encoders = []Variant{
	{Name: "bert", Arch: "bert", Of: likeGPT2, Drop: gptNorms, Add: bertNorms, Keys: encoderKeys("bert", nil)}, // norms after the sums
	{Name: "bert with three projections", Arch: "bert", Of: likeGPT2, Drop: slices.Concat(gptNorms, []string{"attn_qkv.weight", "attn_qkv.bias"}),
		Add: with(bertNorms, map[string][]int64{"blk.*.attn_q.weight": {64, 64}, "blk.*.attn_k.weight": {64, 64}, "blk.*.attn_v.weight": {64, 64},
			"blk.*.attn_q.bias": {64}, "blk.*.attn_k.bias": {64}, "blk.*.attn_v.bias": {64}}),
		Keys: encoderKeys("bert", map[string]any{"pooling_type": uint32(2)})}, // the first token
	{Name: "nomic-bert", Arch: "nomic-bert", Of: likeGPT2, // rotation, SwiGLU
		Drop: slices.Concat(gptNorms, gptBiases, []string{"position_embd.weight"}),
		Add:  with(bertNorms, map[string][]int64{"blk.*.ffn_gate.weight": {64, 96}}), Keys: encoderKeys("nomic-bert", nil)},
	{Name: "jina-bert-v2", Arch: "jina-bert-v2", Of: likeGPT2, // ALiBi in both directions
		Drop: slices.Concat(gptNorms, []string{"position_embd.weight"}),
		Add:  with(bertNorms, map[string][]int64{"blk.*.ffn_gate.weight": {64, 96}}), Keys: encoderKeys("jina-bert-v2", nil)},
	{Name: "jina-bert-v3", Arch: "jina-bert-v3", Of: likeGPT2, Drop: slices.Concat(gptNorms, []string{"position_embd.weight"}), Add: bertNorms, // rotation
		Keys: encoderKeys("jina-bert-v3", nil)},
	{Name: "modern-bert", Arch: "modern-bert", Of: Spec{Arch: "gpt2", HeadsKV: 4, Layers: 3}, // windows to both sides, but in every third layer
		Drop: slices.Concat(gptBiases, []string{"position_embd.weight", "attn_norm.bias", "ffn_norm.bias", "output_norm.bias", "output.weight",
			"ffn_up.weight", "blk.0.attn_norm.weight"}),
		Add:  map[string][]int64{"token_embd_norm.weight": {64}, "blk.*.ffn_up.weight": {64, 192}},
		Keys: encoderKeys("modern-bert", map[string]any{"attention.sliding_window": uint32(8)})},
	{Name: "eurobert", Arch: "eurobert", Of: likeLlama, Drop: []string{"output.weight"}, Keys: encoderKeys("eurobert", nil)},
	{Name: "neo-bert", Arch: "neo-bert", Of: Spec{Arch: "llama", HeadsKV: 4}, // fused projections and gate
		Drop: []string{"output.weight", "output_norm.weight", "attn_q.weight", "attn_k.weight", "attn_v.weight", "ffn_gate.weight", "ffn_up.weight"},
		Add:  map[string][]int64{"enc.output_norm.weight": {64}, "blk.*.attn_qkv.weight": {64, 192}, "blk.*.ffn_up.weight": {64, 192}},
		Keys: encoderKeys("neo-bert", nil)},
	{Name: "gemma-embedding", Arch: "gemma-embedding", Of: Spec{Arch: "gemma2", Layers: 6, Ctx: 32}, // windows to both sides, but in every sixth layer
		Add: map[string][]int64{"blk.*.attn_q_norm.weight": {16}, "blk.*.attn_k_norm.weight": {16}}, Keys: encoderKeys("gemma-embedding", nil)},
}
