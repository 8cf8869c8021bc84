package apps

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/export"
	"finetune/gguf"
	"finetune/internal/need"
	"finetune/run"
	"finetune/trainer"
)

// The training of a real model: little, but enough for the adapter to matter.
const (
	realSteps = 20
	realCtx   = 64
	realBatch = 2
	realRank  = 8
	realAlpha = 16
	realRate  = 1e-3

	realTokens = 24 // of an answer
)

// realApps answer requests, each with its own llama.cpp.
var realApps = []struct {
	name string
	ask  func(*testing.T, request) reply
}{{"node-llama-cpp", node}, {"llama-cpp-python", python}}

// Real bases are trained a little, and two apps with their own llama.cpp give the losses and the greedy answers that we give,
// with the adapter and without.
func TestRealModels(t *testing.T) {
	if os.Getenv("REAL_MODELS") != "1" {
		need.Skip(t, need.App, "real models are tried by hand: make test-real")
	}
	programs(t, "python3")
	for _, name := range []string{"smollm2", "gemma3"} {
		t.Run(name, func(t *testing.T) {
			r := request{Model: realModel(t, name), Tokens: realTokens, Context: context, Threads: threads}
			records := realRecords(t)
			for _, s := range sentences {
				r.Prompts = append(r.Prompts, s+"\n")
			}
			r.Text = records.text
			r.Runs = []asked{{Name: "base"}, {"adapter", realAdapter(t, r.Model, records.path)}}
			want, losses := ours(t, r), oursLosses(t, r)
			adapterMatters(t, want)
			if !(mean(losses["adapter"]) < mean(losses["base"])) {
				t.Error("the adapter does not lower the loss of what it was trained on")
			}
			noise := oursOtherwise(t, r)
			exact := request{Model: inFloat32(t, r.Model), Runs: r.Runs, Prompts: []string{}, Text: r.Text, Context: r.Context, Threads: r.Threads}
			exactLosses := oursLosses(t, exact)
			for _, app := range realApps {
				t.Run(app.name, func(t *testing.T) {
					got := app.ask(t, r)
					compareReal(t, want, got.Answers)
					for _, run := range r.Runs {
						compareRounded(t, run.Name, got.Losses[run.Name], losses[run.Name], noise[run.Name])
					}
					got = app.ask(t, exact)
					for _, run := range r.Runs {
						compareExact(t, run.Name, got.Losses[run.Name], exactLosses[run.Name])
					}
				})
			}
		})
	}
}

// realModel brings a base into the user's cache.
func realModel(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join("..", "scripts", "real-model"), name).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		need.Skip(t, need.App, lastLines(exit.Stderr))
	} else if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// realMaterial is what a real model is taught.
type realMaterial struct {
	path string // records of texts
	text string // two of them
}

// realRecords makes raw text of the demo's records, which every base reads, with a chat template or without.
func realRecords(t *testing.T) (m realMaterial) {
	t.Helper()
	dir := t.TempDir()
	var records, texts []string
	for line := range strings.Lines(taughtText(t)) {
		var chat struct{ Messages []struct{ Content string } }
		if err := json.Unmarshal([]byte(line), &chat); err != nil || len(chat.Messages) != 2 {
			t.Fatalf("%v in %q", err, line)
		}
		text := chat.Messages[0].Content + "\n" + chat.Messages[1].Content + "\n"
		record, err := json.Marshal(map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		records, texts = append(records, string(record)), append(texts, text)
	}
	m = realMaterial{filepath.Join(dir, "records.jsonl"), texts[0] + texts[1]}
	if err := os.WriteFile(m.path, []byte(strings.Join(records, "\n")), 0o666); err != nil {
		t.Fatal(err)
	}
	return m
}

// realAdapter trains a LoRA and exports it.
func realAdapter(t *testing.T, base, records string) string {
	t.Helper()
	dir := t.TempDir()
	c := run.DefaultsOf(string(adapter.MethodLoRA))
	c.Model, c.Data, c.Out = base, records, filepath.Join(dir, "run")
	c.Ctx, c.Batch, c.Steps, c.Rank, c.Alpha, c.LR, c.Threads = realCtx, realBatch, realSteps, realRank, realAlpha, realRate, threads
	c.ValFraction = 0
	s, err := trainer.Train(t.Context(), c, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("loss %.3f after %d steps, %.0f tokens/s", float64(s.TrainLoss), s.Steps, s.RawRate)
	x := export.DefaultConfig()
	x.Run, x.Out, x.Mode, x.Type, x.Threads = c.Out, filepath.Join(dir, "adapter.gguf"), export.ModeExact, gguf.TypeF16, threads
	if _, err := export.Run(t.Context(), x, nil); err != nil {
		t.Fatal(err)
	}
	return x.Out
}

// compareReal holds an app's answers against ours. One may go another way only where two tokens were nearly as likely.
func compareReal(t *testing.T, want []reference, got []answer) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d answers, want %d", len(got), len(want))
	}
	alike := 0
	for i, w := range want {
		n := agreement(w.Tokens, got[i].Tokens)
		switch {
		case n == len(w.Tokens) && n == len(got[i].Tokens):
			alike++
		case w.lead(n) > leastLead:
			t.Errorf("%s, prompt %d: token %d differs, where ours was %.4f ahead of the next\ngot  %q\nwant %q", w.Run, i%len(sentences), n, w.lead(n), got[i].Text, w.Text)
		default:
			t.Logf("%s, prompt %d: the same for %d tokens, then ours was %.4f ahead", w.Run, i%len(sentences), n, w.lead(n))
		}
	}
	t.Logf("%d of %d answers are the same to the end", alike, len(want))
}
