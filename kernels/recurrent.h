// Layers that carry a state from token to token: the short convolution and the gated delta rule; conv.c and delta.c. The
// state is empty where a document begins: pos holds each token's place in its document.
#ifndef FINETUNE_KERNELS_RECURRENT_H
#define FINETUNE_KERNELS_RECURRENT_H

#include "batch.h"

// The scratch memory that a thread takes for a node, in floats.
size_t ft_short_conv_scratch(const struct ggml_tensor *dst);
size_t ft_delta_net_scratch(const struct ggml_tensor *dst);
size_t ft_delta_net_back_scratch(const struct ggml_tensor *dst);

void ft_short_conv(tensor dst, int ith, int nth, void *userdata);
void ft_short_conv_back(tensor dst, int ith, int nth, void *userdata);
void ft_short_conv_weight(tensor dst, int ith, int nth, void *userdata);
void ft_delta_net(tensor dst, int ith, int nth, void *userdata);
void ft_delta_net_back(tensor dst, int ith, int nth, void *userdata);

#endif
