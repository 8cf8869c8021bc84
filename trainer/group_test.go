package trainer

import (
	"errors"
	"strings"
	"testing"

	"finetune/internal/hint"
	"finetune/internal/testrun"
)

// What the process can take, as in a container, is kept without --max-memory as --max-memory is, and refused alike where
// nothing fits; where there is more, nothing is given up.
func TestMemoryThatTheProcessCanTake(t *testing.T) {
	c := testrun.Tiny(t)
	c.Batch = 4
	whole, least := leastMemory(t, c, 4), leastMemory(t, c, 1)
	d := opened(t, c).demand()
	for _, tt := range []struct {
		name   string
		memory int64
		batch  int // 0: refused; -1: smaller than wanted
	}{{"plenty", 1 << 40, 4}, {"between", needed((whole + least) / 2), -1}, {"too little", needed(least) / 2, 0}} {
		d.Memory = tt.memory
		e, p, err := d.Engine()
		if e != nil {
			e.Close()
		}
		refused := (*MemoryError)(nil)
		switch {
		case tt.batch == 0:
			if !errors.As(err, &refused) || refused.Given || !strings.HasPrefix(err.Error(), "trainer: memory that this process can take, ") {
				t.Errorf("%s: %v, want a refusal", tt.name, err)
			}
			if strings.Contains(strings.Join(hint.Of(err), " "), "is enough") {
				t.Errorf("%s: hints %q, as if there were more memory", tt.name, hint.Of(err))
			}
		case err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case p.Total() > tt.memory:
			t.Errorf("%s: planned %d bytes of %d", tt.name, p.Total(), tt.memory)
		case tt.batch > 0 && (p.MicroBatch != tt.batch || p.Recomputed != 0) || tt.batch < 0 && p.MicroBatch >= c.Batch:
			t.Errorf("%s: %d sequences at once, %d segments recomputed", tt.name, p.MicroBatch, p.Recomputed)
		}
	}
}
