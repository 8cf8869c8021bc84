package main

import (
	"fmt"
	"strconv"
	"time"

	"finetune/run"
	"finetune/trainer"
	"finetune/trainer/data"
)

// quietInterval is how often progress is said where nothing can be drawn.
const quietInterval = 20 * time.Second

// trainProgress tells people how a run goes: in lines what is worth keeping, on the board the rest.
type trainProgress struct {
	*ui
	reading func(data.Progress)
	said    time.Time
	loss    float64 // a running mean: single steps jump
	display *trainDisplay
}

func newTrainProgress(u *ui) *trainProgress {
	return &trainProgress{ui: u, reading: u.reading(), display: newTrainDisplay()}
}

func (p *trainProgress) event(e trainer.Event) {
	switch e.Kind {
	case "reading":
		p.reading(data.Progress{What: e.What, Done: e.Done, Total: e.Of})
		return
	case "start":
		p.start(e)
	case "eval":
		what := fmt.Sprintf("after step %d", e.Step)
		switch {
		case e.Initial:
			what = "of the adapter to start from"
		case e.Step == 0:
			what = "of the base"
		}
		p.say("validation loss %s: %.4f (perplexity %.2f)", what, float64(e.Loss), e.Loss.Perplexity())
	case "samples":
		p.samples(e)
	case "range":
		p.rate(e)
	case "checkpoint":
		p.say("checkpoint %q", e.File)
	case "step":
		p.mean(e)
	}
	p.display.note(e, p.loss)
	if p.show(p.display.picture) {
		return
	}
	switch {
	case e.Kind == "measuring":
		p.now("%s: %s of %s", e.What, thousands(e.Done), thousands(e.Of))
	case e.Kind == "step" && e.Step < e.TotalSteps:
		p.now("step %d of %d: loss %.3f, %s tokens/s trained, %s raw, %s left", e.Step, e.TotalSteps, p.loss,
			thousands(int64(e.TokensPerSecond)), thousands(int64(e.RawPerSecond)), clock(e.SecondsLeft))
	}
}

// start tells what will be done.
func (p *trainProgress) start(e trainer.Event) {
	what, tensors := e.Method+" over", counted(e.Matrices, "matrix", "matrices")
	if e.Method == run.MethodFull {
		what, tensors = "all of", count(e.Matrices, "tensor")
	}
	p.say("%s %q: %s trainable parameters in %s, %s", what, e.Model, thousands(int64(e.Parameters)), tensors, count(e.Threads, "thread"))
	for _, line := range e.Data {
		p.say("%s", line)
	}
	p.say("%s for training, %d for validation, %s", count(e.Windows, "window"), e.ValWindows, count(e.TotalSteps, "step"))
	p.sayPlan(e.Plan, e.Opening)
	for _, note := range e.Notes {
		p.warn(note)
	}
}

// samples shows answers, of the base with what was asked and wanted.
func (p *trainProgress) samples(e trainer.Event) {
	for i, s := range e.Samples {
		if e.Step == 0 {
			p.say("sample %d, prompt  %s", i+1, strconv.Quote(s.Prompt))
			p.say("          data    %s", strconv.Quote(s.Wanted))
			p.say("          base    %s", strconv.Quote(s.Text))
			continue
		}
		p.say("sample %d, base    %s", i+1, strconv.Quote(s.Base))
		p.say("          %-6d  %s", e.Step, strconv.Quote(s.Text))
	}
}

// rate tells what --lr auto has come to.
func (p *trainProgress) rate(e trainer.Event) {
	if len(e.Curve) == 0 {
		p.say("learning rate %g, the usual one: %s are too few for a range test", e.LR, count(e.TotalSteps, "step"))
		return
	}
	p.say("learning rate %g, by a range test of %s from %.2g to %.2g", e.LR, count(len(e.Curve), "step"), e.Curve[0].LR, e.Curve[len(e.Curve)-1].LR)
}

// mean takes a step's loss into the running mean.
func (p *trainProgress) mean(e trainer.Event) {
	const memory = 0.9 // of the running mean
	if p.loss == 0 {
		p.loss = float64(e.Loss)
	}
	p.loss = memory*p.loss + (1-memory)*float64(e.Loss)
}

// now says now and then how far something has come.
func (p *trainProgress) now(format string, args ...any) {
	if now := time.Now(); now.Sub(p.said) > quietInterval {
		p.said = now
		p.say(format, args...)
	}
}
