package trainer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"finetune/internal/near"
	"finetune/internal/testrun"
	"finetune/run"
	"finetune/trainer/data"
)

// A run that is stopped between the passes of a step has a checkpoint of the last whole one, and resumes to the same bytes,
// those of its statistics among them.
func TestRunStoppedAmidAStepResumes(t *testing.T) {
	for _, method := range []string{"dual-lora", run.MethodFull} {
		c := epochs(t, method, 4)
		_, losses := mustTrain(t, c, false)
		amid := 0
		for asked := 1; asked < 40; asked += 3 {
			r, at := testrun.Elsewhere(t, c), -1
			_, err := Train(&countdown{Context: context.Background(), begun: true, left: asked}, r, false, func(e Event) {
				if e.Kind == "step" || e.Kind == "checkpoint" {
					at = e.Step
				}
			})
			if err == nil {
				break // the run was done before it was asked so often
			}
			if !errors.Is(err, ErrInterrupted) {
				t.Fatalf("%s, asked %d times: %v", method, asked, err)
			}
			if at > 0 && at < len(losses) {
				amid++
			}
			mustTrain(t, r, true)
			sameResult(t, fmt.Sprintf("%s, stopped when asked %d times, after step %d", method, asked, at), c.Out, r.Out, len(losses))
		}
		if amid < 3 {
			t.Errorf("%s: stopped %d times amid the run, want more", method, amid)
		}
	}
}

// The log of a run that was stopped has each validation once, as that of one that never stopped: those amid which it was
// stopped, and those of the first step and the last.
func TestValidationsAreLoggedOnce(t *testing.T) {
	c := epochs(t, "lora", 1)
	c.EvalEvery = 2
	mustTrain(t, c, false)
	want := evalSteps(t, c.Out)
	for asked := range 40 {
		r := testrun.Elsewhere(t, c)
		_, err := Train(&countdown{Context: context.Background(), begun: true, left: asked}, r, false, nil)
		if err == nil {
			if asked < 10 {
				t.Errorf("asked %d times only", asked)
			}
			break
		}
		mustTrain(t, r, true)
		if got := evalSteps(t, r.Out); !slices.Equal(got, want) {
			t.Errorf("stopped when asked %d times: validations after the steps %v, want %v", asked, got, want)
		}
	}
	if err := os.Remove(filepath.Join(c.Out, run.AdapterFile)); err != nil {
		t.Fatal(err)
	}
	mustTrain(t, c, true)
	if got := evalSteps(t, c.Out); !slices.Equal(got, want) {
		t.Errorf("resumed at its end: validations after the steps %v, want %v", got, want)
	}
}

// evalSteps are the steps of the validations that log.jsonl tells of.
func evalSteps(t *testing.T, dir string) (steps []int) {
	t.Helper()
	for _, e := range testrun.Logged(t, dir) {
		if e["event"] == "eval" {
			step, _ := e["step"].(float64) // none: 0
			steps = append(steps, int(step))
		}
	}
	return steps
}

// A batch is the windows that are drawn one after another, with the sum of their loss masks, however many passes it goes
// through, and takes no memory for those that were not asked for.
func TestBatchIsWhatIsDrawn(t *testing.T) {
	windows := opened(t, testrun.Packed(t)).train
	n := windows.Len()
	for _, tt := range []struct{ passes, before, size int }{{0, 0, 1}, {0, 0, n}, {0, 2, n}, {0, 1, 3*n + 1}, {0, n - 1, 5 * n}, {2, 0, 7 * n}, {2, 1, n}, {2, n + 1, 2 * n}} {
		one := &Sampler{Windows: windows, Seed: 1, passes: tt.passes}
		other := *one
		one.Next(tt.before)
		other.Next(tt.before)
		want := one.Next(tt.size)
		b := other.Batch(tt.size)
		later, _, _ := other.ahead(tt.size)
		if b.Len != len(want) || b.Weight != data.TotalWeight(want) {
			t.Errorf("%+v of %d: %d windows of weight %v, want %d of %v", tt, n, b.Len, b.Weight, len(want), data.TotalWeight(want))
		}
		var got []data.Window
		for len(got) < b.Len {
			got = append(got, b.Next(min(3, b.Len-len(got)))...)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v of %d: other windows than are drawn one by one", tt, n)
		}
		if other.cursor != one.cursor || later.cursor != one.cursor {
			t.Errorf("%+v of %d: then stands at %+v, ahead at %+v, want %+v", tt, n, other.cursor, later.cursor, one.cursor)
		}
	}
	huge := (&Sampler{Windows: windows, Seed: 1}).Batch(run.MaxCount * run.MaxCount)
	each := data.TotalWeight(windows.All()) / float64(n)
	if huge.Len != run.MaxCount*run.MaxCount || !near.Within(huge.Weight, each*float64(huge.Len), 1e-12) {
		t.Errorf("%d windows of weight %v, want %v of each", huge.Len, huge.Weight, each)
	}
}

// A step of a thousand million passes holds the windows of one, and ends between two of them.
func TestHugeStepIsInterrupted(t *testing.T) {
	c := testrun.Tiny(t)
	c.GradAccum, c.Steps, c.ValFraction = 1_000_000_000, 1, 0
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	begin := time.Now()
	if _, err := Train(ctx, c, false, nil); !errors.Is(err, ErrInterrupted) {
		t.Errorf("Train = %v, want ErrInterrupted", err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	if steps, err := run.ListCheckpoints(c.Out); err != nil || !slices.Equal(steps, []int{0}) {
		t.Errorf("checkpoints %v, %v, want one of step 0", steps, err)
	}
}

// By the clock a checkpoint is due after so many minutes since the last one, whatever the steps say; the result has the same
// bytes with it.
func TestCheckpointsByTime(t *testing.T) {
	c := testrun.Tiny(t)
	c.Steps = 12
	mustTrain(t, c, false)
	for _, tt := range []struct {
		minutes float64
		every   int
		want    []int // steps of checkpoints; the last is that of the end
	}{{3, 0, []int{3, 6, 9, 12}}, {2.5, 4, []int{3, 4, 7, 8, 11, 12}}, {0, 0, []int{12}}, {100, 0, []int{12}}} {
		r := testrun.Elsewhere(t, c)
		r.CheckpointMinutes, r.CheckpointEvery = tt.minutes, tt.every
		minute, steps := time.Now(), []int(nil)
		_, err := train(context.Background(), r, false, func(e Event) {
			switch e.Kind {
			case "step":
				minute = minute.Add(time.Minute)
			case "checkpoint":
				steps = append(steps, e.Step)
			}
		}, func() time.Time { return minute })
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(steps, tt.want) {
			t.Errorf("every %v minutes and %d steps: checkpoints of steps %v, want %v", tt.minutes, tt.every, steps, tt.want)
		}
		sameResult(t, fmt.Sprintf("a checkpoint every %v minutes", tt.minutes), c.Out, r.Out, c.Steps)
	}
}
