// The release whose headers this was compiled against, as `make llama` found it by asking the library beside them. Without
// make nobody asked, and there is nothing to compare with.
#ifndef FINETUNE_GGML_RELEASE_H
#define FINETUNE_GGML_RELEASE_H

#if __has_include(<llama-release.h>)
#include <llama-release.h>
#else
#define LLAMA_RELEASE ""
#define LLAMA_RELEASE_GGML ""
#endif

#endif
