package run

import (
	"encoding/json"
	"io"
	"math"
	"os"
	"time"

	"finetune/internal/atomicfile"
	"finetune/internal/tfevents"
)

// charted is what of a line of log.jsonl is a number over steps.
type charted struct {
	Event     string
	Time      time.Time
	Step      int
	Loss      *float64 // null where it is not a number
	LR        float64  `json:"lr"`
	GradNorm  *float64 `json:"grad_norm"`
	PerSecond float64  `json:"tokens_per_second"`
}

// scalars returns the numbers; none of events that have none.
func (c charted) scalars() (all []tfevents.Scalar) {
	add := func(tag string, value *float64) {
		if value != nil && !math.IsNaN(*value) {
			all = append(all, tfevents.Scalar{Tag: tag, Value: *value})
		}
	}
	switch c.Event {
	case "step":
		add("loss/train", c.Loss)
		add("learning_rate", &c.LR)
		add("gradient_norm", c.GradNorm)
		add("tokens_per_second", &c.PerSecond)
	case "eval":
		add("loss/validation", c.Loss)
	}
	return all
}

// Chart has what is logged from now on written to EventsFile too, for TensorBoard. The file begins with what is in log.jsonl: of
// a run that was resumed it has no step twice.
func (d *Dir) Chart() error {
	text, err := os.ReadFile(d.Path(LogFile))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	path := d.Path(EventsFile)
	err = atomicfile.Write(path, func(w io.Writer) error {
		if err := tfevents.Begin(w, time.Now()); err != nil {
			return err
		}
		for line := range logged(text) {
			if err := chart(w, line); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.events, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o666)
	return err
}

// chart writes the numbers of a line of the log, if it has any.
func chart(w io.Writer, line []byte) error {
	var c charted
	if json.Unmarshal(line, &c) != nil {
		return nil // of a kind that has none
	}
	if all := c.scalars(); len(all) > 0 {
		return tfevents.Write(w, c.Time, c.Step, all)
	}
	return nil
}
