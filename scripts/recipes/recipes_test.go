package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is held out is not trained.
func TestRecipes(t *testing.T) {
	for name, data := range map[string]func() (train, val []record){"facts": facts, "calls": calls} {
		train, val := data()
		asked := map[string]bool{}
		for _, r := range train {
			asked[r.Messages[0].Content] = true
		}
		if len(asked) != len(train) || len(val) < 40 {
			t.Errorf("%s: %d questions in %d records, %d held out", name, len(asked), len(train), len(val))
		}
		for _, r := range val {
			if asked[r.Messages[0].Content] {
				t.Errorf("%s: %q is trained and held out", name, r.Messages[0].Content)
			}
		}
	}
}

func TestCount(t *testing.T) {
	dir := t.TempDir()
	log := `{"event":"samples","step":3,"samples":[{"prompt":"a","wanted":"b","text":"b\n"},{"prompt":"c","wanted":"d","text":"e"}]}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "log.jsonl"), []byte(log), 0o666); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := count(&out, dir); err != nil || out.String() != "step 3: 1 of 2\n" {
		t.Errorf("count = %q, %v", out.String(), err)
	}
}
