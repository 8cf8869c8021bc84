package apps

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/export"
	"finetune/gguf"
	"finetune/run"
	"finetune/trainer"
)

// baseFile and taskFile are the demo's: a base of 4.3 million parameters in Q8_0 and a task that changes what it says.
const (
	baseFile = "../demo/base.gguf"
	taskFile = "../demo/task.jsonl"
)

// others are taught beside the sentences that are asked.
const others = 12

// Settings of the two trainings: enough to learn a few records by heart, so that no answer is at a tie, in some seconds.
const (
	trainCtx   = 128
	trainBatch = 4
	trainSteps = 60
	trainRank  = 32 // whole blocks of Q8_0
	trainRate  = 4e-3
)

// variant is an adapter in one form of export.
type variant struct {
	name   string
	method adapter.Method
	mode   string
	rank   int // 0 = as trained or as retention needs it
	kind   gguf.Type
}

var variants = []variant{
	{"lora-f16", adapter.MethodLoRA, export.ModeExact, 0, gguf.TypeF16},
	{"lora-q8_0", adapter.MethodLoRA, export.ModeExact, 0, gguf.TypeQ8_0},
	{"dual-projected-f16", adapter.MethodDual, export.ModeProject, 32, gguf.TypeF16},
	{"dual-healed-f16", adapter.MethodDual, export.ModeHeal, 8, gguf.TypeF16},
	{"dual-projected-q8_0", adapter.MethodDual, export.ModeProject, 32, gguf.TypeQ8_0},
	{"dual-exact-f16", adapter.MethodDual, export.ModeExact, 0, gguf.TypeF16},
}

// material trains with both methods and exports every variant with the program's own library. The result is the path of the
// base, and a run for the base alone and for each adapter.
func material(t *testing.T) (base string, all []asked) {
	t.Helper()
	dir := t.TempDir()
	base, err := filepath.Abs(baseFile)
	if err != nil {
		t.Fatal(err)
	}
	all = []asked{{Name: "base"}}
	records := taught(t, filepath.Join(dir, "taught.jsonl"))
	trained := map[adapter.Method]string{}
	for _, v := range variants {
		if trained[v.method] == "" {
			trained[v.method] = train(t, base, records, filepath.Join(dir, string(v.method)), v.method)
		}
		path := filepath.Join(dir, v.name+".gguf")
		exportVariant(t, trained[v.method], path, v)
		all = append(all, asked{v.name, path})
	}
	return base, all
}

// taught writes the records of the sentences, and some others, to a file.
func taught(t *testing.T, path string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(taughtText(t)), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// taughtText is those records, a line each.
func taughtText(t *testing.T) string {
	t.Helper()
	task, err := os.ReadFile(taskFile)
	if err != nil {
		t.Fatal(err)
	}
	asked, more := "", ""
	for line := range strings.Lines(string(task)) {
		switch {
		case slices.ContainsFunc(sentences, func(s string) bool { return strings.Contains(line, strconv.Quote(s)) }):
			asked += line
		case strings.Count(more, "\n") < others:
			more += line
		}
	}
	if n := strings.Count(asked, "\n"); n != len(sentences) {
		t.Fatalf("%d of %d sentences are in %q", n, len(sentences), taskFile)
	}
	return asked + more
}

func train(t *testing.T, base, records, dir string, method adapter.Method) string {
	t.Helper()
	c := run.DefaultsOf(string(method))
	c.Model, c.Data, c.Out = base, records, dir
	c.Ctx, c.Batch, c.Steps, c.Rank, c.LR, c.Threads = trainCtx, trainBatch, trainSteps, trainRank, trainRate, threads
	c.ValFraction = 0 // what the adapter says is measured here, not how well
	s, err := trainer.Train(t.Context(), c, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: loss %.3f after %d steps, %.0f tokens/s", method, float64(s.TrainLoss), s.Steps, s.RawRate)
	return dir
}

func exportVariant(t *testing.T, dir, out string, v variant) {
	t.Helper()
	c := export.DefaultConfig()
	c.Run, c.Out, c.Mode, c.Rank, c.Type, c.Threads = dir, out, v.mode, v.rank, v.kind, threads
	r, err := export.Run(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !holds(t, out, v.kind) {
		t.Fatalf("%s: no tensor of type %s in %q", v.name, v.kind, out)
	}
	t.Logf("%s: %d bytes, rank %d to %d", v.name, r.Bytes, r.RankMin, r.RankMax)
}

// holds reports whether a file has a tensor of the type.
func holds(t *testing.T, path string, kind gguf.Type) bool {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tensor := range f.Tensors() {
		if tensor.Type == kind {
			return true
		}
	}
	return false
}
