// Calls that a backend of a GPU may throw from, as its driver makes it: the exception ends here and becomes a text.
#ifndef FINETUNE_GGML_GUARD_H
#define FINETUNE_GGML_GUARD_H

#include "abi.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct { char text[512]; } ft_error;

ggml_backend_t ft_device_start(ggml_backend_dev_t, ft_error *); // NULL: it does not start
enum ggml_status ft_compute(ggml_backend_t, struct ggml_cgraph *, ft_error *);
void ft_device_memory(ggml_backend_dev_t, size_t *free, size_t *total);

// ft_features is the first of the features that the device's backend tells, NULL if it tells none; the last has no name.
const struct ggml_backend_feature *ft_features(ggml_backend_dev_t);
const struct ggml_backend_feature *ft_next_feature(const struct ggml_backend_feature *);

#ifdef __cplusplus
}
#endif

#endif
