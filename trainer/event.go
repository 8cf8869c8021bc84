package trainer

import (
	"time"

	"finetune/eval"
	"finetune/trainer/data"
)

// Event is what a run tells while it goes on: one JSON object a line in log.jsonl and on the standard output of
// `finetune train --json`. Kind says which other fields are set.
type Event struct {
	Kind string    `json:"event"` // reading, measuring, start, range, step, eval, samples, checkpoint, done
	Time time.Time `json:"time"`

	// reading, of data, and measuring, between two steps; how far they have come, some times a second, in no log
	What string `json:"what,omitempty"` // is being done; measuring: validation, samples or range test
	Done int64  `json:"done,omitempty"` // bytes read, windows measured, tokens of an answer, or steps tried
	Of   int64  `json:"of,omitempty"`   // so many; 0: not known

	// start
	Model      string   `json:"model,omitempty"`
	Method     string   `json:"method,omitempty"`
	Matrices   int      `json:"matrices,omitempty"`   // adapted weights, or tensors trained themselves
	Parameters int      `json:"parameters,omitempty"` // trainable parameters
	Windows    int      `json:"windows,omitempty"`    // training windows of n_ctx tokens
	ValWindows int      `json:"val_windows,omitempty"`
	TotalSteps int      `json:"total_steps,omitempty"`
	Threads    int      `json:"threads,omitempty"`
	WorkBytes  int64    `json:"work_bytes,omitempty"`    // activations and gradients of a forward pass
	Planned    int64    `json:"planned_bytes,omitempty"` // memory at most, the plan's total
	Plan       *Plan    `json:"plan,omitempty"`
	Opening    int64    `json:"opening_bytes,omitempty"` // the process's peak so far: opening the base, reading the data
	MicroBatch int      `json:"micro_batch,omitempty"`
	Data       []string `json:"data,omitempty"`  // what was read, in three lines: files and records, tokens, what was left out
	Notes      []string `json:"notes,omitempty"` // what happened to the data: records cut, skipped, padding

	// range, with LR, the rate that was chosen; without a curve it is the usual one of such a run
	Curve []RatePoint `json:"curve,omitempty"`

	// step, eval, checkpoint
	Step            int       `json:"step,omitempty"`
	Loss            eval.Loss `json:"loss,omitempty"`    // step: mean over its trained tokens; eval: over the validation's
	Initial         bool      `json:"initial,omitempty"` // eval: before the first step, of the adapter that the run goes on from
	LR              float64   `json:"lr,omitempty"`
	GradNorm        float64   `json:"grad_norm,omitempty"` // before clipping
	TokensPerSecond float64   `json:"tokens_per_second,omitempty"`
	RawPerSecond    float64   `json:"raw_tokens_per_second,omitempty"`
	SecondsLeft     float64   `json:"seconds_left,omitempty"`
	Memory          int64     `json:"memory_bytes,omitempty"` // step: the process's peak so far
	File            string    `json:"file,omitempty"`

	// samples, with Step, 0 for the base
	Samples []Sample `json:"samples,omitempty"`

	*Summary // done; the rates are the fields above, whose JSON names it shares
}

// readingOf tells of the reading of data in events.
func readingOf(report func(Event)) func(data.Progress) {
	if report == nil {
		return nil
	}
	return func(p data.Progress) {
		report(Event{Kind: "reading", Time: time.Now().UTC(), What: p.What, Done: p.Done, Of: p.Total})
	}
}

// Summary is the result of a run.
type Summary struct {
	Steps         int       `json:"steps"`
	BaseValLoss   eval.Loss `json:"base_val_loss"` // mean validation loss of the base
	ValLoss       eval.Loss `json:"val_loss"`      // and with what was learned
	TrainLoss     eval.Loss `json:"train_loss"`    // mean over the last tenth of the steps
	TrainedTokens int64     `json:"trained_tokens"`
	RawTokens     int64     `json:"raw_tokens"`
	TrainedRate   float64   `json:"tokens_per_second"` // trained tokens a second, over all steps
	RawRate       float64   `json:"raw_tokens_per_second"`
	Seconds       float64   `json:"seconds"` // in training steps
	PeakMemory    int64     `json:"peak_memory_bytes"`
	Run           string    `json:"run"`               // the run directory
	Result        string    `json:"result"`            // the file in it that the run has made
	Adapter       string    `json:"adapter,omitempty"` // the same, if it holds an adapter

	// with --patience or --keep best
	KeptStep    int        `json:"kept_step,omitempty"`     // after which the result was as it is
	LastValLoss *eval.Loss `json:"last_val_loss,omitempty"` // after the last step
	Stopped     bool       `json:"stopped_early,omitempty"` // because the validation loss had not fallen for long enough
}

// logError is a line that could not be written into log.jsonl.
type logError struct{ err error }

func (e *logError) Error() string { return e.err.Error() }
func (e *logError) Unwrap() error { return e.err }
