package trainer

import (
	"fmt"

	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// loadData reads the training data and what is held out: a file of its own, or a fraction; val is nil for neither.
func loadData(m *llama.Model, c Config) (train, val *data.Windows, err error) {
	o := dataOptions(m, c)
	if c.Val == "" {
		o.ValFraction = c.ValFraction
	}
	set, err := data.Load(c.Data, o)
	if err != nil {
		return nil, nil, err
	}
	if c.Val == "" {
		return set.Train, set.Val, nil
	}
	held, err := data.Load(c.Val, dataOptions(m, c))
	if err != nil {
		return nil, nil, err
	}
	return set.Train, held.Train, nil
}

func dataOptions(m *llama.Model, c Config) data.Options {
	template, _ := m.ChatTemplate("")
	o := data.Options{NCtx: c.Ctx, Tokenizer: m.Vocab(), Template: template, Seed: c.Seed}
	if c.LongRecords == "skip" {
		o.LongRecords = data.Skip
	}
	return o
}

// LoadValidation reads the text that a run was validated on, by its configuration; nil if it held nothing out.
func LoadValidation(m *llama.Model, c Config) (*data.Windows, error) {
	_, val, err := loadData(m, c)
	return val, err
}

// LoadWindows reads what is to be evaluated by c: all of Data, or with a ValFraction the part of it that training holds
// out.
func LoadWindows(m *llama.Model, c Config) (*data.Windows, error) {
	train, val, err := loadData(m, c)
	if val != nil {
		return val, err
	}
	return train, err
}

// length is the number of windows, 0 for none.
func length(w *data.Windows) int {
	if w == nil {
		return 0
	}
	return w.Len()
}

// notes say what became of the data where that is not what the user would expect.
func notes(s data.Stats, c Config) (lines []string) {
	say := func(n int, format string, args ...any) {
		if n > 0 {
			lines = append(lines, fmt.Sprintf("%d of %d records ", n, s.Records)+fmt.Sprintf(format, args...))
		}
	}
	say(s.Cut, "are longer than the context and were cut to %d tokens", c.Ctx)
	say(s.Skipped, "are longer than %d tokens and were skipped", c.Ctx)
	say(s.Untrained, "have nothing to learn, or nothing left after the cut, and were left out")
	if s.StopsMissing > 0 {
		lines = append(lines, fmt.Sprintf("%d answers end without a token to stop at: the model will not learn to stop there", s.StopsMissing))
	}
	if s.Inexact > 0 {
		lines = append(lines, fmt.Sprintf("%d answers follow other text than an app will send, because the chat template begins answers itself", s.Inexact))
	}
	return lines
}
