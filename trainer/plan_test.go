package trainer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/internal/machine"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/run"
	"finetune/trainer/graph"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

func TestPlanIsTheSumOfItsParts(t *testing.T) {
	p := Plan{Weights: 1, Adapter: 20, Gradients: 300, Optimizer: 4000, Activations: 50000, Head: 600000, Workspace: 7 << 20,
		Vocabulary: 8 << 24, Data: 9 << 28, Program: 1 << 33, Tracing: 1 << 34, Start: 1 << 36, Base: 1 << 40, Limit: 1 << 41}
	want := p.Weights + p.Adapter + p.Gradients + p.Optimizer + p.Activations + p.Head + p.Workspace + p.Vocabulary + p.Data + p.Program + p.Tracing + p.Start
	if got := p.Total(); got != want {
		t.Errorf("Total() = %d, want %d", got, want)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]int64{}
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for _, part := range p.Parts() {
		if got, ok := fields[part.Name]; !ok || got != part.Bytes {
			t.Errorf("JSON has %q = %d, %v, want %d", part.Name, got, ok, part.Bytes)
		}
	}
	if got, want := (Plan{Weights: 3 << 20, Data: 1<<20 + 1<<19}).String(), "weights 3, "; !strings.HasPrefix(got, want) || !strings.Contains(got, "data 2, ") {
		t.Errorf("String() = %q, want %q and the data as 2 MiB", got, want)
	}
}

// The sizes of a plan follow from the configuration: the adapter's parameters count, whatever the graph.
func TestPlanOfARun(t *testing.T) {
	c := testrun.Tiny(t)
	c.Batch = 2
	s := opened(t, c)
	_, parameters := s.trainable.size()
	n := int64(parameters)
	p := s.plan
	if p.Adapter != 8*n || p.Gradients != 4*n || p.Optimizer != 8*n {
		t.Errorf("adapter %d, gradients %d, optimizer %d bytes for %d parameters, want 8, 4 and 8 each", p.Adapter, p.Gradients, p.Optimizer, n)
	}
	sizes, kept := s.engine.Sizes(), int64(0)
	for _, w := range s.trainable.(*adapterTrainable).Weights {
		nIn, nOut := w.Shape()
		kept += 4 * int64(nIn+nOut)
	}
	if p.Activations != sizes.Activations || p.Head != sizes.Head || p.Workspace != sizes.Workspace+kept {
		t.Errorf("the plan says %+v, the engine that has its memory %+v", p, sizes)
	}
	if p.Base != int64(s.model.Bytes()) || p.Weights != p.Base || p.MicroBatch != 2 || p.Batch != 2 || p.Recomputed != 0 {
		t.Errorf("a plan without a limit gives something up: %+v", p)
	}
	tokens := int64(s.train.Len()+s.val.Len()) * int64(c.Ctx)
	if p.Data < 4*tokens/2 || p.Data > 20*tokens {
		t.Errorf("%d bytes for data of at most %d tokens", p.Data, tokens)
	}
	if p.Program < programBytes || p.Vocabulary < 600*100 {
		t.Errorf("program %d and vocabulary %d bytes", p.Program, p.Vocabulary)
	}
}

// Of a base of 16 bits a weight no more stays in memory than of one of 8.
func TestWideBaseIsNotKeptWhole(t *testing.T) {
	need.Long(t, "writes a model of 90 MB")
	if runtime.GOOS != "linux" {
		need.Skip(t, need.System, "weights are paged out on Linux only")
	}
	c := testrun.Tiny(t)
	c.Model = testmodel.Path(t, testmodel.Spec{Layers: 5, Embd: 1024, FF: 2048, Type: gguf.TypeF16})
	if p := opened(t, c).plan; p.Weights > leastResident || p.Weights < leastResident/2 || p.Base < leastResident*5/4 {
		t.Errorf("%d of %d bytes stay, want at most %d", p.Weights, p.Base, leastResident)
	}
}

