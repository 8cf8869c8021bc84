package trainer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/eval"
	"finetune/internal/hint"
	"finetune/internal/near"
	"finetune/internal/testrun"
	"finetune/run"
	"finetune/trainer/data"
)

func TestSameSeedAndThreadsGiveTheSameRun(t *testing.T) {
	c := testrun.Tiny(t)
	c.Threads, c.Steps, c.ValFraction = 2, 4, 0
	_, first := mustTrain(t, c, false)
	again := testrun.Elsewhere(t, c)
	_, second := mustTrain(t, again, false)
	if !slices.Equal(first, second) {
		t.Errorf("losses %v, then %v, want the same bits", first, second)
	}
	if !bytes.Equal(testrun.Read(t, c.Out, run.AdapterFile), testrun.Read(t, again.Out, run.AdapterFile)) {
		t.Error("adapter.gguf differs between two equal runs")
	}
	other := testrun.Elsewhere(t, c)
	other.Seed++
	if _, third := mustTrain(t, other, false); slices.Equal(first, third) {
		t.Errorf("another seed gives the same losses %v", third)
	}
	if bytes.Equal(testrun.Read(t, c.Out, run.AdapterFile), testrun.Read(t, other.Out, run.AdapterFile)) {
		t.Error("another seed gives the same adapter.gguf")
	}
}

func TestTrainingLowersTheLossOfEveryMethod(t *testing.T) {
	for _, method := range testrun.Methods {
		c := testrun.Tiny(t)
		c.Method, c.Steps = method, 30
		s, losses := mustTrain(t, c, false)
		if !(s.ValLoss < s.BaseValLoss-0.2) || !(losses[len(losses)-1] <= losses[0]) {
			t.Errorf("%s: validation loss %v → %v, training loss %v → %v, want clearly less", method, s.BaseValLoss, s.ValLoss, losses[0], losses[len(losses)-1])
		}
		a, err := adapter.Load(s.Adapter)
		if err != nil {
			t.Fatal(err)
		}
		if a.Meta[adapter.KeyMethod] != method || len(a.Weights) != 7 {
			t.Errorf("adapter.gguf holds %d matrices of %v, want 7 of %s", len(a.Weights), a.Meta[adapter.KeyMethod], method)
		}
	}
}

// An rsLoRA is a LoRA whose alpha is √rank times as large, to the last bit, and its file says both alphas.
func TestRSLoRAIsALoRAOfALargerAlpha(t *testing.T) {
	c := testrun.Tiny(t)
	c.Method, c.Rank, c.Alpha = "rslora", 4, 3
	s, losses := mustTrain(t, c, false)
	l := testrun.Elsewhere(t, c)
	l.Method, l.Alpha = "lora", 6
	_, want := mustTrain(t, l, false)
	if !slices.Equal(losses, want) {
		t.Errorf("losses %v, want those of a LoRA with alpha 6, %v", losses, want)
	}
	a, err := adapter.Load(s.Adapter)
	if err != nil {
		t.Fatal(err)
	}
	if a.Method() != adapter.MethodLoRA || a.Alpha() != 6 || a.Weights[0].Scale() != 1.5 {
		t.Errorf("the file holds %s with alpha %v, scale %v, want a LoRA with 6 and 1.5", a.Method(), a.Alpha(), a.Weights[0].Scale())
	}
	for key, want := range map[string]any{adapter.KeyMethod: "rslora", adapter.KeyTrainedRank: uint32(4), adapter.KeyTrainedAlpha: float32(3)} {
		if a.Meta[key] != want {
			t.Errorf("%s = %v, want %v", key, a.Meta[key], want)
		}
	}
}

// sameMathTolerance is for the same sums in another order, in float32, after a few steps of an optimizer that divides by
// the gradient's size.
const sameMathTolerance = 1e-5

func TestAccumulationIsTheMeanOverAllTrainedTokens(t *testing.T) {
	for _, method := range append(testrun.Methods, run.MethodFull) {
		t.Run(method, func(t *testing.T) { accumulationIsTheMean(t, testrun.By(method, testrun.Tiny(t))) })
	}
}

