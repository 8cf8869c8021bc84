package newmodel

// architectures is the tensors that llama.cpp's loader asks for, one table each.
var architectures = map[string]architecture{
	"llama": {epsilon: rms, rotated: 1, freeHeadDim: true, tensors: `
		token_embd.weight          embd vocab
		blk.*.attn_norm.weight     embd
		blk.*.attn_q.weight        embd q
		blk.*.attn_k.weight        embd kv
		blk.*.attn_v.weight        embd kv
		blk.*.attn_output.weight   q embd
		blk.*.ffn_norm.weight      embd
		blk.*.ffn_gate.weight      embd ff
		blk.*.ffn_up.weight        embd ff
		blk.*.ffn_down.weight      ff embd
		output_norm.weight         embd
		output.weight              embd vocab`},

	"qwen2": {epsilon: rms, rotated: 1, tensors: `
		token_embd.weight          embd vocab
		blk.*.attn_norm.weight     embd
		blk.*.attn_q.weight        embd q
		blk.*.attn_q.bias          q
		blk.*.attn_k.weight        embd kv
		blk.*.attn_k.bias          kv
		blk.*.attn_v.weight        embd kv
		blk.*.attn_v.bias          kv
		blk.*.attn_output.weight   q embd
		blk.*.ffn_norm.weight      embd
		blk.*.ffn_gate.weight      embd ff
		blk.*.ffn_up.weight        embd ff
		blk.*.ffn_down.weight      ff embd
		output_norm.weight         embd
		output.weight              embd vocab`},

	"qwen3": {epsilon: rms, rotated: 1, freeHeadDim: true, tensors: `
		token_embd.weight          embd vocab
		blk.*.attn_norm.weight     embd
		blk.*.attn_q.weight        embd q
		blk.*.attn_q_norm.weight   head
		blk.*.attn_k.weight        embd kv
		blk.*.attn_k_norm.weight   head
		blk.*.attn_v.weight        embd kv
		blk.*.attn_output.weight   q embd
		blk.*.ffn_norm.weight      embd
		blk.*.ffn_gate.weight      embd ff
		blk.*.ffn_up.weight        embd ff
		blk.*.ffn_down.weight      ff embd
		output_norm.weight         embd
		output.weight              embd vocab`},

	"phi3": {epsilon: rms, rotated: 1, tensors: `
		token_embd.weight          embd vocab
		blk.*.attn_norm.weight     embd
		blk.*.attn_qkv.weight      embd qkv
		blk.*.attn_output.weight   q embd
		blk.*.ffn_norm.weight      embd
		blk.*.ffn_up.weight        embd gate+up
		blk.*.ffn_down.weight      ff embd
		output_norm.weight         embd
		output.weight              embd vocab`},

	"gemma": {epsilon: rms, rotated: 1, freeHeadDim: true, tensors: `
		token_embd.weight          embd vocab
		blk.*.attn_norm.weight     embd
		blk.*.attn_q.weight        embd q
		blk.*.attn_k.weight        embd kv
		blk.*.attn_v.weight        embd kv
		blk.*.attn_output.weight   q embd
		blk.*.ffn_norm.weight      embd
		blk.*.ffn_gate.weight      embd ff
		blk.*.ffn_up.weight        embd ff
		blk.*.ffn_down.weight      ff embd
		output_norm.weight         embd`},

	"gemma2": {epsilon: rms, rotated: 1, freeHeadDim: true, softcap: true, tensors: `
		token_embd.weight                  embd vocab
		blk.*.attn_norm.weight             embd
		blk.*.attn_q.weight                embd q
		blk.*.attn_k.weight                embd kv
		blk.*.attn_v.weight                embd kv
		blk.*.attn_output.weight           q embd
		blk.*.post_attention_norm.weight   embd
		blk.*.ffn_norm.weight              embd
		blk.*.ffn_gate.weight              embd ff
		blk.*.ffn_up.weight                embd ff
		blk.*.ffn_down.weight              ff embd
		blk.*.post_ffw_norm.weight         embd
		output_norm.weight                 embd`},

	// Without attention.sliding_window every layer sees the whole context, where the published models have windows.
	"gemma3": {epsilon: rms, rotated: 1, freeHeadDim: true, tensors: `
		token_embd.weight                  embd vocab
		blk.*.attn_norm.weight             embd
		blk.*.attn_q.weight                embd q
		blk.*.attn_q_norm.weight           head
		blk.*.attn_k.weight                embd kv
		blk.*.attn_k_norm.weight           head
		blk.*.attn_v.weight                embd kv
		blk.*.attn_output.weight           q embd
		blk.*.post_attention_norm.weight   embd
		blk.*.ffn_norm.weight              embd
		blk.*.ffn_gate.weight              embd ff
		blk.*.ffn_up.weight                embd ff
		blk.*.ffn_down.weight              ff embd
		blk.*.post_ffw_norm.weight         embd
		output_norm.weight                 embd`},

	"gpt2": {epsilon: ln, tensors: `
		token_embd.weight          embd vocab
		position_embd.weight       embd ctx
		blk.*.attn_norm.weight     embd
		blk.*.attn_norm.bias       embd
		blk.*.attn_qkv.weight      embd qkv
		blk.*.attn_qkv.bias        qkv
		blk.*.attn_output.weight   q embd
		blk.*.attn_output.bias     embd
		blk.*.ffn_norm.weight      embd
		blk.*.ffn_norm.bias        embd
		blk.*.ffn_up.weight        embd ff
		blk.*.ffn_up.bias          ff
		blk.*.ffn_down.weight      ff embd
		blk.*.ffn_down.bias        embd
		output_norm.weight         embd
		output_norm.bias           embd
		output.weight              embd vocab`},

	"phi2": {epsilon: ln, rotated: 0.5, neverTied: true, tensors: `
		token_embd.weight          embd vocab
		blk.*.attn_norm.weight     embd
		blk.*.attn_norm.bias       embd
		blk.*.attn_qkv.weight      embd qkv
		blk.*.attn_qkv.bias        qkv
		blk.*.attn_output.weight   q embd
		blk.*.attn_output.bias     embd
		blk.*.ffn_up.weight        embd ff
		blk.*.ffn_up.bias          ff
		blk.*.ffn_down.weight      ff embd
		blk.*.ffn_down.bias        embd
		output_norm.weight         embd
		output_norm.bias           embd
		output.weight              embd vocab
		output.bias                vocab`},

	"stablelm": {epsilon: ln, rotated: 0.5, neverTied: true, tensors: `
		token_embd.weight          embd vocab
		blk.*.attn_norm.weight     embd
		blk.*.attn_norm.bias       embd
		blk.*.attn_q.weight        embd q
		blk.*.attn_q.bias          q
		blk.*.attn_k.weight        embd kv
		blk.*.attn_k.bias          kv
		blk.*.attn_v.weight        embd kv
		blk.*.attn_v.bias          kv
		blk.*.attn_output.weight   q embd
		blk.*.ffn_norm.weight      embd
		blk.*.ffn_norm.bias        embd
		blk.*.ffn_gate.weight      embd ff
		blk.*.ffn_up.weight        embd ff
		blk.*.ffn_down.weight      ff embd
		output_norm.weight         embd
		output_norm.bias           embd
		output.weight              embd vocab`},

	"falcon": {epsilon: ln, rotated: 1, tensors: `
		token_embd.weight          embd vocab
		blk.*.attn_norm.weight     embd
		blk.*.attn_norm.bias       embd
		blk.*.attn_qkv.weight      embd qkv
		blk.*.attn_output.weight   q embd
		blk.*.ffn_up.weight        embd ff
		blk.*.ffn_down.weight      ff embd
		output_norm.weight         embd
		output_norm.bias           embd
		output.weight              embd vocab`},

	"starcoder2": {epsilon: ln, rotated: 1, tensors: `
		token_embd.weight          embd vocab
		blk.*.attn_norm.weight     embd
		blk.*.attn_norm.bias       embd
		blk.*.attn_q.weight        embd q
		blk.*.attn_q.bias          q
		blk.*.attn_k.weight        embd kv
		blk.*.attn_k.bias          kv
		blk.*.attn_v.weight        embd kv
		blk.*.attn_v.bias          kv
		blk.*.attn_output.weight   q embd
		blk.*.attn_output.bias     embd
		blk.*.ffn_norm.weight      embd
		blk.*.ffn_norm.bias        embd
		blk.*.ffn_up.weight        embd ff
		blk.*.ffn_up.bias          ff
		blk.*.ffn_down.weight      ff embd
		blk.*.ffn_down.bias        embd
		output_norm.weight         embd
		output_norm.bias           embd
		output.weight              embd vocab`},
}
