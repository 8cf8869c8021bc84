package export

import (
	"path/filepath"
	"testing"

	"finetune/adapter"
	"finetune/internal/need"
	"finetune/internal/testrun/trained"
	"finetune/run"
)

// mostMetadata is the bytes that files of the same tensors may differ by: the method's name, what is kept, a rank or two of
// the tables of tensors.
const mostMetadata = 512

// onTheDemosBase is a short run on the demo's task.
func onTheDemosBase(t *testing.T, method string, start adapter.Start) run.Config {
	c := run.DefaultsOf(method)
	c.Model, c.Data, c.Out = need.Own(t, "demo/base.gguf"), need.Own(t, "demo/task.jsonl"), filepath.Join(t.TempDir(), "run")
	c.Ctx, c.Batch, c.Steps, c.Rank, c.LR, c.Threads, c.ValFraction = 64, 4, 20, 8, 6e-3, 1, 0.02
	c.Start = string(start)
	return c.Completed(func(string) bool { return false })
}

// The default export of a thin Dual LoRA is as large as that of a LoRA of its rank, and keeps what it has learned, without
// healing even where that is allowed.
func TestThinExportsAtItsOwnRank(t *testing.T) {
	need.Long(t, "trains three adapters")
	lora := onTheDemosBase(t, "lora", "")
	trained.Run(t, lora)
	_, want := exported(t, lora, func(*Config) {})
	for _, start := range []adapter.Start{adapter.StartThin, adapter.StartGradient} {
		c := onTheDemosBase(t, "dual-lora", start)
		trained.Run(t, c)
		for _, mode := range []string{ModeProject, ModeHeal} {
			x, got := exported(t, c, func(x *Config) { x.Mode = mode })
			t.Logf("%s, %s: %d bytes of rank %d to %d keep %.4f; LoRA %d bytes", start, mode, got.Bytes, got.RankMin, got.RankMax, got.Retention, want.Bytes)
			if got.RankMin != c.Rank || got.RankMax != c.Rank || got.Parameters != want.Parameters || max(got.Bytes-want.Bytes, want.Bytes-got.Bytes) > mostMetadata {
				t.Errorf("%s, %s: %d bytes, %d parameters of rank %d to %d; a LoRA of rank %d has %d and %d",
					start, mode, got.Bytes, got.Parameters, got.RankMin, got.RankMax, c.Rank, want.Bytes, want.Parameters)
			}
			if !(float64(got.Retention) >= x.Retention) || len(got.Tried) != 1 || got.Mode != ModeProject {
				t.Errorf("%s, %s: keeps %.4f after %+v, %s; want %.2f at once, by a projection", start, mode, got.Retention, got.Tried, got.Mode, x.Retention)
			}
		}
	}
}

// Where the own rank keeps too little the search goes up, and never below it; the smallest is another wish.
func TestSearchStartsAtTheOwnRank(t *testing.T) {
	c := onTheDemosBase(t, "dual-lora", adapter.StartEven)
	trained.Run(t, c)
	for _, tt := range []struct {
		share    float64
		smallest bool
		less     bool // parameters than the adapter's
		tries    int  // at least
	}{{0.3, false, false, 1}, {0.9999, false, false, 3}, {0.3, true, true, 3}} {
		_, r := exported(t, c, func(x *Config) { x.Retention, x.Smallest = tt.share, tt.smallest })
		t.Logf("%v of the gain, smallest %v: %d parameters keep %.4f after %+v", tt.share, tt.smallest, r.Parameters, r.Retention, r.Tried)
		if less := 10*r.Parameters < 9*r.Tried[0].Parameters; less != tt.less || len(r.Tried) < tt.tries {
			t.Errorf("%v of the gain, smallest %v: %d parameters after %+v", tt.share, tt.smallest, r.Parameters, r.Tried)
		}
	}
}

// Without validation data nothing can be measured: a thin start keeps its rank, an even one gets twice the parameters.
func TestUnmeasuredExportFollowsTheStart(t *testing.T) {
	for start, times := range map[adapter.Start]int{adapter.StartThin: 1, adapter.StartEven: 2} {
		c := onTheDemosBase(t, "dual-lora", start)
		c.ValFraction, c.Steps = 0, 1
		trained.Run(t, c)
		a, err := adapter.Load(filepath.Join(c.Out, run.AdapterFile))
		if err != nil {
			t.Fatal(err)
		}
		_, r := exported(t, c, func(*Config) {})
		if r.Retention.Measured() || r.Parameters > times*a.Parameters() || 10*r.Parameters < 9*times*a.Parameters() {
			t.Errorf("%s: %d parameters of %d, retention %v, want %d times, not measured", start, r.Parameters, a.Parameters(), r.Retention, times)
		}
	}
}
