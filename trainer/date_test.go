package trainer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"finetune/internal/testrun"
	"finetune/run"
)

// TestDateOfARunIsKept: a template that tells the day, as that of Granite 3 does without asking whether there is a clock,
// is told the day on which the run began, also when it goes on later.
func TestDateOfARunIsKept(t *testing.T) {
	c := testrun.Tiny(t)
	c.Template = testrun.Write(t, "dated.jinja", `{{ strftime_now('%d') }}{% for m in messages %} {{ m.role }} {{ m.content }}{% endfor %}{% if add_generation_prompt %} assistant {% endif %}`)
	c.Data = testrun.Write(t, "train.jsonl", strings.Repeat(`{"messages": [{"role": "user", "content": "the"}, {"role": "assistant", "content": "dog"}]}`+"\n", 4))
	c.ValFraction, c.Ctx, c.Steps, c.CheckpointEvery = 0, 64, 4, 2
	ctx, cancel := context.WithCancel(context.Background())
	before := time.Now().Format(run.DateLayout)
	_, err := Train(ctx, c, false, func(e Event) {
		if e.Kind == "checkpoint" {
			cancel()
		}
	})
	after := time.Now().Format(run.DateLayout)
	if !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	saved, err := run.LoadSaved(c.Out)
	if err != nil {
		t.Fatal(err)
	}
	if saved.Date != before && saved.Date != after {
		t.Errorf("date %q in the run directory, want that of today, %s", saved.Date, after)
	}
	later := saved
	later.Date = time.Now().AddDate(0, 0, 3).Format(run.DateLayout)
	if _, err := Train(context.Background(), later, true, nil); err == nil || !strings.Contains(err.Error(), "data") {
		t.Errorf("resumed with another day: %v, want a refusal because of the data", err)
	}
	if _, err := Train(context.Background(), saved, true, nil); err != nil {
		t.Errorf("resumed: %v", err)
	}
}
