package trainer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"finetune/internal/machine"
	"finetune/internal/need"
	"finetune/run"
)

// largeMemory is what a run over data of any size may have in memory that is not pages of files, in bytes.
const largeMemory = 300 << 20

// TestLargeData trains some steps on records and on a text that go through the cache: 10 MB of each, or as many bytes as
// LARGE_DATA says, which is make test-large; only there the memory is the run's own.
func TestLargeData(t *testing.T) {
	need.Long(t, "10 MB are tokenized twice")
	size, err := strconv.ParseInt(os.Getenv("LARGE_DATA"), 10, 64)
	alone := err == nil
	if !alone {
		size = 10_000_000
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, name := range []string{"data.jsonl", "data.txt"} {
		t.Run(name, func(t *testing.T) {
			n := size
			if name == "data.txt" {
				n = max(10_000_000, size/4)
			}
			c := run.DefaultConfig()
			c.Model, c.Data, c.Out = need.Own(t, "demo/base.gguf"), filepath.Join(t.TempDir(), name), filepath.Join(t.TempDir(), "run")
			c.Ctx, c.Batch, c.Steps, c.Threads, c.ValTokens, c.LR = 256, 2, 2, 2, 1024, 1e-4
			writeLarge(t, c.Data, n)
			first := trainedOn(t, c, alone, "tokenizing")
			c.Out = filepath.Join(t.TempDir(), "again")
			if again := trainedOn(t, c, alone, ""); !slices.Equal(first, again) {
				t.Errorf("losses %v from the cache, want %v", again, first)
			}
		})
	}
}

// trainedOn trains, and returns the losses. what is to be told of the reading, "" that the data is not tokenized.
func trainedOn(t *testing.T, c run.Config, alone bool, what string) (losses []float64) {
	t.Helper()
	c = c.Completed(func(string) bool { return false })
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	peak, stop := watchMemory()
	began := time.Now()
	var read time.Duration
	told := map[string]bool{}
	_, err := Train(context.Background(), c, false, func(e Event) {
		switch e.Kind {
		case "reading":
			told[e.What] = true
		case "start":
			read = time.Since(began)
		case "step", "eval":
			losses = append(losses, float64(e.Loss))
		}
	})
	stop()
	if err != nil {
		t.Fatal(err)
	}
	if told["tokenizing"] != (what != "") {
		t.Errorf("told of %v, want %q", told, what)
	}
	t.Logf("%s: read in %v, at most %d MiB of the process's own memory, %d MiB with pages of files", filepath.Base(c.Data), read.Round(time.Second), peak.Load()>>20, machine.PeakMemory()>>20)
	if alone && peak.Load() > largeMemory {
		t.Errorf("%d bytes of memory, want at most %d", peak.Load(), largeMemory)
	}
	return losses
}

// watchMemory keeps the most that the process has in memory besides pages of files; 0 where the system does not tell.
func watchMemory() (peak *atomic.Int64, stop func()) {
	peak, done := new(atomic.Int64), make(chan struct{})
	go func() {
		for {
			status, _ := os.ReadFile("/proc/self/status")
			for line := range bytes.Lines(status) {
				if value, ok := strings.CutPrefix(string(line), "RssAnon:"); ok {
					kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
					peak.Store(max(peak.Load(), kib<<10))
				}
			}
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return peak, func() { close(done) }
}

// writeLarge writes records, or a text, of random words.
func writeLarge(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	words := strings.Fields("the little girl went to her house and saw a big dog who was very sad because it had no friend at all so they played in garden until mother called them for dinner")
	r := rand.New(rand.NewPCG(1, 1))
	text := func(most int) string {
		var b strings.Builder
		for range 1 + r.IntN(most) {
			b.WriteString(words[r.IntN(len(words))])
			b.WriteByte(' ')
		}
		return b.String()
	}
	for n := int64(0); n < size; {
		line := text(300)
		if strings.HasSuffix(path, ".jsonl") {
			b, err := json.Marshal(map[string]string{"prompt": text(60), "completion": line})
			if err != nil {
				t.Fatal(err)
			}
			line = string(b)
		}
		k, _ := fmt.Fprintln(w, line)
		n += int64(k)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
