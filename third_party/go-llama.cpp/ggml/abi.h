// The part of ggml's public C interface (ggml.h, ggml-alloc.h, ggml-backend.h, ggml-cpu.h) that this package calls,
// declared here because a Go module cannot reach the headers of another one. Check (check.go) compares what can be
// compared with the linked library before anything else runs.
#ifndef FINETUNE_GGML_ABI_H
#define FINETUNE_GGML_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FT_MAX_DIMS = 4, FT_MAX_SRC = 10, FT_OP_PARAM_WORDS = 16, FT_MAX_NAME = 64 };
enum { FT_FLAG_INPUT = 1, FT_FLAG_OUTPUT = 2 };
enum { FT_USAGE_WEIGHTS = 1 };

typedef void *ggml_object; // context, graph, backend, buffer, buffer type, graph allocator: all opaque here

struct ggml_tensor {
	int type;
	ggml_object buffer;
	int64_t ne[FT_MAX_DIMS]; // elements, fastest dimension first
	size_t nb[FT_MAX_DIMS];  // strides in bytes
	int op;
	int32_t op_params[FT_OP_PARAM_WORDS];
	int32_t flags;
	struct ggml_tensor *src[FT_MAX_SRC];
	struct ggml_tensor *view_src;
	size_t view_offs;
	void *data;
	char name[FT_MAX_NAME];
	void *extra;
	char padding[8];
};
typedef struct ggml_tensor *tensor;

struct ggml_init_params { size_t mem_size; void *mem_buffer; bool no_alloc; };

struct ggml_type_traits {
	const char *type_name;
	int64_t blck_size, blck_size_interleave;
	size_t type_size;
	bool is_quantized;
	void (*to_float)(const void *x, float *y, int64_t k);
	void (*from_float_ref)(const float *x, void *y, int64_t k);
};

// contexts and tensors
ggml_object ggml_init(struct ggml_init_params);
void ggml_free(ggml_object ctx);
size_t ggml_tensor_overhead(void);
size_t ggml_used_mem(ggml_object ctx);
size_t ggml_graph_overhead_custom(size_t size, bool grads);
tensor ggml_new_tensor(ggml_object, int type, int n_dims, const int64_t *ne);
tensor ggml_dup_tensor(ggml_object, tensor);
tensor ggml_set_name(tensor, const char *);
void ggml_set_input(tensor);
void ggml_set_output(tensor);
int64_t ggml_nelements(tensor);
size_t ggml_nbytes(tensor);
bool ggml_is_contiguous(tensor);
const char *ggml_op_desc(tensor);
const char *ggml_op_name(int op);

// types
const char *ggml_type_name(int type);
int64_t ggml_blck_size(int type);
size_t ggml_type_size(int type);
const struct ggml_type_traits *ggml_get_type_traits(int type);
bool ggml_quantize_requires_imatrix(int type);
size_t ggml_quantize_chunk(int type, const float *src, void *dst, int64_t start, int64_t nrows, int64_t n_per_row, const float *imatrix);

// element-wise and reductions
tensor ggml_add(ggml_object, tensor, tensor);
tensor ggml_add_inplace(ggml_object, tensor, tensor);
tensor ggml_sub(ggml_object, tensor, tensor);
tensor ggml_mul(ggml_object, tensor, tensor);
tensor ggml_div(ggml_object, tensor, tensor);
tensor ggml_sqr(ggml_object, tensor);
tensor ggml_sqrt(ggml_object, tensor);
tensor ggml_log(ggml_object, tensor);
tensor ggml_exp(ggml_object, tensor);
tensor ggml_neg(ggml_object, tensor);
tensor ggml_step(ggml_object, tensor);
tensor ggml_tanh(ggml_object, tensor);
tensor ggml_relu(ggml_object, tensor);
tensor ggml_gelu(ggml_object, tensor);
tensor ggml_gelu_erf(ggml_object, tensor);
tensor ggml_gelu_quick(ggml_object, tensor);
tensor ggml_softplus(ggml_object, tensor);
tensor ggml_xielu(ggml_object, tensor, float alpha_n, float alpha_p, float beta, float eps);
tensor ggml_silu(ggml_object, tensor);
tensor ggml_sigmoid(ggml_object, tensor);
tensor ggml_glu(ggml_object, tensor, int op, bool swapped);
tensor ggml_glu_split(ggml_object, tensor, tensor, int op);
tensor ggml_swiglu_split(ggml_object, tensor, tensor);
tensor ggml_swiglu_oai(ggml_object, tensor, tensor, float alpha, float limit);
tensor ggml_scale(ggml_object, tensor, float s);
tensor ggml_scale_bias(ggml_object, tensor, float s, float b);
tensor ggml_clamp(ggml_object, tensor, float lo, float hi);
tensor ggml_fill(ggml_object, tensor, float c);
tensor ggml_sum_rows(ggml_object, tensor);
tensor ggml_mean(ggml_object, tensor);
tensor ggml_repeat(ggml_object, tensor, tensor);
tensor ggml_repeat_back(ggml_object, tensor, tensor);
tensor ggml_concat(ggml_object, tensor, tensor, int dim);
tensor ggml_acc(ggml_object, tensor, tensor, size_t nb1, size_t nb2, size_t nb3, size_t offset);
tensor ggml_norm(ggml_object, tensor, float eps);
tensor ggml_l2_norm(ggml_object, tensor, float eps);
tensor ggml_rms_norm(ggml_object, tensor, float eps);
tensor ggml_rms_norm_back(ggml_object, tensor, tensor, float eps);
tensor ggml_silu_back(ggml_object, tensor, tensor);

