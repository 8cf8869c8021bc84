// What the kernels know of ggml (ggml.h): a tensor, and how the blocks of a type are decoded. A Go module cannot reach the
// headers of another one, so it is stated here again, in the words of third_party/go-llama.cpp/ggml/abi.h; a test holds the
// two against each other, and ggml.Check that one against the linked library.
#ifndef FINETUNE_KERNELS_TENSOR_H
#define FINETUNE_KERNELS_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FT_MAX_DIMS = 4, FT_MAX_SRC = 10, FT_OP_PARAM_WORDS = 16, FT_MAX_NAME = 64 };

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

struct ggml_type_traits {
	const char *type_name;
	int64_t blck_size, blck_size_interleave;
	size_t type_size;
	bool is_quantized;
	void (*to_float)(const void *x, float *y, int64_t k);
	void (*from_float_ref)(const float *x, void *y, int64_t k);
};
const struct ggml_type_traits *ggml_get_type_traits(int type);

// A custom operation's own parameters lie behind what ggml keeps in op_params (the function, its threads, its user data).
enum { FT_PARAM = 8 };

#endif
