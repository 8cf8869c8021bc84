// llama.cpp's C interface as this package sees it, the headers of the llama.cpp that is linked, and the bridge's own functions
// (fl_*), which are the ones that stop C++ exceptions.
#ifndef FINETUNE_LLAMA_BRIDGE_H
#define FINETUNE_LLAMA_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ggml.h>
#include <ggml-backend.h>
#include <llama.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct llama_model llama_model;
typedef struct llama_context llama_context;
typedef struct llama_vocab llama_vocab;
typedef struct llama_sampler llama_sampler;
typedef struct llama_adapter_lora llama_adapter_lora;
typedef struct ggml_tensor ggml_tensor;

// fl_error is what a failed call leaves behind: the text of a C++ exception, or what the library logged at error level
// on the calling thread while the call ran.
enum { FL_ERROR_SIZE = 1024, FL_EXCEPTION = -1000 };
typedef struct { char text[FL_ERROR_SIZE]; } fl_error;

// Calls that may throw or fail. Pointers come back NULL, codes come back as the library's or FL_EXCEPTION.
llama_model *fl_load_model(const char *path, struct llama_model_params, uintptr_t progress, fl_error *);
llama_context *fl_new_context(llama_model *, struct llama_context_params, fl_error *);
llama_adapter_lora *fl_load_adapter(llama_model *, const char *path, fl_error *);
int32_t fl_quantize(const char *in, const char *out, enum llama_ftype ftype, int threads, fl_error *);
int32_t fl_set_adapters(llama_context *, llama_adapter_lora **, size_t n, float *scales, fl_error *);
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

// What the linked ggml was compiled for, and what the processor can do.
enum { FL_AVX2 = 1, FL_FMA = 2 };
int fl_compiled_features(void);
int fl_cpu_features(void);

extern ggml_backend_dev_t fl_no_devices[1];

#ifdef __cplusplus
}
#endif

#endif
