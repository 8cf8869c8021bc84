package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"finetune/eval"
	"finetune/trainer"
)

// displayed returns what is drawn of a run after its events.
func displayed(columns int, events ...trainer.Event) string {
	d := &trainDisplay{resident: func() int64 { return 41 << 20 }}
	for _, e := range events {
		d.note(e, float64(e.Loss))
	}
	return strings.Join(d.picture(columns), "\n")
}

func TestTrainDisplay(t *testing.T) {
	plan := &trainer.Plan{Weights: 50 << 20, Data: 3 << 20}
	begun := []trainer.Event{{Kind: "start", Plan: plan, TotalSteps: 2000}}
	var trained []trainer.Event
	for i, loss := range []eval.Loss{8, 7, 6, 5, 4, 3, 2, 1} {
		if i%4 == 0 {
			trained = append(trained, trainer.Event{Kind: "eval", Step: 250 * i, Loss: loss})
		}
		trained = append(trained, trainer.Event{Kind: "step", Step: 250 * (i + 1), TotalSteps: 2000, Loss: loss, LR: 0.009812345,
			TokensPerSecond: 24635.4, RawPerSecond: 31000, SecondsLeft: 3725.9})
	}
	trained = append(begun, trained...)
	limited := *plan
	limited.Limit = 60 << 20
	for _, tt := range []struct {
		name    string
		columns int
		events  []trainer.Event
		want    string
	}{
		{"before the first step", 80, begun, `
memory      ━━━━━━━━━━━━━━━━━━━━━━━───────  41 of 53 MiB planned
step        ──────────────────────────────  0 of 2,000`},
		{"with a limit", 80, []trainer.Event{{Kind: "start", Plan: &limited, TotalSteps: 2000, Step: 1000}}, `
memory      ━━━━━━━━━━━━━━━━━━━━━━━───────  41 of 53 MiB planned, 60 allowed
step        ━━━━━━━━━━━━━━━───────────────  1,000 of 2,000`},
		{"amid the run", 80, trained, `
loss        █▇▆▅▄▃▂▁                        1.000, learning rate 0.00981
validation  █▁                              4.0000, 8.0000 before
memory      ━━━━━━━━━━━━━━━━━━━━━━━───────  41 of 53 MiB planned
tokens/s    24,635 trained, 31,000 raw
step        ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  2,000 of 2,000, 1 h 2 min left`},
		{"in a validation", 60, append(slices.Clone(trained), trainer.Event{Kind: "measuring", What: "validation", Done: 3, Of: 6}), `
loss        █▇▆▅▄▃▂▁    1.000, learning rate 0.00981
validation  █▁          4.0000, 8.0000 before
memory      ━━━━━━━━──  41 of 53 MiB planned
tokens/s    24,635 trained, 31,000 raw
measuring   ━━━━━─────  validation, 3 of 6`},
		{"after it", 57, append(slices.Clone(trained), trainer.Event{Kind: "measuring", Done: 3, Of: 6}, trainer.Event{Kind: "eval", Step: 2000, Loss: 2}), `
loss        1.000, learning rate 0.00981
validation  2.0000, 8.0000 before
memory      41 of 53 MiB planned
tokens/s    24,635 trained, 31,000 raw
step        2,000 of 2,000, 1 h 2 min left`},
		{"where it is narrow", 24, trained, `
loss        1.000, lear…
validation  4.0000, 8.0…
memory      41 of 53 Mi…
tokens/s    24,635 trai…
step        2,000 of 2,…`},
	} {
		want := strings.TrimPrefix(tt.want, "\n")
		if got := displayed(tt.columns, tt.events...); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, want)
		}
	}
}

// The time that is left goes down while a step takes its time, and not below nothing.
func TestTimeLeftGoesOn(t *testing.T) {
	d := newTrainDisplay()
	for _, tt := range []struct {
		since time.Duration
		want  string
	}{{0, "step        1 of 4, 30 s left"}, {10 * time.Second, "step        1 of 4, 20 s left"}, {time.Hour, "step        1 of 4, 0 s left"}} {
		d.note(trainer.Event{Kind: "step", Step: 1, TotalSteps: 4, SecondsLeft: 30.4}, 1)
		d.stepped = d.stepped.Add(-tt.since)
		lines := d.picture(40)
		if got := lines[len(lines)-1]; got != tt.want {
			t.Errorf("after %v: %q, want %q", tt.since, got, tt.want)
		}
	}
}
