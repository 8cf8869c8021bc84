// Calls that a backend of a GPU may throw or abort from, as its driver makes it: both end here and become a text.
#ifndef FINETUNE_GGML_GUARD_H
#define FINETUNE_GGML_GUARD_H

#include "abi.h"

#ifdef __cplusplus
extern "C" {
#endif

// ft_error is what a call returns that failed, for the caller to free; NULL is a call that did not, which costs nothing.
typedef struct {
	bool memory; // it is memory that is lacking
	char text[512]; // empty: the backend gives no reason
} ft_error;
void ft_free_error(ft_error *);

// ft_install takes failed assertions, and the log: of that only errors in calls of this header go anywhere.
void ft_install(void);

ft_error *ft_device_start(ggml_backend_dev_t, ggml_backend_t *started);
ft_error *ft_compute(ggml_backend_t, struct ggml_cgraph *);
void ft_device_memory(ggml_backend_dev_t, size_t *free, size_t *total);

ft_error *ft_allocate_tensors(struct ggml_context *, ggml_backend_t, ggml_backend_buffer_t *taken);
ft_error *ft_allocate_graph(ggml_gallocr_t, struct ggml_cgraph *, const int *at, const int *leaves); // without at: on one backend

ft_error *ft_set(tensor, const void *data, size_t bytes);
ft_error *ft_get(tensor, void *data, size_t bytes);
ft_error *ft_zero(tensor);
ft_error *ft_copy(tensor from, tensor to);

ft_error *ft_free_backend(ggml_backend_t);
ft_error *ft_free_buffer(ggml_backend_buffer_t);
ft_error *ft_free_allocator(ggml_gallocr_t);

// ft_features is the first of the features that the device's backend tells, NULL if it tells none; the last has no name.
const struct ggml_backend_feature *ft_features(ggml_backend_dev_t);
const struct ggml_backend_feature *ft_next_feature(const struct ggml_backend_feature *);

#ifdef __cplusplus
}
#endif

#endif
