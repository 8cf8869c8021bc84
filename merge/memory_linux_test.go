package merge

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/need"
)

// memoryAllowed is what a merge may take beside its adapters: three tiles in F32, what
// encoding and decoding them leaves as garbage, and buffers. It has nothing to do with
// the size of a tensor.
const memoryAllowed = 64 << 20

// TestMemory merges into a tensor that has 256 MiB in F32, beside one of 64 MiB that is
// only copied, and looks at the most that was resident, mapped pages included.
func TestMemory(t *testing.T) {
	need.Long(t, "writes 400 MB")
	const nIn, nOut = 8192, 8192
	base := filepath.Join(t.TempDir(), "base.gguf")
	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	for _, name := range []string{"blk.0.ffn_up.weight", "other.weight"} {
		b.AddTensorFunc(name, gguf.TypeQ8_0, []int64{nIn, nOut}, func(w io.Writer) error {
			row := make([]byte, nIn/32*34)
			for i := range row {
				row[i] = byte(i % 34 / 2) // small scales, some numbers
			}
			for range nOut {
				if _, err := w.Write(row); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := b.WriteFile(base); err != nil {
		t.Fatal(err)
	}
	lora := writeLoRA(t, base, nIn, nOut)
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		need.Skip(t, need.System, "the peak of a process cannot be set back: "+err.Error())
	}
	before := status(t, "VmRSS")
	mustMerge(t, Config{Model: base, Adapters: []Adapter{{lora, 1}}, Out: filepath.Join(t.TempDir(), "out.gguf")})
	grown := status(t, "VmHWM") - before
	t.Logf("%d MiB at most for a tensor of %d MiB", grown>>20, nIn*nOut*4>>20)
	if grown > memoryAllowed {
		t.Errorf("grew by %d MiB, want at most %d", grown>>20, memoryAllowed>>20)
	}
}

// writeLoRA writes a LoRA on the one tensor, without making its ΔW.
func writeLoRA(t *testing.T, base string, nIn, nOut int) string {
	t.Helper()
	l := &adapter.LoRA{A: adapter.NewMat(nIn, 4), B: adapter.NewMat(4, nOut)}
	for i := range l.A.Data {
		l.A.Data[i] = float32(i%7) - 3
	}
	for i := range l.B.Data {
		l.B.Data[i] = 1e-4 * (float32(i%5) - 2)
	}
	a := &adapter.Adapter{Architecture: "llama", Weights: []adapter.Weight{{Name: "blk.0.ffn_up.weight", Factors: l}}}
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	if err := a.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// status is a line of /proc/self/status in bytes.
func status(t *testing.T, key string) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			var kib int64
			if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no %s in /proc/self/status", key)
	return 0
}
