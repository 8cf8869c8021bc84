// What the kernels need of ggml: its headers.
#ifndef FINETUNE_KERNELS_TENSOR_H
#define FINETUNE_KERNELS_TENSOR_H

#include <ggml.h>

typedef struct ggml_tensor *tensor;

// A custom operation's own parameters lie behind what ggml keeps in op_params (the function, its threads, its user data), as
// third_party/go-llama.cpp/ggml/abi.h has it; a test holds the two against each other.
enum { FT_PARAM = 8 };

#endif
