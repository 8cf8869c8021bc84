package trainer_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"finetune/internal/need"
	"finetune/internal/testrun"
	"finetune/run"
	"finetune/trainer"
)

// TestFilesTrainByTheirFieldsAlone: each file of instructions and tasks trains with no setting but its path. Of long files the
// beginning is taken; package data reads all of each.
func TestFilesTrainByTheirFieldsAlone(t *testing.T) {
	need.Long(t, "trains the demo's base on many files")
	train := func(t *testing.T, path string) {
		c := run.DefaultConfig().Completed(nil)
		c.Model, c.Data, c.Out, c.Steps, c.Threads = need.Own(t, "demo/base.gguf"), path, filepath.Join(t.TempDir(), "run"), 1, 1
		s, err := trainer.Train(context.Background(), c, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !testrun.Exists(c.Out, run.AdapterFile) || !(s.ValLoss > 0) {
			t.Errorf("validation loss %v, want one, and an adapter", s.ValLoss)
		}
	}
	t.Run("our own", func(t *testing.T) { train(t, need.Own(t, "trainer/data/testdata/pairs.parquet")) })
	for _, name := range []string{
		"instruct/alpaca_en_demo.json", "instruct/v1_sft_demo.jsonl", "instruct/gsm8k-train.jsonl",
		"instruct/biomedqa-train.jsonl", "instruct/biomedqa-test.jsonl", "instruct/biomedqa-validation.jsonl",
		"tasks/ARC-Easy-test.json", "tasks/ARC-Easy-train.json", "tasks/boolq-test.json", "tasks/boolq-train.json",
		"tasks/openbookqa-test.json", "tasks/openbookqa-train.json", "tasks/cola-dev.tsv", "tasks/cola-train.tsv",
	} {
		t.Run(filepath.Base(name), func(t *testing.T) { train(t, beginning(t, need.Shared(t, name))) })
	}
}

// beginning copies the first records of a file, lines or elements of an array.
func beginning(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const most = 20_000 // bytes, or one line more
	if len(text) > most {
		end, behind := []byte("\n"), ""
		if filepath.Ext(path) == ".json" {
			end, behind = []byte("\n    },"), "]"
			if !bytes.Contains(text, end) {
				end = []byte("\n  },")
			}
		}
		i := bytes.Index(text[most:], end)
		if i < 0 {
			t.Fatalf("%s: no end of a record", path)
		}
		text = append(bytes.TrimSuffix(text[:most+i+len(end)], []byte(",")), behind...)
	}
	return testrun.Write(t, filepath.Base(path), string(text))
}
