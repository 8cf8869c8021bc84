package serve_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"finetune/chat"
	"finetune/eval"
	"finetune/internal/testrun"
	"finetune/internal/testrun/trained"
	"finetune/serve"
)

// question is a request, and what answers it when nobody else asks anything.
type question struct {
	path string
	body map[string]any
	want reply
}

// 100 requests of 8 clients, for the base and two adapters at several scales, greedy and drawn, streamed and not: each is answered
// as by an evaluator that has that adapter attached and nothing else to do.
func TestAnswersAreThoseOfOneAlone(t *testing.T) {
	const nCtx, requests, clients = 96, 100, 8
	c := testrun.Tiny(t)
	c.Model, c.Steps, c.LR = tiny(t, nCtx), 20, 5e-2
	runs := map[string]string{}
	for _, method := range []string{"lora", "dual-lora"} {
		run := testrun.By(method, testrun.Elsewhere(t, c))
		trained.Run(t, run)
		runs[method] = run.Out
	}
	m, alone := opened(t, c.Model, nCtx)
	template := chat.SourceOf(m)

	ours, e := opened(t, c.Model, nCtx)
	models := []serve.Model{{Name: "base", Template: chat.SourceOf(ours)}}
	for name, run := range runs {
		a, err := e.Load(run)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Use(); a.Close() })
		models = append(models, serve.Model{Name: name, Adapter: a, Scale: 1, Template: template})
	}
	s := started(t, e, models, serve.Options{}, listening(t))

	var questions []question
	seen := map[string]int{}
	for name, of := range map[string]eval.Scaled{"base": {}, "lora": {Scale: 1}, "lora:0.5": {Scale: 0.5}, "lora:-1": {Scale: -1}, "dual-lora": {Scale: 1}} {
		method, _, _ := strings.Cut(name, ":")
		detach := func() error { return nil }
		if run, ok := runs[method]; ok {
			var err error
			if detach, err = alone.Attach(run, of.Scale); err != nil {
				t.Fatal(err)
			}
		}
		for i, text := range []string{"the girl had", "once upon a time there was a big dog"} {
			for temp, seed := range map[float32]uint32{0: 0, 0.9: 7} {
				for _, conversation := range []bool{true, false} {
					q := asked(t, alone, template, name, text, eval.Sampling{Tokens: 10 + 5*i, Temp: temp, TopP: 0.95, Seed: seed}, conversation)
					seen[fmt.Sprint(i, temp, conversation, q.want.text)]++
					questions = append(questions, q)
				}
			}
		}
		if err := detach(); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) < len(questions)/2 {
		t.Fatalf("%d different answers to %d questions: adapters do too little to tell", len(seen), len(questions))
	}

	var clientsDone sync.WaitGroup
	for client := range clients {
		clientsDone.Go(func() {
			for i := client; i < requests; i += clients {
				q := questions[i*7%len(questions)]
				body := map[string]any{"stream": i%3 > 0, "stream_options": map[string]any{"include_usage": true}}
				for k, v := range q.body {
					body[k] = v
				}
				got := s.post(q.path, body)
				want := q.want
				want.done = i%3 > 0
				got.header, want.header = nil, nil
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("request %d, %v:\n got %+v\nwant %+v", i, body, got, want)
				}
			}
		})
	}
	clientsDone.Wait()
	if err := s.stopped(); err != nil {
		t.Errorf("Serve() = %v", err)
	}
	if len(s.reports) != requests {
		t.Errorf("%d reports, want %d", len(s.reports), requests)
	}
}

// asked returns a request with the answer of an evaluator that is used for nothing else.
func asked(t *testing.T, e *eval.Evaluator, template chat.Source, model, text string, s eval.Sampling, conversation bool) question {
	t.Helper()
	q := question{path: "/v1/completions", body: map[string]any{"model": model, "max_tokens": s.Tokens, "temperature": s.Temp, "top_p": s.TopP, "seed": s.Seed}}
	prompt := text
	q.want.model, q.want.status = model, 200
	if conversation {
		q.path, q.want.role = "/v1/chat/completions", "assistant"
		messages := []chat.Message{{Role: "system", Content: "answer with one word"}, {Role: "user", Content: text}}
		var err error
		if prompt, err = chat.PromptFrom(template, e.Vocab(), chat.Options{Now: time.Now()}, messages); err != nil {
			t.Fatal(err)
		}
		q.body["messages"] = []map[string]any{{"role": "system", "content": "answer with one word"},
			{"role": "user", "content": []map[string]any{{"type": "text", "text": text}}}}
	} else {
		q.body["prompt"] = text
	}
	tokens, _, err := e.Prompt(prompt)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	g, err := e.Continue(context.Background(), tokens, s, func(piece string) { said.WriteString(piece) })
	if err != nil {
		t.Fatal(err)
	}
	encoded, _ := json.Marshal(said.String()) // bytes that are no characters do not survive JSON
	json.Unmarshal(encoded, &q.want.text)
	q.want.tokens, q.want.finish = g.Tokens, "length"
	if g.Ended {
		q.want.finish = "stop"
	}
	return q
}

func TestModelsAreListed(t *testing.T) {
	t.Parallel()
	s := base(t, 64, serve.Options{})
	for path, want := range map[string]int{"/v1/models": 200, "/v1/models/base": 200, "/v1/models/other": 404, "/health": 200} {
		if got := s.send("GET", path, nil, nil); got.status != want {
			t.Errorf("GET %s = %d, want %d", path, got.status, want)
		}
	}
}

func TestNamesThatAreNone(t *testing.T) {
	t.Parallel()
	m, e := opened(t, tiny(t, 64), 64)
	source := chat.SourceOf(m)
	a := new(eval.Adapter)
	for name, models := range map[string][]serve.Model{
		"none":         nil,
		"empty":        {{Template: source}},
		"twice":        {{Name: "a"}, {Name: "a", Adapter: a}},
		"with a colon": {{Name: "a"}, {Name: "b:1", Adapter: a}},
		"not printed":  {{Name: "a\x1b[1m"}},
	} {
		if _, err := serve.New(e, models, serve.Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := serve.New(e, []serve.Model{{Name: "ollama:a:b"}}, serve.Options{}); err != nil {
		t.Error(err)
	}
	for _, token := range []string{"short", "sixteen characters", "0123456789abcde\n"} {
		if _, err := serve.New(e, []serve.Model{{Name: "a"}}, serve.Options{Token: token}); err == nil {
			t.Errorf("token %q: no error", token)
		}
	}
}

func TestStopsAreNotGivenOut(t *testing.T) {
	t.Parallel()
	s := base(t, 128, serve.Options{})
	ask := map[string]any{"prompt": "once upon a time", "max_tokens": 30, "temperature": 0}
	all := s.post("/v1/completions", ask)
	if len(all.text) < 12 || all.finish != "length" {
		t.Fatalf("%+v: too short to be stopped", all)
	}
	stop := strings.ToValidUTF8(all.text[5:9], "")
	before, _, _ := strings.Cut(all.text, stop)
	for _, stream := range []bool{false, true} {
		ask["stop"], ask["stream"] = []string{"never said", stop}, stream
		if got := s.post("/v1/completions", ask); got.text != before || got.finish != "stop" {
			t.Errorf("stream %v: %q, ended by %q, want %q by stop", stream, got.text, got.finish, before)
		}
	}
}
