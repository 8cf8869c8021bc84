package trainer

import (
	"context"
	"testing"
	"time"

	"finetune/internal/testrun"
	"finetune/run"
)

// What is done between two steps tells how far it has come, from its beginning to its end, and the log does not hold it.
func TestMeasuringIsTold(t *testing.T) {
	c := testrun.Packed(t)
	c.ValFraction, c.Steps, c.LR, c.Samples, c.CheckpointMinutes = 0.2, shortestTested, run.AutoRate, 3, 0
	c = c.Completed(none)
	clock := time.Now()
	now := func() time.Time { // every look at it takes longer than the time between two events
		clock = clock.Add(2 * measuringInterval)
		return clock
	}
	last, rounds := map[string]Event{}, map[string]int{}
	_, err := train(context.Background(), c, false, func(e Event) {
		if e.Kind != "measuring" {
			return
		}
		was, before := last[e.What]
		if !before || e.Done < was.Done {
			rounds[e.What]++
			was = Event{Of: e.Of, Done: -1}
		}
		if e.Done < was.Done || e.Done > e.Of || e.Of != was.Of {
			t.Errorf("%s: %d of %d behind %d of %d", e.What, e.Done, e.Of, was.Done, was.Of)
		}
		last[e.What] = e
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]int{"validation": 3, "samples": 2, "range test": 1} { // a thin start is measured after the base
		if rounds[what] < 1 || rounds[what] > want {
			t.Errorf("%s: told in %d rounds, want 1 to %d", what, rounds[what], want)
		}
	}
	if e := last["samples"]; e.Of != 2*answerTokens { // two of the three prompts in a pass
		t.Errorf("samples: %d tokens, want %d", e.Of, 2*answerTokens)
	}
	for _, e := range testrun.Logged(t, c.Out) {
		if e["event"] == "measuring" {
			t.Errorf("the log has %v", e)
		}
	}
}
