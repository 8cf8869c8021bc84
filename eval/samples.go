package eval

import (
	"encoding/json"
	"io"

	"finetune/internal/atomicfile"
	"finetune/trainer/data"
)

// sample is a line of what WriteSamples writes.
type sample struct {
	Line   int       `json:"line"` // of the question's file
	Gold   int       `json:"gold"`
	Tokens []int     `json:"tokens"` // of each choice
	Logs   []float64 `json:"log_likelihoods"`
	Before []float64 `json:"base_log_likelihoods,omitempty"`
}

// WriteSamples writes a line of JSON for each question: the log-likelihoods of its choices, and those before if there are
// any; before is nil or as long as logs.
func WriteSamples(path string, questions []data.Question, before, logs [][]float64) error {
	return atomicfile.Write(path, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		for i, q := range questions {
			s := sample{Line: q.Line, Gold: q.Gold, Logs: logs[i]}
			for _, a := range q.Answers {
				s.Tokens = append(s.Tokens, len(a.Tokens)-a.From)
			}
			if before != nil {
				s.Before = before[i]
			}
			if err := enc.Encode(s); err != nil {
				return err
			}
		}
		return nil
	})
}
