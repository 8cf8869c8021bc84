// Package trainer fine-tunes a GGUF base model, by an adapter over it, quantized or not, or by its own weights: the
// training loop, its step, what is trained, the plan of its memory and its checkpoints. Settings and the run directory are
// package run's, the optimizer trainer/optim's, data trainer/data's, the graph trainer/graph's; what becomes of a run is
// package export's.
//
// A run is described by a run.Config, lives in one run directory and is deterministic: the same configuration, data, base
// model, thread count and machine give the same losses bit for bit, interrupted or not.
//
//	c := run.DefaultConfig()
//	c.Model, c.Data, c.Out = "base.gguf", "train.jsonl", "run"
//	summary, err := trainer.Train(ctx, c, false, nil)
package trainer
