// Attention of all heads and its derivative without tokens × tokens numbers a head in memory; attention.c.
#ifndef FINETUNE_KERNELS_ATTENTION_H
#define FINETUNE_KERNELS_ATTENTION_H

#include "batch.h"

// What a query may see, four numbers: keys [from, to), and whether the mask is 0 on all of them.
enum { FT_SPAN = 4 };

// Padding of the sums of dK and dV, enough for the tiles of every instruction set.
enum { FT_PART_ROWS = 16, FT_PART_COLS = FT_NR_MAX };

// Pieces of the work on one head of K and V, each with sums of its own: a fixed number, so that no result depends on how
// many threads there are, and enough for some sixteen of them.
int64_t ft_attention_parts(const struct ggml_tensor *q, const struct ggml_tensor *k);
// Floats of one piece's sums.
int64_t ft_attention_part(const struct ggml_tensor *k, const struct ggml_tensor *v);

// The scratch memory that a thread takes for a node, in floats.
size_t ft_attention_scratch(const struct ggml_tensor *dst, bool back);

void ft_mask_spans(tensor dst, int ith, int nth, void *userdata);
void ft_attention(tensor dst, int ith, int nth, void *userdata);
void ft_attention_back(tensor dst, int ith, int nth, void *userdata);
void ft_attention_sum(tensor dst, int ith, int nth, void *userdata);

#endif