func accumulationIsTheMean(t *testing.T, c run.Config) {
	c.Data, c.ValFraction, c.Steps, c.LR = testrun.Write(t, "train.jsonl", testrun.Records(60)), 0, 4, 1e-3
	c.Batch, c.GradAccum = 4, 1
	_, whole := mustTrain(t, c, false)
	for _, parts := range []int{2, 4} {
		c := testrun.Elsewhere(t, c)
		c.Batch, c.GradAccum = 4/parts, parts
		_, losses := mustTrain(t, c, false)
		for i := range whole {
			if !near.Within(losses[i], whole[i], sameMathTolerance) {
				t.Errorf("step %d: loss %v in %d parts, want %v as in one", i+1, losses[i], parts, whole[i])
			}
		}
	}
	want, meanOfMeans := firstLoss(t, c)
	if !near.Within(whole[0], want, sameMathTolerance) {
		t.Errorf("loss of the first step %v, want %v, the mean over its tokens", whole[0], want)
	}
	if !near.Apart(want, meanOfMeans, 10*sameMathTolerance) {
		t.Fatalf("mean over tokens %v, over windows %v: the data cannot tell them apart", want, meanOfMeans)
	}
}

// firstLoss is the loss of a run's first step taken window by window: the mean over tokens, and the mean of the windows' means.
func firstLoss(t *testing.T, c run.Config) (mean, meanOfMeans float64) {
	n := c.Batch * c.GradAccum
	c.Batch = 1
	s := opened(t, c)
	var sum, weight float64
	for _, i := range data.Order(c.Seed, 0, s.train.Len())[:n] {
		w := []data.Window{s.train.At(i)}
		loss, err := s.engine.Loss(w)
		if err != nil {
			t.Fatal(err)
		}
		sum, weight = sum+loss, weight+data.TotalWeight(w)
		meanOfMeans += loss / data.TotalWeight(w) / float64(n)
	}
	return sum / weight, meanOfMeans
}

// llama.cpp knows at most 256 sequences at a time; a larger batch goes through in parts.
func TestBatchOfMoreSequencesThanLlamaKnows(t *testing.T) {
	c := testrun.Tiny(t)
	c.Batch, c.Ctx, c.Steps = 300, 4, 1
	s, losses := mustTrain(t, c, false)
	if s.RawTokens != 1200 || !eval.Loss(losses[0]).Measured() {
		t.Errorf("a step of 300 windows of 4: %d tokens, loss %v, want 1200 and a number", s.RawTokens, losses[0])
	}
}

// Learning rates that make factors of such a size that the model's state overflows: with hugeRate to infinity and NaN, with
// deadRate so that its norm is zero and the gradient too.
const (
	hugeRate = 1e30
	deadRate = 1e9
)

// diverging is a run that does so in its second step.
func diverging(t *testing.T, method string, rate run.Rate) run.Config {
	c := testrun.By(method, testrun.Tiny(t))
	c.LR, c.Clip, c.Warmup, c.Schedule, c.Steps = rate, 0, 0, "constant", 3
	return c
}

func TestDivergedRunKeepsTheLastGoodState(t *testing.T) {
	for _, tt := range []struct {
		method string
		rate   run.Rate
	}{{"dual-lora", hugeRate}, {"dual-lora", deadRate}, {run.MethodFull, hugeRate}} {
		c, rate := diverging(t, tt.method, tt.rate), tt.rate
		_, err := Train(context.Background(), c, false, nil)
		if err == nil || !strings.Contains(err.Error(), "step 2: loss ") || !strings.Contains(err.Error(), "diverged") || len(hint.Of(err)) == 0 {
			t.Fatalf("Train with a learning rate of %g = %v, want an error that names step 2, with a hint", rate, err)
		}
		if testrun.Exists(c.Out, c.ResultFile()) {
			t.Errorf("learning rate %g: a diverged run has a %s", rate, c.ResultFile())
		}
		trained := opened(t, c).trainable
		params, _ := trained.params()
		got, err := readCheckpoint(filepath.Join(c.Out, "checkpoint-00000001.zst"), layout{params, trained.statistics()})
		if err != nil {
			t.Fatal(err)
		}
		if got.Step != 1 || got.Cursor != (cursor{Index: c.Batch}) {
			t.Errorf("checkpoint of step %d at %+v, want the end of step 1", got.Step, got.Cursor)
		}
		for i, values := range got.Values {
			for _, v := range values {
				if !eval.Loss(v).Measured() {
					t.Fatalf("checkpoint holds %v in %q", v, got.Layout.Params[i].Name)
				}
			}
		}
	}
}

