package run

import (
	"math"
	"strconv"

	"finetune/adapter"
	"finetune/internal/setting"

	"go.yaml.in/yaml/v3"
)

// Rate is a peak learning rate, per optimizer step, or AutoRate or Usual.
type Rate float64

// AutoRate has a range test choose the rate before the first step; the run's config.yaml then holds the number. As text it
// is "auto".
const AutoRate Rate = -1

// Usual stands for Config.UsualRate, which is known with the number of steps; the run's config.yaml then holds the number. As
// text it is "usual".
const Usual Rate = -2

const (
	autoText  = "auto"
	usualText = "usual"
	wantsRate = "auto, usual or a number above 0"
)

// Open reports whether the rate is still to be found.
func (r Rate) Open() bool { return r == AutoRate || r == Usual }

// ParseRate reads a number, auto or usual.
func ParseRate(s string) (Rate, error) {
	switch s {
	case autoText:
		return AutoRate, nil
	case usualText:
		return Usual, nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || Rate(v).Open() {
		return 0, &setting.Error{Key: "lr", Want: wantsRate, Got: strconv.Quote(s)}
	}
	return Rate(v), nil
}

// Text returns what ParseRate reads as r. It is no String, which would change what a configuration is hashed as.
func (r Rate) Text() string {
	switch r {
	case AutoRate:
		return autoText
	case Usual:
		return usualText
	}
	return strconv.FormatFloat(float64(r), 'g', -1, 64)
}

// MarshalYAML writes the number, or what stands for one.
func (r Rate) MarshalYAML() (any, error) {
	if r.Open() {
		return r.Text(), nil
	}
	return float64(r), nil
}

// UnmarshalYAML reads what MarshalYAML writes.
func (r *Rate) UnmarshalYAML(n *yaml.Node) (err error) {
	*r, err = ParseRate(n.Value)
	return err
}

// check refuses what is no rate, and one to be found where every weight is trained: the rules are those of adapters.
func (r Rate) check(method string) *setting.Error {
	if r.Open() && method == MethodFull {
		return &setting.Error{Key: "lr", Want: "a number above 0 with method full", Got: r.Text()}
	}
	return setting.Number("lr", float64(r), r > 0 || r.Open(), "a number above 0, auto or usual")
}

// What a rate is by rule of thumb, at this rank, scale and number of steps; it falls with the root of the rank and of the
// steps. A LoRA's is what no base suffers from: over SmolLM2-135M 4e-3 was as good or a little better, over Gemma 3 270M it
// lost a quarter of what was learned (docs/learning.md). A Dual LoRA with a thin start is less particular. Narrower bases want
// more: over stories260K, n_embd 64, four times as much was best. Of wider ones nothing was measured.
const (
	usualRate     = 2e-3
	usualDualRate = 6e-3 // does not follow the scale, which hardly moves a sign
	usualRank     = 8
	usualScale    = 2
	usualWidth    = 576 // n_embd; the rate falls with its power of widthPower up to there
	widthPower    = 2. / 3
	usualSteps    = 30
	fewestSteps   = 8 // that were measured: fewer have the rate of these
)

// UsualRate returns a learning rate by rule of thumb, from the method, the rank and the scale, for a run of total steps over a
// base whose residual stream is width wide (n_embd): what a range test starts from, and what a run that is too short for one
// gets.
func (c Config) UsualRate(total, width int) float64 {
	shrink := math.Sqrt(usualRank / float64(max(1, c.Rank)) * usualSteps / float64(max(fewestSteps, total)))
	shrink *= math.Pow(usualWidth/float64(min(max(1, width), usualWidth)), widthPower)
	f, err := adapter.New(adapter.Method(c.Method), 1, 1, c.Rank, float32(c.Alpha))
	if err != nil || f.Method() == adapter.MethodDual {
		return usualDualRate * shrink
	}
	return usualRate * shrink * usualScale / float64(f.Scale())
}
