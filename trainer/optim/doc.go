// Package optim is what an optimizer step needs once there are gradients: AdamW, the clipping of their global norm and the
// schedule of the learning rate, in plain Go over flat []float32, a slice for each tensor.
//
//	schedule, err := optim.NewSchedule("cosine", 2e-3, 0, total, warmup)
//	opt := optim.NewAdamW(params, 0)
//	for step := 1; step <= total; step++ {
//		optim.ClipGlobalNorm(grads, 1)
//		opt.Step(schedule.LR(step), values, grads)
//	}
//
// The arithmetic is that of PyTorch's torch.optim.AdamW in float32. The work goes over all cores in pieces whose bounds, and
// so the order of every sum, are the same on any number of them.
package optim
