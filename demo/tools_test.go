package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/chat"
	"finetune/eval"
	"finetune/internal/llamachat"
	"finetune/internal/need"
	"finetune/model/native"
	"finetune/run"
	"finetune/trainer"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// What the toy set teaches. The form was seen in all held-out calls, the token to stop at with 0.99.
const (
	toolSteps      = 60
	leastStop      = 0.9 // probability of the token to stop at behind a whole answer
	mostStopBefore = 0.5 // and of the base, which has not learned the form
	leastCalls     = 14  // of heldOutCalls, that llama-server's parser reads back with the right function
	heldOutCalls   = 16
)

const lampAndMusic = `[{"type": "function", "function": {"name": "set_lamp", "parameters": {"type": "object", "properties": {"room": {"type": "string"}, "on": {"type": "boolean"}}}}}, ` +
	`{"type": "function", "function": {"name": "play", "parameters": {"type": "object", "properties": {"song": {"type": "string"}, "times": {"type": "integer"}}}}}]`

// toolRecord is one record of the toy set: a wish and the call that it asks for.
type toolRecord struct {
	wish, function, arguments string
}

// toolRecords are all wishes of a few forms, rooms, songs and numbers.
func toolRecords() (all []toolRecord) {
	for _, room := range strings.Fields("kitchen hall garden bedroom cellar office attic garage") {
		for _, form := range []string{"Turn the lamp in the %s %s.", "Please switch the %s light %s.", "The lamp in the %s should go %s now.", "I want the %s lamp %s."} {
			for k, state := range []string{"on", "off"} {
				all = append(all, toolRecord{fmt.Sprintf(form, room, state), "set_lamp", fmt.Sprintf(`{"room": %q, "on": %t}`, room, k == 0)})
			}
		}
	}
	for _, song := range strings.Fields("Rain Stars Home River Summer Morning Winter Sunday") {
		for _, form := range []string{"Play %s %d times.", "I want to hear %s %d times.", "Please play the song %s, %d times."} {
			for times := 1; times <= 10; times++ {
				all = append(all, toolRecord{fmt.Sprintf(form, song, times), "play", fmt.Sprintf(`{"song": %q, "times": %d}`, song, times)})
			}
		}
	}
	return all
}

func (r toolRecord) json() string {
	return fmt.Sprintf(`{"messages": [{"role": "user", "content": %q}, {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": %q, "arguments": %q}}]}], "tools": %s}`,
		r.wish, r.function, r.arguments, lampAndMusic)
}

