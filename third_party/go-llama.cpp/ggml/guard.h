// Calls that a backend of a GPU may throw or abort from, as its driver makes it: both end here and become a text.
#ifndef FINETUNE_GGML_GUARD_H
#define FINETUNE_GGML_GUARD_H

#include "abi.h"

#ifdef __cplusplus
extern "C" {
#endif

// ft_error is what a call leaves behind that failed; an empty text is a call that did not.
typedef struct {
	bool memory; // it is memory that is lacking
	char text[512];
} ft_error;

// ft_install takes failed assertions, and the log: of that only errors in calls of this header go anywhere.
void ft_install(void);

// Where a call fails, pointers come back NULL, and false.
ggml_backend_t ft_device_start(ggml_backend_dev_t, ft_error *);
enum ggml_status ft_compute(ggml_backend_t, struct ggml_cgraph *, ft_error *);
void ft_device_memory(ggml_backend_dev_t, size_t *free, size_t *total);

ggml_backend_buffer_t ft_allocate_tensors(struct ggml_context *, ggml_backend_t, ft_error *);
bool ft_allocate_graph(ggml_gallocr_t, struct ggml_cgraph *, const int *at, const int *leaves, ft_error *); // without at: on one backend

void ft_set(tensor, const void *data, size_t bytes, ft_error *);
void ft_get(tensor, void *data, size_t bytes, ft_error *);
void ft_zero(tensor, ft_error *);
void ft_copy(tensor from, tensor to, ft_error *);

void ft_free_backend(ggml_backend_t, ft_error *);
void ft_free_buffer(ggml_backend_buffer_t, ft_error *);
void ft_free_allocator(ggml_gallocr_t, ft_error *);

// ft_features is the first of the features that the device's backend tells, NULL if it tells none; the last has no name.
const struct ggml_backend_feature *ft_features(ggml_backend_dev_t);
const struct ggml_backend_feature *ft_next_feature(const struct ggml_backend_feature *);

#ifdef __cplusplus
}
#endif

#endif
