package trainer

import (
	"context"

	"finetune/trainer/data"
	"finetune/trainer/graph"
)

// lossByEngine is the mean loss over n windows as the training engine finds it, in passes of as many sequences as it has;
// not measured where nothing is trained.
func lossByEngine(ctx context.Context, e *graph.Engine, p *pace, n int, at func(i int) data.Window) (Loss, error) {
	seqs, blank := e.Shape().Seqs, data.Blank(e.Shape().Ctx)
	var sum, weight float64
	for i := 0; i < n; i += seqs {
		if err := ctx.Err(); err != nil {
			return notMeasured, err
		}
		var windows []data.Window
		for k := i; k < min(i+seqs, n); k++ {
			windows = append(windows, at(k))
		}
		err := p.do(seqs, func(threads int) error {
			e.SetThreads(threads)
			loss, err := e.Loss(fill(windows, seqs, blank))
			sum += loss
			return err
		})
		if err != nil {
			return notMeasured, err
		}
		weight += totalWeight(windows)
	}
	if weight == 0 {
		return notMeasured, nil
	}
	return Loss(sum / weight), nil
}