// The last update has no step after it whose loss would tell.
func TestRunThatDivergesInItsLastStepIsNotDone(t *testing.T) {
	c := diverging(t, "dual-lora", hugeRate)
	c.Steps = 1
	_, err := Train(context.Background(), c, false, nil)
	if err == nil || !strings.Contains(err.Error(), "step 1: validation loss NaN") || testrun.Exists(c.Out, run.AdapterFile) {
		t.Errorf("Train = %v, adapter.gguf written: %v, want an error and none", err, testrun.Exists(c.Out, run.AdapterFile))
	}
}

func TestEventsOfARun(t *testing.T) {
	c := testrun.Tiny(t)
	c.Steps, c.EvalEvery, c.CheckpointEvery = 4, 2, 3
	var kinds []string
	var lines []string
	s, err := Train(context.Background(), c, false, func(e Event) {
		kinds = append(kinds, fmt.Sprint(e.Kind, e.Step))
		line, err := json.Marshal(e)
		if err != nil {
			t.Error(err)
		}
		lines = append(lines, string(line))
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"start0", "eval0", "step1", "step2", "eval2", "step3", "checkpoint3", "step4", "eval4", "checkpoint4", "done0"}
	if !slices.Equal(kinds, want) {
		t.Errorf("events %v, want %v", kinds, want)
	}
	if got := string(testrun.Read(t, c.Out, run.LogFile)); got != strings.Join(lines, "\n")+"\n" {
		t.Errorf("log.jsonl is\n%s\nwant the events as they were reported:\n%s", got, strings.Join(lines, "\n"))
	}
	events := testrun.Logged(t, c.Out)
	done := events[len(events)-1]
	for _, field := range []string{"steps", "base_val_loss", "val_loss", "train_loss", "trained_tokens", "tokens_per_second", "peak_memory_bytes", "seconds"} {
		if v, ok := done[field].(float64); !ok || !(v > 0) {
			t.Errorf("done event: %q is %v, want a number above 0", field, done[field])
		}
	}
	if done["run"] != c.Out || s.Run != c.Out {
		t.Errorf("done event: run is %v, summary's %q, want %q", done["run"], s.Run, c.Out)
	}
	if got, want := done["val_loss"], float64(s.ValLoss); got != want {
		t.Errorf("done event: val_loss is %v, want the summary's %v", got, want)
	}
	for _, field := range []string{"model", "method", "matrices", "parameters", "windows", "val_windows", "total_steps", "threads", "work_bytes", "micro_batch", "planned_bytes", "plan"} {
		if events[0][field] == nil {
			t.Errorf("start event has no %q", field)
		}
	}
	var sum float64
	plan, _ := events[0]["plan"].(map[string]any)
	for _, part := range (Plan{}).Parts() {
		bytes, ok := plan[part.Name].(float64)
		if sum += bytes; !ok {
			t.Errorf("the plan in the start event has no %q", part.Name)
		}
	}
	if got := events[0]["planned_bytes"]; got != sum {
		t.Errorf("planned_bytes are %v, the parts of the plan %v together", got, sum)
	}
	for _, field := range []string{"step", "loss", "lr", "grad_norm", "tokens_per_second", "raw_tokens_per_second"} {
		if events[2][field] == nil {
			t.Errorf("step event has no %q", field)
		}
	}
}

func TestLogEveryThinsTheLogOnly(t *testing.T) {
	c := testrun.Tiny(t)
	c.Steps, c.LogEvery = 7, 3
	_, losses := mustTrain(t, c, false)
	if got := loggedSteps(t, c.Out); len(losses) != 7 || !slices.Equal(got, []int{3, 6, 7}) {
		t.Errorf("%d steps reported, steps %v logged, want 7 and [3 6 7]", len(losses), got)
	}
}

func TestRunWithoutValidationData(t *testing.T) {
	c := testrun.Tiny(t)
	c.ValFraction, c.Steps = 0, 2
	s, _ := mustTrain(t, c, false)
	if s.ValLoss.Measured() || s.BaseValLoss.Measured() {
		t.Errorf("validation losses %v and %v without data, want none", s.BaseValLoss, s.ValLoss)
	}
	events := testrun.Logged(t, c.Out)
	if v, ok := events[len(events)-1]["val_loss"]; !ok || v != nil {
		t.Errorf("done event: val_loss is %v, want null", v)
	}
}

func TestEpochsCountEveryWindowOnce(t *testing.T) {
	c := testrun.Tiny(t)
	c.Steps, c.Epochs, c.Batch, c.GradAccum = 0, 2, 3, 2
	windows := opened(t, c).train
	var trained int64
	for i := range windows.Len() {
		trained += data.TrainedTokens([]data.Window{windows.At(i)})
	}
	s, losses := mustTrain(t, c, false)
	if want := (2*windows.Len() + 5) / 6; len(losses) != want || s.Steps != want {
		t.Errorf("%d steps over 2 epochs of %d windows, want %d", len(losses), windows.Len(), want)
	}
	if s.TrainedTokens != 2*trained || s.RawTokens != int64(2*windows.Len()*c.Ctx) {
		t.Errorf("%d tokens trained of %d, want %d of %d", s.TrainedTokens, s.RawTokens, 2*trained, 2*windows.Len()*c.Ctx)
	}
}

func TestEachPassIsAnOrderOfItsOwn(t *testing.T) {
	windows := opened(t, testrun.Tiny(t)).train
	n := windows.Len()
	tell := func(w data.Window) string { return fmt.Sprint(w.Tokens) }
	draw := func(s *Sampler) (drawn []string) {
		for _, w := range s.Next(n) {
			drawn = append(drawn, tell(w))
		}
		return drawn
	}
	s := &Sampler{Windows: windows, Seed: 1, passes: 2}
	first, second := draw(s), draw(s)
	if slices.Equal(first, second) {
		t.Errorf("two passes over %d windows in one order", n)
	}
	slices.Sort(first)
	slices.Sort(second)
	if !slices.Equal(first, second) || len(slices.Compact(first)) != n {
		t.Errorf("two passes draw %d and %d windows, want each of %d once in both", len(first), len(second), n)
	}
	if rest := draw(s); len(rest) > 0 {
		t.Errorf("%d windows after the last pass", len(rest))
	}
}

func TestNotesSayWhatBecameOfTheData(t *testing.T) {
	c := testrun.Tiny(t)
	long := fmt.Sprintf(`{"prompt": "the", "completion": %q}`+"\n", strings.Repeat(" dog", 40))
	for _, tt := range []struct{ long, want string }{
		{"cut", "1 of 21 records are longer than the context and were cut to 16 tokens"},
		{"skip", "1 of 21 records are longer than 16 tokens and were skipped"},
	} {
		c := testrun.Elsewhere(t, c)
		c.Data, c.ValFraction, c.Steps, c.LongRecords = testrun.Write(t, "train.jsonl", testrun.Records(20)+long), 0, 1, tt.long
		var notes []string
		if _, err := Train(context.Background(), c, false, func(e Event) { notes = append(notes, e.Notes...) }); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(notes, tt.want) {
			t.Errorf("--long-records %s: notes %q, want %q among them", tt.long, notes, tt.want)
		}
	}
}

func TestCancelledTrainingIsInterrupted(t *testing.T) {
	for _, at := range []string{"start0", "step2", "eval2", "step4"} {
		c := testrun.Tiny(t)
		c.Steps, c.EvalEvery = 4, 2
		ctx, cancel := context.WithCancel(context.Background())
		var after []string
		_, err := Train(ctx, c, false, func(e Event) {
			if ctx.Err() != nil {
				after = append(after, e.Kind)
			}
			if fmt.Sprint(e.Kind, e.Step) == at {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, ErrInterrupted) || len(hint.Of(err)) == 0 {
			t.Errorf("cancelled at %s: Train = %v, hints %q, want ErrInterrupted and a hint", at, err, hint.Of(err))
		}
		if !slices.Equal(after, []string{"checkpoint"}) {
			t.Errorf("cancelled at %s: then came %v, want a checkpoint alone", at, after)
		}
		if testrun.Exists(c.Out, run.AdapterFile) {
			t.Errorf("cancelled at %s: there is an adapter.gguf", at)
		}
	}
}
