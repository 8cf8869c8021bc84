package convert

// architecture says how the weights of one general.architecture of llama.cpp are
// called, and how their rows lie, in the model class of Hugging Face transformers.
type architecture struct {
	// names has a line for each matrix that an adapter can be on: the tensor without
	// ".weight", the module, and the order of the module's rows if it is another one
	// (rows.go). "*" is the number of the layer, "#" that of the expert. Lines whose
	// tensor the base does not have do not count.
	names string

	// prefixes are what the encoder is called inside of larger models of transformers; empty for language models, whose
	// names and wrappers are those of unwrap.
	prefixes []string

	// unadapted are modules that llama.cpp multiplies, or reads, without asking for an adapter.
	unadapted []string

	conv1D bool // transformers keeps W as [in][out] there: PEFT's fan_in_fan_out

	// mlx is what to replace in a module's name for that of mlx-lm, old and new in
	// turns: nothing for most, noMLX where mlx-lm has no such model.
	mlx []string
	// mlxWrapped: mlx-lm has the language model inside a larger one, whatever the folder
	// holds.
	mlxWrapped bool
}

// noMLX stands for an architecture that mlx-lm does not have.
var noMLX = []string{"none"}

// The parts that most are made of.
const (
	embeddings = `
		token_embd            model.embed_tokens
		output                lm_head`

	attention = `
		blk.*.attn_q          model.layers.*.self_attn.q_proj
		blk.*.attn_k          model.layers.*.self_attn.k_proj
		blk.*.attn_v          model.layers.*.self_attn.v_proj
		blk.*.attn_output     model.layers.*.self_attn.o_proj`

	// Where llama.cpp rotates neighbours and transformers the halves of a head.
	pairedAttention = `
		blk.*.attn_q          model.layers.*.self_attn.q_proj     q-pairs
		blk.*.attn_k          model.layers.*.self_attn.k_proj     k-pairs
		blk.*.attn_v          model.layers.*.self_attn.v_proj
		blk.*.attn_output     model.layers.*.self_attn.o_proj`

	gatedFFN = `
		blk.*.ffn_gate        model.layers.*.mlp.gate_proj
		blk.*.ffn_up          model.layers.*.mlp.up_proj
		blk.*.ffn_down        model.layers.*.mlp.down_proj`
)