// matrices, attention, rows
tensor ggml_mul_mat(ggml_object, tensor, tensor);
void ggml_mul_mat_set_prec(tensor, int prec);
tensor ggml_soft_max_ext(ggml_object, tensor, tensor mask, float scale, float max_bias);
void ggml_soft_max_add_sinks(tensor, tensor sinks);
tensor ggml_soft_max_ext_back(ggml_object, tensor, tensor, float scale, float max_bias);
tensor ggml_rope_ext(ggml_object, tensor, tensor pos, tensor factors, int n_dims, int mode, int n_ctx_orig,
	float freq_base, float freq_scale, float ext_factor, float attn_factor, float beta_fast, float beta_slow);
tensor ggml_get_rows(ggml_object, tensor, tensor);
tensor ggml_get_rows_back(ggml_object, tensor, tensor ids, tensor like);
tensor ggml_set_rows(ggml_object, tensor, tensor, tensor);

// shape
tensor ggml_cont(ggml_object, tensor);
tensor ggml_cast(ggml_object, tensor, int type);
tensor ggml_reshape_4d(ggml_object, tensor, int64_t, int64_t, int64_t, int64_t);
tensor ggml_view_4d(ggml_object, tensor, int64_t, int64_t, int64_t, int64_t, size_t nb1, size_t nb2, size_t nb3, size_t offset);
tensor ggml_permute(ggml_object, tensor, int, int, int, int);
tensor ggml_transpose(ggml_object, tensor);

// operations of others
typedef void (*ft_custom)(tensor node, int ith, int nth, void *userdata);
tensor ggml_custom_4d(ggml_object, int type, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3, tensor *args, int n_args,
	ft_custom, int n_tasks, void *userdata);
tensor ggml_custom_inplace(ggml_object, tensor, tensor *args, int n_args, ft_custom, int n_tasks, void *userdata);

// A custom operation's own parameters lie behind what ggml keeps in op_params (the function, its threads, its user data).
enum { FT_PARAM = 8 };

// graphs and their memory
ggml_object ggml_new_graph_custom(ggml_object, size_t size, bool grads);
void ggml_build_forward_expand(ggml_object graph, tensor);
void ggml_graph_add_node(ggml_object graph, tensor);
int ggml_graph_n_nodes(ggml_object graph);
tensor ggml_graph_node(ggml_object graph, int i);
ggml_object ggml_gallocr_new(ggml_object buft);
void ggml_gallocr_free(ggml_object);
bool ggml_gallocr_alloc_graph(ggml_object, ggml_object graph);
size_t ggml_gallocr_get_buffer_size(ggml_object, int buffer);
void ggml_gallocr_reserve_n_size(ggml_object, ggml_object graph, const int *node_buffers, const int *leaf_buffers, size_t *sizes);

// backends and buffers
ggml_object ggml_backend_cpu_init(void);
void ggml_backend_cpu_set_n_threads(ggml_object, int n);
ggml_object ggml_backend_get_default_buffer_type(ggml_object);
void ggml_backend_free(ggml_object);
int ggml_backend_graph_compute(ggml_object, ggml_object graph);
struct ggml_cplan { size_t work_size; uint8_t *work_data; int n_threads; void *threadpool, *abort_callback, *abort_callback_data; };
struct ggml_cplan ggml_graph_plan(ggml_object graph, int n_threads, ggml_object threadpool);
bool ggml_backend_supports_op(ggml_object, tensor);
ggml_object ggml_backend_alloc_ctx_tensors(ggml_object ctx, ggml_object backend);
size_t ggml_backend_buffer_get_size(ggml_object);
int ggml_backend_buffer_get_usage(ggml_object);
bool ggml_backend_buffer_is_host(ggml_object);
void ggml_backend_buffer_free(ggml_object);
void ggml_backend_tensor_set(tensor, const void *data, size_t offset, size_t size);
void ggml_backend_tensor_get(tensor, void *data, size_t offset, size_t size);
const char *ggml_status_to_string(int status);

#endif
