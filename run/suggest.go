package run

import (
	"fmt"
	"maps"
	"slices"
)

// Material is what a run has to work with, for [Config.Suggest].
type Material struct {
	CtxTrain int         // tokens that the base was trained for at most; 0 = not known
	Tokens   int         // of the data, that held out included
	Records  int         // unused for plain texts
	Lengths  map[int]int // how many records have so many tokens; empty for plain texts
}

// What Suggest goes by. More tokens in a step than stepTokens slow small models down without a better loss; with fewer steps
// than fewSteps the learning rate has hardly gone up and down.
const (
	leastSuggestedCtx = 256 // several short records share a window
	usualCtx          = 512 // of plain texts
	mostSuggestedCtx  = 4096
	ctxMultiple       = 32
	stepTokens        = 2048
	fewSteps          = 100
	manyRecords       = 20000 // from which on one pass is enough
	someRecords       = 5000  // and two
	evaluations       = 10    // in a run
)

// Suggest returns the settings with those that the material asks for in the place of theirs, and by their keys why each has its
// value.
func (c Config) Suggest(m Material) (Config, map[string]string) {
	why := map[string]string{}
	c.Ctx, why["ctx"] = m.ctx()
	windows := max(1, int(float64(m.Tokens)*(1-c.heldOut()))/c.Ctx)
	c.Epochs, why["epochs"] = m.epochs(windows)
	most := max(1, stepTokens/c.Ctx)
	c.Batch = most
	for c.Batch > 1 && c.Epochs*windows/c.Batch < fewSteps {
		c.Batch--
	}
	steps := c.TotalSteps(windows)
	why["batch"] = fmt.Sprintf("up to %d tokens a step", c.Batch*c.Ctx)
	if c.Batch < most {
		why["batch"] += ", few so that there are steps enough"
	}
	if every := steps / evaluations; every > 0 && c.heldOut() > 0 {
		c.EvalEvery, why["eval-every"] = every, fmt.Sprintf("some %d in the %d steps or so of this run", evaluations, steps)
	}
	return c, why
}

// MaxSuggestedCtx returns the longest context that Suggest comes to for a base that was trained for so many tokens, 0 = not known.
func MaxSuggestedCtx(ctxTrain int) int {
	if ctxTrain > 0 {
		return min(ctxTrain, mostSuggestedCtx)
	}
	return mostSuggestedCtx
}

// heldOut returns the share of the data that is not trained on.
func (c Config) heldOut() float64 {
	if c.Val != "" {
		return 0.1 // of files of their own, some; only the order of magnitude counts
	}
	return c.ValFraction
}

// ctx returns the tokens of a window.
func (m Material) ctx() (int, string) {
	most := MaxSuggestedCtx(m.CtxTrain)
	if len(m.Lengths) == 0 {
		return min(usualCtx, most), "tokens of a piece of the text"
	}
	nearly, longest := m.length(0.99), m.length(1)
	wanted := longest
	if longest > 2*nearly {
		wanted = nearly
	}
	ctx := (wanted + ctxMultiple - 1) / ctxMultiple * ctxMultiple
	ctx = min(max(ctx, leastSuggestedCtx), most)
	switch cut := m.longer(ctx); {
	case cut > 0:
		return ctx, fmt.Sprintf("%d of %d records are longer and are cut; the longest has %d tokens", cut, m.Records, longest)
	case ctx == leastSuggestedCtx:
		return ctx, fmt.Sprintf("the longest record has %d tokens; several share a window", longest)
	}
	return ctx, fmt.Sprintf("the longest record has %d tokens", longest)
}

// length returns the least length that a share of the records does not exceed.
func (m Material) length(share float64) int {
	all := 0
	for _, n := range m.Lengths {
		all += n
	}
	lengths, within := slices.Sorted(maps.Keys(m.Lengths)), 0
	for _, tokens := range lengths {
		if within += m.Lengths[tokens]; float64(within) >= share*float64(all) {
			return tokens
		}
	}
	return 0
}

// longer returns how many records do not fit a window: one token more than that is learned from.
func (m Material) longer(ctx int) (n int) {
	for tokens, count := range m.Lengths {
		if tokens-1 > ctx {
			n += count
		}
	}
	return n
}

// epochs returns the passes over the data.
func (m Material) epochs(windows int) (int, string) {
	switch {
	case len(m.Lengths) == 0 && windows >= fewSteps || m.Records >= manyRecords:
		return 1, "one, for so much to learn from"
	case m.Records >= someRecords:
		return 2, fmt.Sprintf("two, for %d records", m.Records)
	case len(m.Lengths) == 0:
		return 3, "three, for a short text"
	}
	return 3, fmt.Sprintf("three, for %d records; too many where the validation loss rises", m.Records)
}
