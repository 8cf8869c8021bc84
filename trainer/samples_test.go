package trainer

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"finetune/eval"
	"finetune/internal/testrun"
	"finetune/model/native"
	"finetune/run"
)

// sampled are the answers of a run by step, as log.jsonl has them.
func sampled(t *testing.T, dir string) (steps []int, all [][]map[string]any) {
	t.Helper()
	for _, e := range testrun.Logged(t, dir) {
		if e["event"] != "samples" {
			continue
		}
		step, _ := e["step"].(float64)
		var answers []map[string]any
		for _, s := range e["samples"].([]any) {
			answers = append(answers, s.(map[string]any))
		}
		steps, all = append(steps, int(step)), append(all, answers)
	}
	return steps, all
}

// Answers while a run goes on are those of llama.cpp with what the run has learned, and change nothing of it.
func TestSamples(t *testing.T) {
	for _, tt := range []struct{ method, data string }{
		{"lora", "train.jsonl"}, {"dual-lora", "train.jsonl"}, {"dora", "train.jsonl"}, {run.MethodFull, "train.jsonl"}, {"lora", "train.txt"},
	} {
		c := testrun.Packed(t)
		if strings.HasSuffix(tt.data, ".txt") {
			c.Data = testrun.Write(t, tt.data, testrun.Story(120))
		}
		c = testrun.By(tt.method, c)
		c.ValFraction, c.Steps, c.EvalEvery, c.LR = 0.2, 6, 3, 1e-2
		c = c.Completed(none)
		mustTrain(t, c, false)
		s := testrun.Elsewhere(t, c)
		s.Samples = 3 // more than the sequences of a pass
		mustTrain(t, s, false)
		if !bytes.Equal(testrun.Result(t, c.Out), testrun.Result(t, s.Out)) {
			t.Errorf("%s: a run with samples has another result", tt.method)
		}
		steps, all := sampled(t, s.Out)
		if len(steps) != 3 || steps[0] != 0 || steps[1] != 3 || steps[2] != 6 {
			t.Fatalf("%s: samples after the steps %v, want 0, 3 and 6", tt.method, steps)
		}
		for i, answers := range all {
			if len(answers) != 3 {
				t.Fatalf("%s: %d samples, want 3", tt.method, len(answers))
			}
			for k, a := range answers {
				if a["prompt"] == "" || i > 0 && a["base"] != all[0][k]["text"] {
					t.Errorf("%s: step %d, sample %d: %v", tt.method, steps[i], k, a)
				}
			}
		}
		if tt.data == "train.jsonl" { // windows of a text may begin inside of a word, which is then tokenized otherwise
			byLlama(t, tt.method, s, all[0], all[2])
		}
	}
}

// byLlama holds the answers of the base and of the result against llama.cpp's.
func byLlama(t *testing.T, method string, c run.Config, base, result []map[string]any) {
	t.Helper()
	for _, tt := range []struct {
		what    string
		adapted bool
		answers []map[string]any
	}{{"base", false, base}, {"result", true, result}} {
		path := c.Model
		if tt.adapted && method == run.MethodFull {
			path = filepath.Join(c.Out, run.ModelFile)
		}
		m, err := native.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		e := evaluator(t, m, c.Ctx)
		if tt.adapted && method != run.MethodFull {
			detach, err := e.Attach(c.Out, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer detach()
		}
		for _, a := range tt.answers {
			var text strings.Builder
			prompt := strings.TrimPrefix(a["prompt"].(string), m.Vocab().Piece(m.Vocab().BOS(), true))
			prompt = strings.TrimPrefix(prompt, " ") // which the tokenizer puts there
			if err := e.Generate(context.Background(), prompt, eval.Sampling{Tokens: answerTokens, TopP: 1}, func(s string) { text.WriteString(s) }); err != nil {
				t.Fatal(err)
			}
			got := strings.ReplaceAll(strings.ToValidUTF8(text.String(), "\uFFFD"), "\uFFFD\uFFFD", "\uFFFD")
			if got != a["text"] {
				t.Errorf("%s, %s: to %q it answers %q, llama.cpp %q", method, tt.what, a["prompt"], a["text"], got)
			}
		}
	}
}
