// What this package knows of llama.cpp's C interface (llama.h and the few functions of ggml-backend.h that go with it),
// and the bridge's own functions (fl_*), which are the ones that stop C++ exceptions. A Go module cannot reach the
// headers of another one, so the facts of the ABI are stated here; Check (check.go) compares them with the linked library.
#ifndef FINETUNE_LLAMA_BRIDGE_H
#define FINETUNE_LLAMA_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- opaque objects

typedef struct llama_model llama_model;
typedef struct llama_context llama_context;
typedef struct llama_vocab llama_vocab;
typedef struct llama_sampler llama_sampler;
typedef struct llama_adapter_lora llama_adapter_lora;
typedef struct llama_memory_i *llama_memory;
typedef struct ggml_backend_device *ggml_device;
typedef struct ggml_tensor ggml_tensor;

typedef bool (*fl_progress_fn)(float progress, void *user);
typedef bool (*fl_eval_fn)(ggml_tensor *node, bool ask, void *user);
typedef bool (*fl_abort_fn)(void *user);
typedef void (*fl_log_fn)(int level, const char *text, void *user);

// ---- structs passed by value

struct llama_model_params {
	ggml_device *devices; // ends with NULL; only a NULL: no accelerator at all
	const void *tensor_buft_overrides;
	int32_t n_gpu_layers;
	int split_mode;
	int32_t main_gpu;
	const float *tensor_split; // llama_max_devices() proportions
	fl_progress_fn progress_callback;
	void *progress_callback_user_data;
	const void *kv_overrides;
	bool vocab_only, use_mmap, use_mlock, check_tensors, use_extra_bufts, no_host, no_alloc;
};

struct llama_model_quantize_params {
	int32_t nthread;
	int ftype;
	int output_tensor_type, token_embedding_type;
	bool allow_requantize, quantize_output_tensor, only_copy, pure, keep_split;
	void *imatrix, *kv_overrides, *tensor_types, *prune_layers;
};

struct llama_context_params {
	uint32_t n_ctx, n_batch, n_ubatch, n_seq_max;
	int32_t n_threads, n_threads_batch;
	int rope_scaling_type, pooling_type, attention_type, flash_attn_type;
	float rope_freq_base, rope_freq_scale;
	float yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow;
	uint32_t yarn_orig_ctx;
	float defrag_thold;
	fl_eval_fn cb_eval;
	void *cb_eval_user_data;
	int type_k, type_v;
	fl_abort_fn abort_callback;
	void *abort_callback_data;
	bool embeddings, offload_kqv, no_perf, op_offload, swa_full, kv_unified;
};

struct llama_batch {
	int32_t n_tokens;
	int32_t *token;
	float *embd;
	int32_t *pos;
	int32_t *n_seq_id;
	int32_t **seq_id;
	int8_t *logits;
};

struct llama_logit_bias { int32_t token; float bias; };
struct llama_token_data { int32_t id; float logit, p; };
struct llama_token_data_array { struct llama_token_data *data; size_t size; int64_t selected; bool sorted; };
struct llama_chat_message { const char *role, *content; };
struct llama_sampler_chain_params { bool no_perf; };

// ---- the library

struct llama_model_params llama_model_default_params(void);
struct llama_context_params llama_context_default_params(void);
struct llama_model_quantize_params llama_model_quantize_default_params(void);
uint32_t llama_model_quantize(const char *in, const char *out, const struct llama_model_quantize_params *);
void llama_backend_init(void);
void llama_numa_init(int strategy);
size_t llama_max_devices(void);
const char *llama_print_system_info(void);
void llama_log_set(fl_log_fn, void *user);
typedef void (*fl_assert_fn)(const char *message);
fl_assert_fn ggml_set_abort_callback(fl_assert_fn);
const char *ggml_type_name(int type);
const char *ggml_op_name(int op);

// ---- model

llama_model *llama_model_load_from_file(const char *path, struct llama_model_params);
void llama_model_free(llama_model *);
const llama_vocab *llama_model_get_vocab(const llama_model *);
int32_t llama_model_n_ctx_train(const llama_model *);
int32_t llama_model_n_embd(const llama_model *);
int32_t llama_model_n_layer(const llama_model *);
int32_t llama_model_n_head(const llama_model *);
int32_t llama_model_n_head_kv(const llama_model *);
int32_t llama_model_n_swa(const llama_model *);
int llama_model_rope_type(const llama_model *);
uint64_t llama_model_size(const llama_model *);
uint64_t llama_model_n_params(const llama_model *);
int32_t llama_model_desc(const llama_model *, char *buf, size_t size);
int32_t llama_model_meta_count(const llama_model *);
int32_t llama_model_meta_val_str(const llama_model *, const char *key, char *buf, size_t size);
int32_t llama_model_meta_key_by_index(const llama_model *, int32_t i, char *buf, size_t size);
int32_t llama_model_meta_val_str_by_index(const llama_model *, int32_t i, char *buf, size_t size);
const char *llama_model_chat_template(const llama_model *, const char *name);
bool llama_model_has_encoder(const llama_model *);
bool llama_model_has_decoder(const llama_model *);
bool llama_model_is_recurrent(const llama_model *);
bool llama_model_is_hybrid(const llama_model *);
bool llama_model_is_diffusion(const llama_model *);
int32_t llama_chat_apply_template(const char *tmpl, const struct llama_chat_message *, size_t n, bool add_assistant,
	char *buf, int32_t size);

