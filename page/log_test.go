package page

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func logOf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log.jsonl")
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func stepLine(step int) string {
	return fmt.Sprintf(`{"event":"step","step":%d,"loss":%d}`+"\n", step, 10-step)
}

// A log is read in parts as it grows, each line once, whatever its size, and the half of a last line when it is whole.
func TestLogIsReadAsItGrows(t *testing.T) {
	whole := `{"event":"start","method":"lora"}` + "\n" + stepLine(1) + `{"event":"eval","step":1,"loss":null}` + "\n" +
		strings.Repeat("x", 3*mostLine) + "\n" + "no event\n" + stepLine(2) + `{"event":"checkpoint","step":2}` + "\n"
	half := stepLine(3)[:10]
	path := logOf(t, whole+half)
	for _, most := range []int{1, 100, mostChunk} {
		var steps []int
		var start, evals, checkpoint = 0, 0, 0
		next := int64(0)
		for more := true; more; {
			c, err := readLog(path, next, most)
			if err != nil || c.Again {
				t.Fatalf("from byte %d: again %v, %v", next, c.Again, err)
			}
			steps = append(steps, c.Steps.Step...)
			evals += len(c.Evals)
			if c.Start != nil {
				start++
			}
			checkpoint += c.Checkpoint
			next, more = c.Next, c.More
		}
		if !slices.Equal(steps, []int{1, 2}) || start != 1 || evals != 1 || checkpoint != 2 || next != int64(len(whole)) {
			t.Errorf("by %d bytes: steps %v, %d starts, %d evaluations, checkpoint %d, next %d, want [1 2], 1, 1, 2, %d", most, steps, start, evals, checkpoint, next, len(whole))
		}
	}
	if err := os.WriteFile(path, []byte(whole+stepLine(3)), 0o666); err != nil {
		t.Fatal(err)
	}
	if c, err := readLog(path, int64(len(whole)), mostChunk); err != nil || !slices.Equal(c.Steps.Step, []int{3}) {
		t.Errorf("the whole of the last line: steps %v, %v, want [3]", c.Steps.Step, err)
	}
}

// A run that is resumed cuts its log: a page that has read further begins anew. One that is gone is empty.
func TestLogThatWasCutIsReadAgain(t *testing.T) {
	text := stepLine(1) + stepLine(2)
	path := logOf(t, text)
	for name, from := range map[string]int64{"behind the end": 1000, "amid a line": 5} {
		if c, err := readLog(path, from, mostChunk); err != nil || !c.Again || !slices.Equal(c.Steps.Step, []int{1, 2}) || c.Next != int64(len(text)) {
			t.Errorf("%s: %+v, %v, want all of it again", name, c, err)
		}
	}
	if c, err := readLog(path+".not", 7, mostChunk); err != nil || !c.Again || c.Next != 0 {
		t.Errorf("a log that is gone: %+v, %v", c, err)
	}
}

// What is no number is null, for the page to leave a gap.
func TestChunkAsJSON(t *testing.T) {
	c, err := readLog(logOf(t, `{"event":"step","step":1,"loss":null,"lr":0.5}`+"\n"), 0, mostChunk)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c.Steps)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"step":[1],"loss":[null],"lr":[0.5],"norm":[null],"rate":[null],"raw":[null],"memory":[null]}`; string(text) != want {
		t.Errorf("%s, want %s", text, want)
	}
}

func FuzzLog(f *testing.F) {
	f.Add([]byte(stepLine(1)+`{"event":"samples","samples":3}`+"\n"), int64(0))
	f.Add([]byte("\n\n{}\n"), int64(1))
	f.Fuzz(func(t *testing.T, text []byte, from int64) {
		if from < 0 {
			return
		}
		c, err := readLog(logOf(t, string(text)), from, 64)
		if err != nil {
			t.Fatal(err)
		}
		if c.Next > int64(len(text)) || c.Next > 0 && text[c.Next-1] != '\n' {
			t.Errorf("the next chunk begins at byte %d of %d", c.Next, len(text))
		}
		if _, err := json.Marshal(c); err != nil {
			t.Error(err)
		}
	})
}
