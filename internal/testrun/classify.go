package testrun

import (
	"fmt"
	"strings"
	"testing"

	"finetune/internal/testmodel"
	"finetune/run"
)

// Classifying is a run over a tiny encoder that learns which of two words is in a text.
func Classifying(t *testing.T, encoder string) run.Config {
	t.Helper()
	var records strings.Builder
	for i := range 80 {
		word, label := "cat", "animal"
		if i%2 == 1 {
			word, label = "tree", "plant"
		}
		fmt.Fprintf(&records, "{\"text\":\"the %s number %d\",\"label\":%q}\n", word, i/2, label)
	}
	c := Tiny(t)
	c.Model, c.Data, c.Task = testmodel.EncoderPath(t, encoder), Write(t, "texts.jsonl", records.String()), run.TaskClassify
	c.Method, c.Rank, c.Ctx, c.Batch, c.Steps, c.LR, c.ValFraction = "lora", 4, 64, 2, 40, 1e-2, 0.25
	return c.Completed(nil)
}
