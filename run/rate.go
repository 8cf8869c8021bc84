package run

import (
	"math"
	"strconv"

	"finetune/adapter"
	"finetune/internal/setting"

	"go.yaml.in/yaml/v3"
)

// Rate is a peak learning rate, per optimizer step, or AutoRate.
type Rate float64

// AutoRate has a range test choose the rate before the first step; the run's config.yaml then holds the number. As text it
// is "auto".
const AutoRate Rate = -1

const (
	autoText  = "auto"
	wantsRate = "auto or a number above 0"
)

// ParseRate reads a number, or auto.
func ParseRate(s string) (Rate, error) {
	if s == autoText {
		return AutoRate, nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || Rate(v) == AutoRate {
		return 0, &setting.Error{Key: "lr", Want: wantsRate, Got: strconv.Quote(s)}
	}
	return Rate(v), nil
}

// Text returns what ParseRate reads as r. It is no String, which would change what a configuration is hashed as.
func (r Rate) Text() string {
	if r == AutoRate {
		return autoText
	}
	return strconv.FormatFloat(float64(r), 'g', -1, 64)
}

// MarshalYAML writes the number, or auto.
func (r Rate) MarshalYAML() (any, error) {
	if r == AutoRate {
		return autoText, nil
	}
	return float64(r), nil
}

// UnmarshalYAML reads a number, or auto.
func (r *Rate) UnmarshalYAML(n *yaml.Node) (err error) {
	*r, err = ParseRate(n.Value)
	return err
}

// check refuses what is no rate, and auto where every weight is trained: there is no adapter to try it on.
func (r Rate) check(method string) *setting.Error {
	if r == AutoRate && method == MethodFull {
		return &setting.Error{Key: "lr", Want: "a number above 0 with method full", Got: autoText}
	}
	return setting.Number("lr", float64(r), r > 0 || r == AutoRate, "a number above 0, or auto")
}

// What a rate is by rule of thumb, at this rank, scale and number of steps; it falls with the root of the rank and of the
// steps. On SmolLM2-135M, every layer adapted, that is 7.7e-3 for 8 steps of a LoRA, where 8e-3 was the best of four.
const (
	usualRate     = 4e-3
	usualDualRate = 6e-3 // does not follow the scale, which hardly moves a sign
	usualRank     = 8
	usualScale    = 2
	usualSteps    = 30
	fewestSteps   = 8 // that were measured: fewer have the rate of these
)

// UsualRate returns a learning rate by rule of thumb, from the method, the rank and the scale, for a run of total steps: what
// a range test starts from, and what a run that is too short for one gets.
func (c Config) UsualRate(total int) float64 {
	shrink := math.Sqrt(usualRank / float64(max(1, c.Rank)) * usualSteps / float64(max(fewestSteps, total)))
	f, err := adapter.New(adapter.Method(c.Method), 1, 1, c.Rank, float32(c.Alpha))
	if err != nil || f.Method() == adapter.MethodDual {
		return usualDualRate * shrink
	}
	return usualRate * shrink * usualScale / float64(f.Scale())
}
