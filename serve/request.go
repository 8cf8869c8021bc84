package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"time"

	"finetune/eval"
	"finetune/trainer/data"
)

// Defaults of OpenAI's API, for what a request leaves out.
const (
	usualTemperature = 1
	usualTopP        = 1
	usualTextTokens  = 16 // of a completion; an answer in a conversation may fill the context
)

// mostStops is how many texts may end an answer.
const mostStops = 16

// request is the body of a request, as far as it counts.
type request struct {
	Model         string          `json:"model"`
	Messages      json.RawMessage `json:"messages"` // of a conversation
	Prompt        oneText         `json:"prompt"`   // of a completion
	Stream        bool            `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Temperature         *float64 `json:"temperature"`
	TopP                *float64 `json:"top_p"`
	TopK                int      `json:"top_k"` // not of OpenAI's API, but of llama-server's and others
	Seed                *int64   `json:"seed"`
	MaxTokens           *int     `json:"max_tokens"`
	MaxCompletionTokens *int     `json:"max_completion_tokens"` // its newer name
	Stop                texts    `json:"stop"`
}

// texts is a string or a list of them.
type texts []string

func (t *texts) UnmarshalJSON(b []byte) error {
	var one *string
	if json.Unmarshal(b, &one) == nil {
		if *t = nil; one != nil {
			*t = texts{*one}
		}
		return nil
	}
	if json.Unmarshal(b, (*[]string)(t)) != nil {
		return errors.New("want a string or a list of strings")
	}
	return nil
}

// oneText is a string, or a list of one.
type oneText struct {
	text  string
	given bool
}

func (t *oneText) UnmarshalJSON(b []byte) error {
	var list texts
	if list.UnmarshalJSON(b) != nil || len(list) != 1 {
		return errors.New("want one string")
	}
	t.text, t.given = list[0], true
	return nil
}

// notSupported are fields that would change the answer, with the values that ask for nothing.
var notSupported = map[string][]string{
	"n": {"1"}, "best_of": {"1"}, "tools": {"[]"}, "functions": {"[]"}, "logprobs": {"false", "0"}, "top_logprobs": {"0"},
	"logit_bias": {"{}"}, "presence_penalty": {"0", "0.0"}, "frequency_penalty": {"0", "0.0"}, "echo": {"false"}, "suffix": {`""`},
	"response_format": {`{"type":"text"}`}, "modalities": {`["text"]`}, "audio": nil,
}

// readRequest reads a body within its limits.
func readRequest(w http.ResponseWriter, r *http.Request) (*request, error) {
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(bodyTimeout))
	defer control.SetReadDeadline(time.Time{}) // or the end of the deadline would be taken for that of the client
	body, err := io.ReadAll(io.LimitReader(r.Body, mostBody+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, problem(http.StatusRequestTimeout, "", "the body did not come within %v", bodyTimeout)
	case err != nil:
		return nil, problem(http.StatusBadRequest, "", "the body ended early: %v", err)
	case len(body) > mostBody:
		io.Copy(io.Discard, io.LimitReader(r.Body, mostDrained)) // a sender who is cut off would not see why
		return nil, problem(http.StatusRequestEntityTooLarge, "", "the body has more than %d bytes, which is the most", mostBody)
	}
	return parseRequest(body)
}

func parseRequest(body []byte) (*request, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return nil, notJSON(body, err)
	}
	for name, neutral := range notSupported {
		if value, ok := fields[name]; ok && !isNeutral(value, neutral) {
			return nil, bad(name, "%.60s is not supported here", value)
		}
	}
	q := new(request)
	for _, f := range []struct {
		name string
		into any
		want string
	}{
		{"model", &q.Model, "a string"}, {"messages", &q.Messages, "a list"}, {"prompt", &q.Prompt, "one string"},
		{"stream", &q.Stream, "true or false"}, {"stream_options", &q.StreamOptions, "an object"},
		{"temperature", &q.Temperature, "a number"}, {"top_p", &q.TopP, "a number"}, {"top_k", &q.TopK, "a whole number"},
		{"seed", &q.Seed, "a whole number"}, {"max_tokens", &q.MaxTokens, "a whole number"},
		{"max_completion_tokens", &q.MaxCompletionTokens, "a whole number"}, {"stop", &q.Stop, "a string or a list of strings"},
	} {
		value, ok := fields[f.name]
		if !ok || string(value) == "null" {
			continue
		}
		if json.Unmarshal(value, f.into) != nil {
			return nil, bad(f.name, "want %s, got %.60s", f.want, value)
		}
	}
	return q, nil
}

// notJSON says what is wrong with a body that is no object.
func notJSON(body []byte, err error) error {
	var syntax *json.SyntaxError
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return problem(http.StatusBadRequest, "", "the body is empty, want a JSON object")
	case errors.As(err, &syntax):
		return problem(http.StatusBadRequest, "", "the body is no JSON: %v at byte %d", err, syntax.Offset)
	}
	return problem(http.StatusBadRequest, "", "the body is %.60q, want a JSON object", body)
}

func isNeutral(value json.RawMessage, neutral []string) bool {
	var packed bytes.Buffer
	json.Compact(&packed, value) // of a document that parsed
	return packed.String() == "null" || slices.Contains(neutral, packed.String())
}

// job returns what the request wants of a model.
func (q *request) job(m Model, f form, nCtx int) (*job, error) {
	j := &job{model: m}
	var err error
	if j.sampling, err = q.sampling(f, nCtx); err != nil {
		return nil, err
	}
	switch {
	case f == textForm && !q.Prompt.given:
		return nil, bad("prompt", "missing, want a text to continue")
	case f == textForm:
		j.prompt = q.Prompt.text
		return j, nil
	case q.Messages == nil:
		return nil, bad("messages", "missing, want a list of messages")
	case m.Template.None():
		return nil, bad("messages", "the model has no chat template: /v1/completions continues a prompt")
	}
	j.messages, err = data.ParseMessages(q.Messages)
	return j, err
}

func (q *request) sampling(f form, nCtx int) (eval.Sampling, error) {
	s := eval.Sampling{Tokens: nCtx, Temp: usualTemperature, TopK: q.TopK, TopP: usualTopP, Seed: rand.Uint32N(math.MaxUint32), Stop: q.Stop}
	if f == textForm {
		s.Tokens = usualTextTokens
	}
	for name, most := range map[string]*int{"max_tokens": q.MaxTokens, "max_completion_tokens": q.MaxCompletionTokens} {
		if most == nil {
			continue
		}
		if *most < 1 {
			return s, bad(name, "want 1 or more, got %d", *most)
		}
		s.Tokens = min(*most, nCtx)
	}
	if q.Temperature != nil {
		s.Temp = float32(*q.Temperature)
	}
	if q.TopP != nil {
		s.TopP = float32(*q.TopP)
	}
	if q.Seed != nil {
		if *q.Seed < 0 || *q.Seed >= math.MaxUint32 { // the last one is llama.cpp's for a random one
			return s, bad("seed", "want a whole number from 0 to %d, got %d", uint32(math.MaxUint32-1), *q.Seed)
		}
		s.Seed = uint32(*q.Seed)
	}
	if len(s.Stop) > mostStops || slices.Contains(s.Stop, "") {
		return s, bad("stop", "want at most %d texts, none of them empty", mostStops)
	}
	return s, s.Validate()
}

// form is one of the two kinds of requests and answers.
type form struct {
	id           string // begins an answer's
	whole, piece string // what its object is called
}

var (
	chatForm = form{"chatcmpl-", "chat.completion", "chat.completion.chunk"}
	textForm = form{"cmpl-", "text_completion", "text_completion"}
)

// finish says in OpenAI's words why an answer ended.
func finish(g eval.Generated) string {
	if g.Ended {
		return "stop"
	}
	return "length"
}
