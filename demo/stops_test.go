package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/chat"
	"finetune/eval"
	"finetune/internal/need"
	"finetune/internal/testrun"
	"finetune/run"
	"finetune/trainer"
	"finetune/trainer/data"
	"finetune/trainer/graph"
	"finetune/trainer/optim"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// What the chats teach. Seen were 1.000 with the token to stop at in the loss and 0.000 without it.
const (
	chatSteps    = 40
	mostUntaught = 0.3 // probability of the token to stop at where it was not learned
	heldOutChats = 8
)

// talk is a question and its answer.
type talk struct{ asked, said string }

// talks are of a few forms; the last are held out.
func talks() (all []talk) {
	things := strings.Fields("sky grass snow coal sun sea rose milk night leaf cloud lemon brick sand plum fog")
	colours := strings.Fields("blue green white black yellow green red white black green grey yellow red yellow blue grey")
	for i, thing := range things {
		for _, form := range []string{"What colour is the %s?", "Tell me the colour of the %s.", "The %s, which colour does it have?"} {
			all = append(all, talk{fmt.Sprintf(form, thing), fmt.Sprintf("The %s is %s.", thing, colours[i])})
		}
	}
	return all
}

func (x talk) messages() []chat.Message {
	return []chat.Message{{Role: "user", Content: x.asked}, {Role: "assistant", Content: x.said}}
}

// TestChatModelStops: behind answers that it was not trained on, a model that chats were taught ends its turn. The token to
// stop at has to be in the loss for that: where it alone is taken out, the model does not stop.
func TestChatModelStops(t *testing.T) {
	need.Long(t, "trains the demo's base twice")
	dir := t.TempDir()
	all := talks()
	heldOut := all[len(all)-heldOutChats:]
	var lines strings.Builder
	for _, x := range all[:len(all)-heldOutChats] {
		fmt.Fprintf(&lines, `{"messages": [{"role": "user", "content": %q}, {"role": "assistant", "content": %q}]}`+"\n", x.asked, x.said)
	}
	c := run.DefaultConfig()
	c.Model, c.Data, c.Out = need.Own(t, "demo/base.gguf"), filepath.Join(dir, "chats.jsonl"), filepath.Join(dir, "run")
	c.Template, c.Method, c.Rank, c.LR, c.Ctx, c.Batch, c.Steps, c.ValFraction, c.Threads = "testdata/tools.jinja", "lora", 8, 1e-6, 128, 4, 1, 0, 1
	if err := os.WriteFile(c.Data, []byte(lines.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := trainer.Train(context.Background(), c, false, nil); err != nil { // of next to no rate, for a fresh adapter
		t.Fatal(err)
	}
	m := testrun.Model(t, c)
	windows, _ := testrun.Data(t, m, c)
	asked := newToolAsker(t, m, nil)
	asked.tools = nil
	for _, x := range []struct {
		name  string
		learn func(data.Window)
		least float64
		most  float64
	}{
		{"as it is", func(data.Window) {}, leastStop, 1},
		{"without the token to stop at", func(w data.Window) { forgetStops(w, m.Vocab()) }, 0, mostUntaught},
	} {
		path := filepath.Join(dir, "adapter.gguf")
		n := teach(t, m, c, windows.All(), x.learn, path)
		got := stopsWith(t, asked, m, path, heldOut)
		t.Logf("%s: the token to stop at behind a held-out answer: %.3f, %d tokens learned", x.name, got, n)
		if !(got >= x.least && got <= x.most) {
			t.Errorf("%s: probability of the token to stop at %.3f, want %g to %g", x.name, got, x.least, x.most)
		}
	}
}

// forgetStops takes the tokens to stop at out of what is learned.
func forgetStops(w data.Window, v *llama.Vocab) {
	for i, target := range w.Targets {
		if v.IsEOG(target) {
			w.LossMask[i] = 0
		}
	}
}

// teach trains the adapter of a run for chatSteps steps over windows of which learn decides what is learned, and saves it. It
// returns how many tokens that were.
func teach(t *testing.T, m *llama.Model, c run.Config, windows []data.Window, learn func(data.Window), path string) int64 {
	t.Helper()
	a, err := adapter.Load(filepath.Join(c.Out, run.AdapterFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range windows {
		learn(w)
	}
	shape := graph.Shape{Ctx: c.Ctx, Seqs: c.Batch}
	engine, err := graph.Prepare(m, a.Weights, graph.Options{Shape: shape, Threads: c.Threads})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	if err := engine.Allocate(); err != nil {
		t.Fatal(err)
	}
	schedule, err := optim.NewSchedule("cosine", 4e-3, 0, chatSteps, 2)
	if err != nil {
		t.Fatal(err)
	}
	params, values := trainer.AdapterParams(a, adapter.Recipe{})
	stepper := trainer.NewStepper(trainer.StepperOptions{Engine: engine, Params: params, Values: values, Schedule: schedule, Clip: 1, Threads: c.Threads})
	for step := range chatSteps {
		from := step * c.Batch
		var batch []data.Window
		for i := range c.Batch {
			batch = append(batch, windows[(from+i)%len(windows)])
		}
		if _, err := stepper.Step(context.Background(), trainer.BatchOf(batch)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Save(path); err != nil {
		t.Fatal(err)
	}
	return data.TrainedTokens(windows)
}

// stopsWith returns the mean probability, as llama.cpp computes it, of the token to stop at behind whole answers.
func stopsWith(t *testing.T, a *toolAsker, m *llama.Model, path string, talks []talk) float64 {
	t.Helper()
	e, err := eval.NewEvaluator(m, 128, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	detach, err := e.Attach(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer detach()
	a.eval = e
	var answered [][]chat.Message
	for _, x := range talks {
		answered = append(answered, x.messages())
	}
	return a.stopsBehind(answered)
}
