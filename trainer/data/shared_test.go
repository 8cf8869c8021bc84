package data

import (
	"path/filepath"
	"testing"

	"finetune/chat"
	"finetune/internal/need"
)

// TestSharedFilesAreReadWhole: each file of instructions and tasks is read by its fields, with and without a chat template,
// to its last record.
func TestSharedFilesAreReadWhole(t *testing.T) {
	want := map[string]int{ // records, which are lines, or elements of an array
		"instruct/alpaca_en_demo.json": 999, "instruct/v1_sft_demo.jsonl": 500, "instruct/gsm8k-train.jsonl": 7473,
		"instruct/biomedqa-train.jsonl": 264, "instruct/biomedqa-test.jsonl": 33, "instruct/biomedqa-validation.jsonl": 33,
		"tasks/ARC-Easy-test.json": 2376, "tasks/ARC-Easy-train.json": 2251, "tasks/boolq-test.json": 3270, "tasks/boolq-train.json": 9427,
		"tasks/openbookqa-test.json": 500, "tasks/openbookqa-train.json": 4957, "tasks/cola-dev.tsv": 527, "tasks/cola-train.tsv": 8551,
	}
	t.Run("our own", func(t *testing.T) {
		own := need.Own(t, "trainer/data/testdata/formats/completion.jsonl")
		if s := mustLoad(t, own, options{NCtx: 4000, Tokenizer: byteTokenizer{}}).Train.Stats(); s.Records == 0 {
			t.Error("no record")
		}
	})
	for name, records := range want {
		t.Run(filepath.Base(name), func(t *testing.T) {
			path := need.Shared(t, name)
			for _, template := range []string{chatML, ""} {
				if name == "instruct/v1_sft_demo.jsonl" && template == "" {
					continue // conversations
				}
				set, err := loadFile(path, options{NCtx: 4000, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: template}})
				if err != nil {
					t.Fatal(err)
				}
				s := set.Train.Stats()
				if s.Records != records || s.Empty+s.NoLoss+s.LostRecords+s.StopsMissing+s.Inexact != 0 || s.TrainedTokens < 2*s.Records {
					t.Errorf("%d records, %d empty, %d with nothing to learn, %d learned tokens, want %d records, all of them learned",
						s.Records, s.Empty, s.NoLoss, s.TrainedTokens, records)
				}
			}
		})
	}
}
