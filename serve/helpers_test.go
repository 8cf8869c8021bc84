package serve_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"finetune/chat"
	"finetune/eval"
	"finetune/internal/testmodel"
	"finetune/model/native"
	"finetune/serve"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// longest is how long anything here may take on a machine that is busy with other things.
const longest = 2 * time.Minute

// tiny is a model that knows ChatML, with room for long answers.
func tiny(t *testing.T, ctx int) string {
	return testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: ctx, ChatTemplate: testmodel.ChatML})
}

// opened loads a model with a context of its own.
func opened(t *testing.T, path string, ctx int) (*llama.Model, *eval.Evaluator) {
	t.Helper()
	m, err := native.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	e, err := eval.NewEvaluator(m, ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return m, e
}

// server is one that listens, with a client.
type server struct {
	*serve.Server
	t       *testing.T
	url     string
	reports chan serve.Report
	stop    context.CancelFunc
	ended   chan error
}

// started serves models with an evaluator until the end of the test.
func started(t *testing.T, e *eval.Evaluator, models []serve.Model, o serve.Options, l net.Listener) *server {
	t.Helper()
	s := &server{t: t, url: "http://" + l.Addr().String(), reports: make(chan serve.Report, 1000), ended: make(chan error, 1)}
	o.Report = func(r serve.Report) { s.reports <- r }
	var err error
	if s.Server, err = serve.New(e, models, o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() { s.stopped() })
	return s
}

// stopped stops the server and returns what Serve did.
func (s *server) stopped() error {
	s.stop()
	select {
	case err := <-s.ended:
		s.ended <- err
		return err
	case <-time.After(longest):
		s.t.Error("the server does not stop")
		return nil
	}
}

// base is a server of a tiny model without adapters.
func base(t *testing.T, ctx int, o serve.Options) *server {
	t.Helper()
	m, e := opened(t, tiny(t, ctx), ctx)
	return started(t, e, []serve.Model{{Name: "base", Template: chat.SourceOf(m)}}, o, listening(t))
}

func listening(t *testing.T) net.Listener {
	t.Helper()
	l, err := serve.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// object is what tests look at of an answer, whole or a piece.
type object struct {
	Object, Model string
	Choices       []struct {
		Message, Delta struct{ Role, Content string }
		Text           string
		Finish         string `json:"finish_reason"`
	}
	Usage *struct {
		Prompt int `json:"prompt_tokens"`
		Answer int `json:"completion_tokens"`
		Total  int `json:"total_tokens"`
	}
	Error *struct {
		Message, Type string
		Param, Code   *string
	}
}

// reply is an answer put together.
type reply struct {
	status                    int
	text, finish, model, role string
	tokens                    int
	done                      bool // the stream said so
	failed                    string
	header                    http.Header
}

// post sends a request and reads its answer, streamed or not.
func (s *server) post(path string, body any) reply {
	s.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.send("POST", path, bytes.NewReader(text), nil)
}

func (s *server) send(method, path string, body io.Reader, header map[string]string) reply {
	s.t.Helper()
	r, err := http.NewRequest(method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for k, v := range header {
		if k == "Host" {
			r.Host = v
		}
		r.Header.Set(k, v)
	}
	client := http.Client{Timeout: longest, Transport: &http.Transport{DisableKeepAlives: true}}
	got, err := client.Do(r)
	if err != nil {
		s.t.Errorf("%s %s: %v", method, path, err)
		return reply{}
	}
	defer got.Body.Close()
	return s.read(got)
}

func (s *server) read(got *http.Response) reply {
	r := reply{status: got.StatusCode, header: got.Header}
	if !strings.HasPrefix(got.Header.Get("Content-Type"), "text/event-stream") {
		body, err := io.ReadAll(got.Body)
		if err != nil {
			s.t.Error(err)
		}
		r.add(s.t, body)
		return r
	}
	for lines := bufio.NewScanner(got.Body); lines.Scan(); {
		line, ok := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case line == "":
		case !ok || r.done:
			s.t.Errorf("line %q in a stream", line)
		case line == "[DONE]":
			r.done = true
		default:
			r.add(s.t, []byte(line))
		}
	}
	return r
}

func (r *reply) add(t *testing.T, line []byte) {
	var o object
	if len(line) == 0 {
		return
	}
	if err := json.Unmarshal(line, &o); err != nil {
		t.Errorf("%q: %v", line, err)
		return
	}
	if o.Error != nil {
		r.failed = o.Error.Message
	}
	if o.Model != "" {
		r.model = o.Model
	}
	for _, c := range o.Choices {
		r.text += c.Message.Content + c.Delta.Content + c.Text
		r.role += c.Message.Role + c.Delta.Role
		r.finish += c.Finish
	}
	if o.Usage != nil {
		r.tokens = o.Usage.Answer
		if o.Usage.Prompt+o.Usage.Answer != o.Usage.Total {
			t.Errorf("usage %+v does not add up", *o.Usage)
		}
	}
}
