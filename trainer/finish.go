package trainer

import (
	"context"
	"fmt"
	"strings"

	"finetune/eval"
	"finetune/imatrix"
	"finetune/internal/hint"
	"finetune/internal/machine"
	"finetune/run"
	"finetune/trainer/graph"
)

// finish measures the result and writes it.
func (l *loop) finish(ctx context.Context) (*Summary, error) {
	if l.measured.step != l.step {
		if _, err := l.measure(ctx, Event{Kind: "eval"}); err != nil {
			return nil, err
		}
	}
	loss := l.measured.loss
	if l.val != nil && !loss.Measured() {
		return nil, hint.With(fmt.Errorf("trainer: step %d: validation loss %v: training diverged", l.step, float64(loss)), divergedHint)
	}
	if err := l.checkpoint(); err != nil {
		return nil, err
	}
	kept := l.step
	if l.takeBest() { // behind the checkpoint, which is of the last step
		kept, loss = l.best.Step, eval.Loss(l.best.Loss)
		l.samples.again()
	}
	if err := l.sample(ctx); err != nil {
		return nil, err
	}
	path, err := l.save()
	if err != nil {
		return nil, err
	}
	seconds := max(l.totals.Seconds, 1e-9)
	s := &Summary{
		Steps: l.step, BaseValLoss: eval.Loss(l.totals.BaseValLoss), ValLoss: loss, TrainLoss: l.recentLoss(),
		TrainedTokens: l.totals.TrainedTokens, RawTokens: l.totals.RawTokens, Seconds: l.totals.Seconds,
		TrainedRate: float64(l.totals.TrainedTokens) / seconds, RawRate: float64(l.totals.RawTokens) / seconds,
		PeakMemory: machine.PeakMemory(), Run: l.dir.Name(), Result: path,
	}
	if l.config.Method != run.MethodFull {
		s.Adapter = path
	}
	if l.config.Judges() {
		s.KeptStep, s.LastValLoss, s.Stopped = kept, &l.measured.loss, l.step < l.total
	}
	return s, l.tell(Event{Kind: "done", TokensPerSecond: s.TrainedRate, RawPerSecond: s.RawRate, Summary: s})
}

// save writes what the run has made, the result last: it says that the run is done.
func (l *loop) save() (result string, err error) {
	if err := l.saveStatistics(l.dataHash); err != nil {
		return "", err
	}
	result = l.dir.Path(l.config.ResultFile())
	return result, l.trainable.save(result, l.origin())
}

// saveStatistics writes what the inputs and outputs of the adapted weights were like on the data of a hash.
func (l *loop) saveStatistics(data string) error {
	if len(l.statisticsParams) == 0 {
		return nil
	}
	m := imatrix.Matrix{Datasets: []string{data}, Chunks: int(l.engine.Tokens()) / l.config.Ctx,
		ChunkSize: l.config.Ctx, Entries: map[string]imatrix.Entry{}}
	for i, p := range l.statisticsParams {
		if weight, ok := strings.CutSuffix(p.Name, graph.SuffixInputs); ok {
			m.Entries[weight] = imatrix.Entry{Sum2: l.statistics[i], Grad2: l.statistics[i+1], Tokens: float32(l.engine.Tokens())}
		}
	}
	return m.Save(l.dir.Path(run.ImatrixFile))
}

// recentLoss returns the mean training loss of the last tenth of the steps, at least one.
func (l *loop) recentLoss() eval.Loss {
	recent := l.losses[len(l.losses)-max(1, len(l.losses)/10):]
	var sum float64
	for _, loss := range recent {
		sum += loss
	}
	return eval.Loss(sum / float64(len(recent)))
}