// TestToolCallsAreLearned: a few hundred records teach the base the form of a call and where to stop, and llama-server's own
// parser reads the calls back.
func TestToolCallsAreLearned(t *testing.T) {
	need.Long(t, "trains the demo's base")
	dir := t.TempDir()
	var lines strings.Builder
	var heldOut []toolRecord
	records := toolRecords()
	for i, r := range records {
		if i%(len(records)/heldOutCalls) == 5 && len(heldOut) < heldOutCalls {
			heldOut = append(heldOut, r)
		} else {
			lines.WriteString(r.json() + "\n")
		}
	}
	c := run.DefaultConfig()
	c.Model, c.Data, c.Out = need.Own(t, "demo/base.gguf"), filepath.Join(dir, "tools.jsonl"), filepath.Join(dir, "run")
	c.Template, c.Method, c.Rank, c.LR, c.Ctx, c.Batch, c.Steps, c.ValFraction, c.Threads = "testdata/tools.jinja", "lora", 16, 4e-3, 128, 4, toolSteps, 0, 1
	if err := os.WriteFile(c.Data, []byte(lines.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := trainer.Train(context.Background(), c, false, nil); err != nil {
		t.Fatal(err)
	}
	m, err := native.Open(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e, err := eval.NewEvaluator(m, 256, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	asked := newToolAsker(t, m, e)
	before := asked.stops(heldOut)
	detach, err := e.Attach(filepath.Join(c.Out, run.AdapterFile), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := detach(); err != nil {
			t.Error(err)
		}
	}()
	after := asked.stops(heldOut)
	t.Logf("the token to stop at behind a held-out call: %.3f before, %.3f after", before, after)
	if !(before < mostStopBefore) || !(after > leastStop) {
		t.Errorf("probability of the token to stop at: %.3f before, %.3f after, want less than %g and more than %g", before, after, mostStopBefore, leastStop)
	}
	t.Run("llama-server reads them", func(t *testing.T) { asked.calls(t, heldOut) })
}

// toolAsker puts wishes to a model.
type toolAsker struct {
	*testing.T
	source   string
	template *chat.Template
	tools    any
	vocab    *llama.Vocab
	eval     *eval.Evaluator
}

func newToolAsker(t *testing.T, m *llama.Model, e *eval.Evaluator) *toolAsker {
	source, err := os.ReadFile("testdata/tools.jinja")
	if err != nil {
		t.Fatal(err)
	}
	a := &toolAsker{T: t, source: string(source), vocab: m.Vocab(), eval: e}
	var failed error
	a.template, err = chat.Parse(chat.Source{Default: a.source}, a.vocab, chat.Options{})
	a.tools, _, failed = chat.ParseTools([]byte(lampAndMusic))
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *toolAsker) render(messages []chat.Message, generate bool) string {
	text, err := a.template.Render(messages, a.tools, generate)
	if err != nil {
		a.Fatal(err)
	}
	return chat.WithoutBOS(text, a.vocab)
}

// stops returns the mean probability of the token to stop at behind the right calls.
func (a *toolAsker) stops(records []toolRecord) float64 {
	var answered [][]chat.Message
	for _, r := range records {
		call, err := chat.NewCall("", r.function, []byte(r.arguments))
		if err != nil {
			a.Fatal(err)
		}
		answered = append(answered, []chat.Message{{Role: "user", Content: r.wish}, {Role: "assistant", Null: true, Calls: []chat.Call{call}}})
	}
	return a.stopsBehind(answered)
}

// stopsBehind returns the mean probability, as llama.cpp computes it, of the token to stop at at the end of conversations.
func (a *toolAsker) stopsBehind(answered [][]chat.Message) float64 {
	var questions []data.Question
	for _, messages := range answered {
		text := a.render(messages, false)
		tokens, err := a.vocab.Tokenize(strings.TrimSpace(text), true, true)
		if err != nil {
			a.Fatal(err)
		}
		stop := len(tokens) - 1
		if !a.vocab.IsEOG(tokens[stop]) {
			a.Fatalf("%q ends with no token to stop at", text)
		}
		questions = append(questions, data.Question{Answers: []data.Answer{{Tokens: tokens, From: stop}}})
	}
	logs, err := a.eval.LogLikelihoods(context.Background(), questions, nil)
	if err != nil {
		a.Fatal(err)
	}
	sum := 0.0
	for _, l := range logs {
		sum += math.Exp(l[0])
	}
	return sum / float64(len(logs))
}

// calls has the model answer and llama-server's parser read the answers.
func (a *toolAsker) calls(t *testing.T, records []toolRecord) {
	o := llamachat.New(t)
	right, whole := 0, 0
	for _, r := range records {
		prompt := a.render([]chat.Message{{Role: "user", Content: r.wish}}, true)
		var answer strings.Builder
		if err := a.eval.Generate(context.Background(), prompt, eval.Sampling{Tokens: 80, TopP: 1}, func(s string) { answer.WriteString(s) }); err != nil {
			t.Fatal(err)
		}
		read := o.Ask(map[string]any{"template": a.source, "messages": []any{map[string]any{"role": "user", "content": r.wish}}, "tools": json.RawMessage(lampAndMusic),
			"generate": true, "answer": answer.String()})
		var m struct {
			Calls []struct {
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		if err := json.Unmarshal(read.Message, &m); err != nil || len(m.Calls) != 1 || m.Calls[0].Function.Name != r.function || !json.Valid([]byte(m.Calls[0].Function.Arguments)) {
			t.Logf("%q: %q is read as %s %s", r.wish, answer.String(), read.Message, read.Error)
			continue
		}
		right++
		call, err := chat.NewCall("", r.function, []byte(m.Calls[0].Function.Arguments))
		want, _ := chat.NewCall("", r.function, []byte(r.arguments))
		if err == nil && call.Arguments() == want.Arguments() {
			whole++
		}
	}
	t.Logf("of %d held-out wishes %d are answered by a call of the right function, %d with the right arguments too", len(records), right, whole)
	if right < leastCalls {
		t.Errorf("%d calls of the right function, want %d of %d", right, leastCalls, len(records))
	}
}