// ---- vocabulary

int llama_vocab_type(const llama_vocab *);
int32_t llama_vocab_n_tokens(const llama_vocab *);
int32_t llama_vocab_bos(const llama_vocab *);
int32_t llama_vocab_eos(const llama_vocab *);
int32_t llama_vocab_eot(const llama_vocab *);
int32_t llama_vocab_sep(const llama_vocab *);
int32_t llama_vocab_pad(const llama_vocab *);
int32_t llama_vocab_nl(const llama_vocab *);
bool llama_vocab_get_add_bos(const llama_vocab *);
bool llama_vocab_get_add_eos(const llama_vocab *);
bool llama_vocab_get_add_sep(const llama_vocab *);
bool llama_vocab_is_eog(const llama_vocab *, int32_t id);
bool llama_vocab_is_control(const llama_vocab *, int32_t id);
int32_t llama_tokenize(const llama_vocab *, const char *text, int32_t len, int32_t *tokens, int32_t max, bool add_special,
	bool parse_special);
int32_t llama_token_to_piece(const llama_vocab *, int32_t id, char *buf, int32_t size, int32_t lstrip, bool special);
int32_t llama_detokenize(const llama_vocab *, const int32_t *tokens, int32_t n, char *text, int32_t max, bool remove_special,
	bool unparse_special);

// ---- context

llama_context *llama_init_from_model(llama_model *, struct llama_context_params);
void llama_free(llama_context *);
uint32_t llama_n_ctx(const llama_context *);
uint32_t llama_n_ctx_seq(const llama_context *);
uint32_t llama_n_batch(const llama_context *);
uint32_t llama_n_ubatch(const llama_context *);
uint32_t llama_n_seq_max(const llama_context *);
int llama_pooling_type(const llama_context *);
void llama_set_n_threads(llama_context *, int32_t n, int32_t n_batch);
void llama_set_embeddings(llama_context *, bool);
int32_t llama_decode(llama_context *, struct llama_batch);
float *llama_get_logits_ith(llama_context *, int32_t i);
float *llama_get_embeddings_ith(llama_context *, int32_t i);
float *llama_get_embeddings_seq(llama_context *, int32_t seq);

// ---- memory: what a context keeps of the tokens it has seen

llama_memory llama_get_memory(const llama_context *);
void llama_memory_clear(llama_memory, bool data);
bool llama_memory_seq_rm(llama_memory, int32_t seq, int32_t p0, int32_t p1);
void llama_memory_seq_cp(llama_memory, int32_t from, int32_t to, int32_t p0, int32_t p1);
void llama_memory_seq_add(llama_memory, int32_t seq, int32_t p0, int32_t p1, int32_t delta);
int32_t llama_memory_seq_pos_max(llama_memory, int32_t seq);
bool llama_memory_can_shift(llama_memory);
size_t llama_state_get_size(llama_context *);
size_t llama_state_get_data(llama_context *, uint8_t *dst, size_t size);
size_t llama_state_set_data(llama_context *, const uint8_t *src, size_t size);
bool llama_state_save_file(llama_context *, const char *path, const int32_t *tokens, size_t n);
bool llama_state_load_file(llama_context *, const char *path, int32_t *tokens, size_t capacity, size_t *n);

// ---- LoRA adapters

llama_adapter_lora *llama_adapter_lora_init(llama_model *, const char *path);
void llama_adapter_lora_free(llama_adapter_lora *);
int32_t llama_adapter_meta_val_str(const llama_adapter_lora *, const char *key, char *buf, size_t size);
int32_t llama_set_adapter_lora(llama_context *, llama_adapter_lora *, float scale);
void llama_clear_adapter_lora(llama_context *);

// ---- samplers

llama_sampler *llama_sampler_chain_init(struct llama_sampler_chain_params);
void llama_sampler_chain_add(llama_sampler *chain, llama_sampler *);
void llama_sampler_free(llama_sampler *);
void llama_sampler_accept(llama_sampler *, int32_t token);
void llama_sampler_apply(llama_sampler *, struct llama_token_data_array *);
llama_sampler *llama_sampler_init_greedy(void);
llama_sampler *llama_sampler_init_dist(uint32_t seed);
llama_sampler *llama_sampler_init_top_k(int32_t k);
llama_sampler *llama_sampler_init_top_p(float p, size_t min_keep);
llama_sampler *llama_sampler_init_min_p(float p, size_t min_keep);
llama_sampler *llama_sampler_init_typical(float p, size_t min_keep);
llama_sampler *llama_sampler_init_temp(float t);
llama_sampler *llama_sampler_init_mirostat(int32_t n_vocab, uint32_t seed, float tau, float eta, int32_t m);
llama_sampler *llama_sampler_init_mirostat_v2(uint32_t seed, float tau, float eta);
llama_sampler *llama_sampler_init_grammar(const llama_vocab *, const char *grammar, const char *root);
llama_sampler *llama_sampler_init_penalties(int32_t last_n, float repeat, float freq, float present);
llama_sampler *llama_sampler_init_logit_bias(int32_t n_vocab, int32_t n, const struct llama_logit_bias *);