// architectures is the whole of the naming, by general.architecture.
var architectures = map[string]architecture{
	// LlamaForCausalLM, MistralForCausalLM, MixtralForCausalLM
	"llama": {
		names: embeddings + pairedAttention + gatedFFN + `
		blk.*.ffn_gate_inp    model.layers.*.block_sparse_moe.gate
		blk.*.ffn_gate_exps   model.layers.*.block_sparse_moe.experts.#.w1
		blk.*.ffn_up_exps     model.layers.*.block_sparse_moe.experts.#.w3
		blk.*.ffn_down_exps   model.layers.*.block_sparse_moe.experts.#.w2`,
		mlx: []string{
			"experts.#.w1", "switch_mlp.gate_proj", "experts.#.w3", "switch_mlp.up_proj", "experts.#.w2", "switch_mlp.down_proj"},
	},
	"qwen2": {names: embeddings + attention + gatedFFN}, // Qwen2ForCausalLM
	"qwen3": {names: embeddings + attention + gatedFFN}, // Qwen3ForCausalLM
	"qwen35": { // Qwen3_5ForCausalLM, and within the one with images; also Qwen3.6
		names: embeddings + attention + `
		blk.*.attn_qkv        model.layers.*.linear_attn.in_proj_qkv    state-qkv
		blk.*.attn_gate       model.layers.*.linear_attn.in_proj_z      state-v
		blk.*.ssm_beta        model.layers.*.linear_attn.in_proj_b      state-v
		blk.*.ssm_alpha       model.layers.*.linear_attn.in_proj_a      state-v
		blk.*.ssm_out         model.layers.*.linear_attn.out_proj       v-to-state` + gatedFFN,
		mlxWrapped: true,
	},
	"lfm2": {names: `
		token_embd            model.embed_tokens
		output                lm_head
		blk.*.attn_q          model.layers.*.self_attn.q_proj
		blk.*.attn_k          model.layers.*.self_attn.k_proj
		blk.*.attn_v          model.layers.*.self_attn.v_proj
		blk.*.attn_output     model.layers.*.self_attn.out_proj
		blk.*.shortconv.in_proj   model.layers.*.conv.in_proj
		blk.*.shortconv.out_proj  model.layers.*.conv.out_proj
		blk.*.ffn_gate        model.layers.*.feed_forward.w1
		blk.*.ffn_up          model.layers.*.feed_forward.w3
		blk.*.ffn_down        model.layers.*.feed_forward.w2`}, // Lfm2ForCausalLM
	"qwen3moe": { // Qwen3MoeForCausalLM
		names: embeddings + attention + `
		blk.*.ffn_gate_inp    model.layers.*.mlp.gate
		blk.*.ffn_gate_exps   model.layers.*.mlp.experts.#.gate_proj
		blk.*.ffn_up_exps     model.layers.*.mlp.experts.#.up_proj
		blk.*.ffn_down_exps   model.layers.*.mlp.experts.#.down_proj`,
		mlx: []string{"experts.#.", "switch_mlp."},
	},
	"gemma":     {names: embeddings + attention + gatedFFN},                   // GemmaForCausalLM
	"gemma2":    {names: embeddings + attention + gatedFFN},                   // Gemma2ForCausalLM
	"gemma3":    {names: embeddings + attention + gatedFFN},                   // Gemma3ForCausalLM, and within the one with images
	"command-r": {names: embeddings + attention + gatedFFN},                   // CohereForCausalLM
	"cohere2":   {names: embeddings + attention + gatedFFN},                   // Cohere2ForCausalLM
	"olmo":      {names: embeddings + pairedAttention + gatedFFN, mlx: noMLX}, // OlmoForCausalLM
	"olmo2":     {names: embeddings + attention + gatedFFN},                   // Olmo2ForCausalLM
	"granite":   {names: embeddings + pairedAttention + gatedFFN},             // GraniteForCausalLM
	"smollm3":   {names: embeddings + pairedAttention + gatedFFN},             // SmolLM3ForCausalLM
	"stablelm":  {names: embeddings + attention + gatedFFN},                   // StableLmForCausalLM
	"orion":     {names: embeddings + attention + gatedFFN, mlx: noMLX},       // OrionForCausalLM
	"xverse":    {names: embeddings + pairedAttention + gatedFFN, mlx: noMLX}, // XverseForCausalLM
	"arcee":     {names: embeddings + pairedAttention + gatedFFN, mlx: noMLX}, // ArceeForCausalLM, without a gate
	"nemotron":  {names: embeddings + attention + gatedFFN},                   // NemotronForCausalLM, without a gate
	"apertus":   {names: embeddings + attention + gatedFFN},                   // ApertusForCausalLM, without a gate
	// Gemma4ForCausalLM, and within the one with images and sound
	"gemma4": {unadapted: []string{"model.per_layer_model_projection", "model.embed_tokens_per_layer"}, names: embeddings + attention + gatedFFN + `
		blk.*.inp_gate        model.layers.*.per_layer_input_gate
		blk.*.proj            model.layers.*.per_layer_projection`},
	"granite_swa":   {names: embeddings + pairedAttention + gatedFFN, mlx: noMLX}, // GraniteSWAForCausalLM
	"hunyuan-dense": {names: embeddings + attention + gatedFFN},                   // HunYuanDenseV1ForCausalLM
	"hunyuan_vl":    {names: embeddings + attention + gatedFFN, mlx: noMLX},       // within HunYuanVLForConditionalGeneration
	"jais2":         {names: embeddings + attention + gatedFFN, mlx: noMLX},       // Jais2ForCausalLM, without a gate
	"maincoder":     {names: embeddings + attention + gatedFFN, mlx: noMLX},       // MaincoderForCausalLM, in the model's own code
	"nanbeige":      {names: embeddings + pairedAttention + gatedFFN},             // NanbeigeForCausalLM, in the model's own code
	"muse-glimmer": {names: embeddings + pairedAttention + gatedFFN + `
		blk.*.attn_gate       model.layers.*.self_attn.gate_proj`}, // within MuseGlimmerForConditionalGeneration
	"starcoder2": {names: embeddings + attention + `
		blk.*.ffn_up          model.layers.*.mlp.c_fc
		blk.*.ffn_down        model.layers.*.mlp.c_proj`}, // Starcoder2ForCausalLM
	"phi3": {names: embeddings + `
		blk.*.attn_qkv        model.layers.*.self_attn.qkv_proj
		blk.*.attn_output     model.layers.*.self_attn.o_proj
		blk.*.ffn_up          model.layers.*.mlp.gate_up_proj
		blk.*.ffn_down        model.layers.*.mlp.down_proj`}, // Phi3ForCausalLM
	"phi2": {names: embeddings + `
		blk.*.attn_qkv        model.layers.*.self_attn.q_proj     q-of-qkv
		blk.*.attn_qkv        model.layers.*.self_attn.k_proj     k-of-qkv
		blk.*.attn_qkv        model.layers.*.self_attn.v_proj     v-of-qkv
		blk.*.attn_q          model.layers.*.self_attn.q_proj
		blk.*.attn_k          model.layers.*.self_attn.k_proj
		blk.*.attn_v          model.layers.*.self_attn.v_proj
		blk.*.attn_output     model.layers.*.self_attn.dense
		blk.*.ffn_up          model.layers.*.mlp.fc1
		blk.*.ffn_down        model.layers.*.mlp.fc2`}, // PhiForCausalLM; the base has attn_qkv or the three
	"internlm2": {names: `
		token_embd            model.tok_embeddings
		output                output
		blk.*.attn_q          model.layers.*.attention.wqkv       q-of-groups
		blk.*.attn_k          model.layers.*.attention.wqkv       k-of-groups
		blk.*.attn_v          model.layers.*.attention.wqkv       v-of-groups
		blk.*.attn_output     model.layers.*.attention.wo
		blk.*.ffn_gate        model.layers.*.feed_forward.w1
		blk.*.ffn_up          model.layers.*.feed_forward.w3
		blk.*.ffn_down        model.layers.*.feed_forward.w2`}, // InternLM2ForCausalLM
	"gpt2": {conv1D: true, mlx: []string{"transformer.", "model."}, names: `
		token_embd            transformer.wte
		output                lm_head
		blk.*.attn_qkv        transformer.h.*.attn.c_attn
		blk.*.attn_output     transformer.h.*.attn.c_proj
		blk.*.ffn_up          transformer.h.*.mlp.c_fc
		blk.*.ffn_down        transformer.h.*.mlp.c_proj`}, // GPT2LMHeadModel
	"starcoder": {names: `
		token_embd            transformer.wte
		output                lm_head
		blk.*.attn_qkv        transformer.h.*.attn.c_attn
		blk.*.attn_output     transformer.h.*.attn.c_proj
		blk.*.ffn_up          transformer.h.*.mlp.c_fc
		blk.*.ffn_down        transformer.h.*.mlp.c_proj`}, // GPTBigCodeForCausalLM
	"gptneox": {mlx: []string{"gpt_neox.layers.", "model.h.", "gpt_neox.", "model.", "embed_out", "model.embed_out"}, names: `
		token_embd            gpt_neox.embed_in
		output                embed_out
		blk.*.attn_qkv        gpt_neox.layers.*.attention.query_key_value    by-head
		blk.*.attn_output     gpt_neox.layers.*.attention.dense
		blk.*.ffn_up          gpt_neox.layers.*.mlp.dense_h_to_4h
		blk.*.ffn_down        gpt_neox.layers.*.mlp.dense_4h_to_h`}, // GPTNeoXForCausalLM
	"bloom": {mlx: noMLX, names: `
		token_embd            transformer.word_embeddings
		output                lm_head
		blk.*.attn_qkv        transformer.h.*.self_attention.query_key_value    by-head
		blk.*.attn_output     transformer.h.*.self_attention.dense
		blk.*.ffn_up          transformer.h.*.mlp.dense_h_to_4h
		blk.*.ffn_down        transformer.h.*.mlp.dense_4h_to_h`}, // BloomForCausalLM
	"falcon": {mlx: noMLX, names: `
		token_embd            transformer.word_embeddings
		output                lm_head
		blk.*.attn_qkv        transformer.h.*.self_attention.query_key_value    by-group
		blk.*.attn_output     transformer.h.*.self_attention.dense
		blk.*.ffn_up          transformer.h.*.mlp.dense_h_to_4h
		blk.*.ffn_down        transformer.h.*.mlp.dense_4h_to_h`}, // FalconForCausalLM
	// BertModel, RobertaModel, XLMRobertaModel and CamembertModel: by themselves, as a part of those with a classifier, or as the first module of
	// sentence-transformers
	"bert": {mlx: noMLX, prefixes: []string{prefixBERT, prefixRoBERTa, "0.model.", "0.auto_model."},
		unadapted: []string{pooler, "embeddings.position_embeddings", "embeddings.token_type_embeddings"}, names: `
		token_embd            embeddings.word_embeddings
		blk.*.attn_q          encoder.layer.*.attention.self.query
		blk.*.attn_k          encoder.layer.*.attention.self.key
		blk.*.attn_v          encoder.layer.*.attention.self.value
		blk.*.attn_output     encoder.layer.*.attention.output.dense
		blk.*.ffn_up          encoder.layer.*.intermediate.dense
		blk.*.ffn_down        encoder.layer.*.output.dense`},
	"mpt": {mlx: noMLX, names: `
		token_embd            transformer.wte
		output                lm_head
		blk.*.attn_qkv        transformer.blocks.*.attn.Wqkv
		blk.*.attn_output     transformer.blocks.*.attn.out_proj
		blk.*.ffn_up          transformer.blocks.*.ffn.up_proj
		blk.*.ffn_down        transformer.blocks.*.ffn.down_proj`}, // MptForCausalLM
}