// leastMemory is what a run of c needs for so many sequences at once when all that can be is recomputed.
func leastMemory(t *testing.T, c run.Config, seqs int) int64 {
	d := opened(t, c).demand()
	d.MaxMemory = 1
	e, err := d.Prepare(graph.Options{Shape: graph.Shape{Ctx: c.Ctx, Seqs: seqs}, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if fits, err := d.fit(e); fits || err != nil {
		t.Fatalf("fit to one byte = %v, %v", fits, err)
	}
	return d.plan(e).Total()
}

func TestMaxMemoryMakesTheMicroBatchSmaller(t *testing.T) {
	c := testrun.Tiny(t)
	c.Batch, c.LR = 4, 1e-3
	whole, least := leastMemory(t, c, 4), leastMemory(t, c, 1)
	_, want := mustTrain(t, c, false)

	small := testrun.Elsewhere(t, c)
	small.MaxMemory = fmt.Sprintf("%dB", needed((whole+least)/2))
	var micro int
	var losses []float64
	_, err := Train(context.Background(), small, false, func(e Event) {
		micro = max(micro, e.MicroBatch)
		if e.Kind == "step" {
			losses = append(losses, float64(e.Loss))
		}
	})
	if err != nil || micro < 1 || micro >= c.Batch {
		t.Fatalf("Train below %s = %v with a micro-batch of %d, want 1 to %d", small.MaxMemory, err, micro, c.Batch-1)
	}
	for i := range want {
		if !near.Within(losses[i], want[i], sameMathTolerance) {
			t.Errorf("step %d: loss %v with a micro-batch of %d, want %v", i+1, losses[i], micro, want[i])
		}
	}
}

// refusal is the error of a run below a limit, which has to show the plan.
func refusal(t *testing.T, c run.Config, limit int64) *MemoryError {
	t.Helper()
	c = testrun.Elsewhere(t, c)
	c.MaxMemory = fmt.Sprintf("%dB", limit)
	err := refused(t, c)
	var short *MemoryError
	if !errors.As(err, &short) || len(hint.Of(err)) == 0 {
		t.Fatalf("Train below %d bytes = %v, hints %q, want a *MemoryError with a hint", limit, err, hint.Of(err))
	}
	for _, part := range short.Plan.Parts() {
		if !strings.Contains(err.Error(), part.Name+" ") {
			t.Errorf("%q does not name the %s", err, part.Name)
		}
	}
	return short
}

func TestRefusalSaysWhatWouldFit(t *testing.T) {
	c := testrun.Tiny(t)
	c.Model = testmodel.Path(t, testmodel.Spec{Layers: 2, Embd: 128, Heads: 8, FF: 512, Ctx: 512})
	c.Ctx, c.Batch, c.Steps = 256, 2, 1
	long, short := leastMemory(t, c, 1), c
	short.Ctx = 64
	limit := (leastMemory(t, short, 1) + 3*long) / 4
	got := refusal(t, c, limit)
	if want := fmt.Sprintf("trainer: max-memory %d MiB: one sequence of 256 tokens needs at least ", machine.Mebibytes(limit)); !strings.HasPrefix(got.Error(), want) {
		t.Errorf("error %q, want it to begin with %q", got, want)
	}

	c.MaxMemory = fmt.Sprintf("%dB", limit)
	hints := hint.Of(refused(t, testrun.Elsewhere(t, c)))
	if len(hints) != 2 || hints[0] != "--ctx 128 fits" {
		t.Fatalf("hints %q, want the context of 128 and how much memory is enough", hints)
	}
	c.Ctx = 128
	mustTrain(t, testrun.Elsewhere(t, c), false) // with the limit that was too low for 256
	match := regexp.MustCompile(`^--max-memory (\d+MiB) is enough for 256 tokens$`).FindStringSubmatch(hints[1])
	if match == nil {
		t.Fatalf("hint %q, want a size", hints[1])
	}
	c.Ctx, c.MaxMemory = 256, match[1]
	mustTrain(t, testrun.Elsewhere(t, c), false)
}

// Opening a base maps all of its file: what is smaller than that is refused before it is done.
func TestRefusalBeforeTheBaseIsOpened(t *testing.T) {
	got := refusal(t, testrun.Tiny(t), 1<<20)
	if !strings.HasPrefix(got.Error(), "trainer: max-memory 1 MiB: opening the base needs at least ") {
		t.Errorf("error %q", got)
	}
}

// A context whose smallest graph is larger than the limit is refused without tracing it.
func TestRefusalOfAHopelessContext(t *testing.T) {
	c := testrun.Tiny(t)
	c.Model = testmodel.Path(t, testmodel.Spec{Ctx: 1 << 20})
	c.Ctx, c.Batch, c.ValFraction = 1<<16, 1, 0
	got := refusal(t, c, 100<<20)
	if mask := int64(4 << 32); got.Plan.Activations < mask || got.Plan.Segments != 0 {
		t.Errorf("%d bytes of activations, want the mask of %d at least, unmeasured", got.Plan.Activations, mask)
	}
}

// peakTolerance is what a test's process may take beside the plan of its run: the program is larger by the testing package
// and by what the tests import, and its garbage is not kept as small as the command keeps it.
const peakTolerance = 16 << 20

const childRun = "FINETUNE_TEST_RUN"

// TestChildRun is not a test: it is the run of TestLimitIsKept, in a process of its own.
func TestChildRun(t *testing.T) {
	path := os.Getenv(childRun)
	if path == "" {
		return
	}
	c, err := run.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	ggml.ReturnBlocks() // as the command does
	s, err := Train(context.Background(), c, false, func(e Event) {
		if e.Kind == "start" {
			line, _ := json.Marshal(e)
			fmt.Printf("\n%s\n", line)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\npeak %d\n", s.PeakMemory)
}

// ownProcess is the plan and the measured peak of a run in a process of its own.
func ownProcess(t *testing.T, c run.Config) (Plan, int64) {
	t.Helper()
	c = testrun.Elsewhere(t, c)
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestChildRun$")
	cmd.Env = append(os.Environ(), childRun+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var start Event
	var peak int64
	for line := range bytes.Lines(out) {
		if bytes.HasPrefix(line, []byte(`{"event"`)) {
			if err := json.Unmarshal(line, &start); err != nil {
				t.Fatal(err)
			}
		}
		if n, ok := bytes.CutPrefix(line, []byte("peak ")); ok {
			peak, _ = strconv.ParseInt(strings.TrimSpace(string(n)), 10, 64)
		}
	}
	if start.Plan == nil || peak == 0 {
		t.Fatalf("no plan or no peak in\n%s", out)
	}
	return *start.Plan, peak
}

func TestLimitIsKept(t *testing.T) {
	need.OwnMemory(t)
	if runtime.GOOS != "linux" {
		need.Skip(t, need.System, "resident sizes are compared on Linux only")
	}
	for _, method := range []string{"dual-lora", "dora"} { // the latter reads the whole base at its start
		t.Run(method, func(t *testing.T) { limitIsKept(t, method) })
	}
}

// While llama.cpp lists its graph it holds the logits of every token, and an encoder's mask of every token by every other: of a
// large vocabulary or batch that is more than training takes.
func TestTracingIsPlanned(t *testing.T) {
	need.OwnMemory(t)
	if runtime.GOOS != "linux" {
		need.Skip(t, need.System, "resident sizes are compared on Linux only")
	}
	decoder := testrun.Tiny(t)
	decoder.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 64, FF: 128, Vocab: 20000, Ctx: 512})
	decoder.Ctx, decoder.Batch, decoder.Steps, decoder.ValFraction = 256, 16, 1, 0
	encoder := testrun.Classifying(t, "bert")
	encoder.Ctx, encoder.Batch, encoder.Steps, encoder.ValFraction = 128, 64, 1, 0
	for name, c := range map[string]run.Config{"decoder": decoder, "encoder": encoder} {
		t.Run(name, func(t *testing.T) {
			free, most := ownProcess(t, c)
			if free.Tracing < free.Total()/3 || most > free.Total()+peakTolerance || most < free.Total()*8/10 {
				t.Errorf("measured %d MiB, planned %d: %v", most>>20, free.Total()>>20, free)
			}
			limit := free.Total() * 2 / 3
			c.MaxMemory = fmt.Sprintf("%dB", limit)
			p, peak := ownProcess(t, c)
			if p.Total() > limit || p.MicroBatch >= c.Batch || peak > limit+peakTolerance {
				t.Errorf("measured %d MiB, planned %d with %d sequences at once, the limit is %d: %v", peak>>20, p.Total()>>20, p.MicroBatch, limit>>20, p)
			}
			t.Logf("measured %d MiB of %d, without a limit %d of %d", peak>>20, limit>>20, most>>20, free.Total()>>20)
		})
	}
}

func limitIsKept(t *testing.T, method string) {
	c := testrun.Tiny(t)
	c.Method = method
	c.Model = testmodel.Path(t, testmodel.Spec{Layers: 6, Embd: 256, Heads: 8, HeadsKV: 8, FF: 1024, Vocab: 8000, Ctx: 512, Type: gguf.TypeF16})
	c.Ctx, c.Batch, c.Steps, c.Rank, c.ValFraction = 256, 4, 1, 8, 0
	free, most := ownProcess(t, c)
	if most > free.Total()+peakTolerance || most < free.Total()*8/10 {
		t.Errorf("without a limit: measured %d MiB, planned %d: %v", most>>20, free.Total()>>20, free)
	}
	limit := free.Total() / 2
	c.MaxMemory = fmt.Sprintf("%dB", limit)
	p, peak := ownProcess(t, c)
	if p.Total() > limit || p.Recomputed == 0 {
		t.Errorf("planned %d MiB below a limit of %d: %v", p.Total()>>20, limit>>20, p)
	}
	if peak > limit+peakTolerance {
		t.Errorf("measured %d MiB, the limit is %d: %v", peak>>20, limit>>20, p)
	}
	t.Logf("measured %d MiB of %d, without a limit %d", peak>>20, limit>>20, most>>20)
}