// ---- the bridge

// fl_error is what a failed call leaves behind: the text of a C++ exception, or what the library logged at error level
// on the calling thread while the call ran.
enum { FL_ERROR_SIZE = 1024, FL_EXCEPTION = -1000, FL_MAX_ADAPTERS = 4 };
typedef struct { char text[FL_ERROR_SIZE]; } fl_error;

// Calls that may throw or fail. Pointers come back NULL, codes come back as the library's or FL_EXCEPTION.
llama_model *fl_load_model(const char *path, struct llama_model_params, uintptr_t progress, fl_error *);
llama_context *fl_new_context(llama_model *, struct llama_context_params, fl_error *);
llama_adapter_lora *fl_load_adapter(llama_model *, const char *path, fl_error *);
int32_t fl_quantize(const char *in, const char *out, int ftype, int threads, fl_error *);
int32_t fl_set_adapter(llama_context *, llama_adapter_lora *, float scale, fl_error *);
int32_t fl_tokenize(const llama_vocab *, const char *text, int32_t len, int32_t *tokens, int32_t max, bool add_special,
	bool parse_special, fl_error *);
int32_t fl_token_to_piece(const llama_vocab *, int32_t id, char *buf, int32_t size, bool special);
int32_t fl_detokenize(const llama_vocab *, const int32_t *tokens, int32_t n, char *buf, int32_t size, bool remove_special,
	bool unparse_special);
int32_t fl_apply_template(const char *tmpl, const char *const *roles, const char *const *contents, size_t n,
	bool add_assistant, char *buf, int32_t size, fl_error *);

// fl_decode runs n tokens. seq is one sequence id a token. pos may be NULL: each sequence goes on where it ended.
int32_t fl_decode(llama_context *, int32_t n, int32_t *tokens, int32_t *pos, int32_t *seq, int8_t *output, fl_error *);

int32_t fl_state_save(llama_context *, const char *path, const int32_t *tokens, size_t n, fl_error *);
int32_t fl_state_load(llama_context *, const char *path, int32_t *tokens, size_t capacity, size_t *n, fl_error *);
size_t fl_state_get(llama_context *, uint8_t *dst, size_t size, fl_error *);
size_t fl_state_set(llama_context *, const uint8_t *src, size_t size, fl_error *);

// fl_trace goes with every context: it can stop a decode before its graph runs, and list the graph's nodes (trace.go).
typedef struct fl_trace fl_trace;
fl_trace *fl_trace_new(void);
void fl_trace_free(fl_trace *);
void fl_trace_use(fl_trace *, struct llama_context_params *, bool list_nodes);

// fl_stopped_decode is fl_decode stopped after the first node that does any work. Code 2, aborted, is success. A backend
// that cannot be stopped returns 0: the batch was run.
int32_t fl_stopped_decode(fl_trace *, llama_context *, int32_t n, int32_t *tokens, int32_t *pos, int32_t *seq,
	int8_t *output, fl_error *);
size_t fl_trace_len(const fl_trace *);
ggml_tensor *const *fl_trace_nodes(const fl_trace *);

// fl_sampler is a chain in two parts, so that the newline can be left out of the penalties (sampler.go).
typedef struct fl_sampler fl_sampler;
fl_sampler *fl_sampler_new(int32_t n_vocab, int32_t spared);
void fl_sampler_free(fl_sampler *);
bool fl_sampler_add_penalty(fl_sampler *, llama_sampler *);
bool fl_sampler_add(fl_sampler *, llama_sampler *);
llama_sampler *fl_sampler_grammar(const llama_vocab *, const char *grammar, fl_error *);
int32_t fl_sampler_sample(fl_sampler *, const float *logits, fl_error *);
int32_t fl_sampler_accept(fl_sampler *, int32_t token, bool chosen, fl_error *);

// fl_install takes over the log of llama.cpp and ggml, which goes to Go when forward is set (log.go), and failed assertions.
void fl_install(void);
void fl_log_forward(bool on);

// fl_written tells how many bytes the library writes for its default parameters (check.go).
size_t fl_written_model_params(void);
size_t fl_written_context_params(void);
size_t fl_written_quantize_params(void);

// How this file, and with it all native code of the build, was compiled; and what the processor can do.
enum { FL_AVX2 = 1, FL_FMA = 2, FL_F16C = 4, FL_AVX512 = 8, FL_X86 = 16 };
int fl_compiled_features(void);
int fl_cpu_features(void);

extern ggml_device fl_no_devices[1];

#ifdef __cplusplus
}
#endif

#endif
