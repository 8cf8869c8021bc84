package eval

import (
	"context"

	"finetune/internal/machine"
	"finetune/trainer/data"
	"finetune/trainer/graph"
)

// ByEngine measures the mean loss over n windows as the training engine finds it, in passes of as many sequences as it has;
// not measured where nothing is trained.
func ByEngine(ctx context.Context, e *graph.Engine, t *machine.ThreadTuner, n int, at func(i int) data.Window) (Loss, error) {
	seqs := e.Shape().Seqs
	var sum, weight float64
	for i := 0; i < n; i += seqs {
		if err := ctx.Err(); err != nil {
			return NotMeasured, err
		}
		var windows []data.Window
		for k := i; k < min(i+seqs, n); k++ {
			windows = append(windows, at(k))
		}
		err := t.Do(seqs, func(threads int) error {
			e.SetThreads(threads)
			loss, err := e.Loss(data.Fill(windows, seqs))
			sum += loss
			return err
		})
		if err != nil {
			return NotMeasured, err
		}
		weight += data.TotalWeight(windows)
	}
	if weight == 0 {
		return NotMeasured, nil
	}
	return Loss(sum / weight), nil
}
