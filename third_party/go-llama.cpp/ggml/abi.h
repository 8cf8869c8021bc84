// ggml as this package sees it: the headers of the llama.cpp that is linked, which pkg-config names.
#ifndef FINETUNE_GGML_ABI_H
#define FINETUNE_GGML_ABI_H

#include <ggml.h>
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>

typedef struct ggml_tensor *tensor;

// A custom operation's own parameters lie behind what ggml keeps in op_params (the function, its threads, its user data).
enum { FT_PARAM = 8 };

#endif
