// Package trainer fine-tunes a GGUF base model, by an adapter over it, quantized or
// not, or by its own weights: configuration, the training loop, the optimizer and
// its schedule, evaluation, checkpoints and the run directory.
//
// A run is described by a Config, lives in one run directory (Run) and is
// deterministic: the same configuration, data, base model, thread count and
// machine give the same losses bit for bit, interrupted or not.
package trainer
