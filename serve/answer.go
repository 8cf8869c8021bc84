package serve

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"finetune/eval"
)

// answer returns what handles requests of one form.
func (s *Server) answer(f form) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		report := Report{Path: r.URL.Path, Status: http.StatusOK}
		report.Err = s.write(w, r, f, &report)
		if report.Err != nil {
			report.Status = apiErrorOf(report.Err).status
		}
		report.Took = time.Since(began)
		if s.options.Report != nil {
			s.options.Report(report)
		}
	}
}

// write answers a request, or refuses it and returns why.
func (s *Server) write(w http.ResponseWriter, r *http.Request, f form, report *Report) error {
	select {
	case s.requests <- struct{}{}:
		defer func() { <-s.requests }()
	default:
		err := problem(http.StatusServiceUnavailable, "", "%d requests wait already, try again", mostRequests)
		refuse(w, err)
		return err
	}
	j, q, err := s.read(w, r, f)
	if err != nil {
		refuse(w, apiErrorOf(err))
		return err
	}
	report.Model = j.model.Name
	a := &answer{form: f, model: j.model.Name, id: f.id + rand.Text(), created: time.Now().Unix()}
	if q.Stream {
		report.Generated, err = s.stream(w, r, j, a, q.StreamOptions.IncludeUsage)
		return err
	}
	var text strings.Builder
	report.Generated, err = s.engine.generate(r.Context(), j, func() {}, func(piece string) { text.WriteString(piece) })
	if err != nil {
		refuse(w, apiErrorOf(err))
		return err
	}
	return send(w, http.StatusOK, a.whole(text.String(), report.Generated))
}

// read reads a request and finds its model.
func (s *Server) read(w http.ResponseWriter, r *http.Request, f form) (*job, *request, error) {
	q, err := readRequest(w, r)
	if err != nil {
		return nil, nil, err
	}
	m, err := s.model(q.Model)
	if err != nil {
		return nil, nil, err
	}
	j, err := q.job(m, f, s.engine.eval.NCtx())
	return j, q, err
}

// answer is what all parts of an answer have in common.
type answer struct {
	form
	model, id string
	created   int64 // seconds since 1970
}

// object is an answer, or a piece of one.
type object struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
}

// choice is the one answer there is: Message of a conversation, Delta of a piece of one, Text of a completion.
type choice struct {
	Index   int      `json:"index"`
	Message *message `json:"message,omitempty"`
	Delta   *message `json:"delta,omitempty"`
	Text    *string  `json:"text,omitempty"`
	Finish  *string  `json:"finish_reason"` // null until the end
}

type message struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

// usage counts tokens. The one by which a model ends is not among them.
type usage struct {
	Prompt int `json:"prompt_tokens"`
	Answer int `json:"completion_tokens"`
	Total  int `json:"total_tokens"`
}

func usageOf(g eval.Generated) *usage { return &usage{g.Prompt, g.Tokens, g.Prompt + g.Tokens} }

// whole is an answer that is sent at once.
func (a *answer) whole(text string, g eval.Generated) object {
	reason := finish(g)
	c := choice{Finish: &reason}
	if a.form == chatForm {
		c.Message = &message{"assistant", &text}
	} else {
		c.Text = &text
	}
	return a.object(a.form.whole, usageOf(g), c)
}

// piece is a part of an answer that is streamed: the role at its begin, then text, at the end a reason.
func (a *answer) part(role, text, reason string) object {
	c := choice{}
	if reason != "" {
		c.Finish = &reason
	}
	switch {
	case a.form == textForm:
		c.Text = &text
	case reason != "":
		c.Delta = &message{}
	default:
		c.Delta = &message{role, &text}
	}
	return a.object(a.form.piece, nil, c)
}

func (a *answer) object(kind string, u *usage, choices ...choice) object {
	return object{ID: a.id, Object: kind, Created: a.created, Model: a.model, Choices: append([]choice{}, choices...), Usage: u}
}

// stream sends an answer piece by piece as server-sent events. The evaluator never waits for the client: what it has not taken
// yet is kept, and a client that takes nothing for writeTimeout is given up.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, j *job, a *answer, withUsage bool) (eval.Generated, error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel() // a client that is given up frees the evaluator
	pieces := newPieces()
	go func() { pieces.end(s.engine.generate(ctx, j, pieces.begin, pieces.add)) }()
	out := events{w: w}
	for {
		now := pieces.take()
		if now.begun && !out.begun {
			out.begin()
			if a.form == chatForm {
				out.send(a.part("assistant", "", ""))
			}
		}
		if now.text != "" {
			out.send(a.part("", now.text, ""))
		}
		switch {
		case out.err != nil:
			return now.generated, out.err
		case !now.ended:
			continue
		case now.err != nil && !out.begun:
			refuse(w, apiErrorOf(now.err))
			return now.generated, now.err
		case now.err != nil:
			out.send(apiErrorOf(now.err).body())
			return now.generated, now.err
		}
		out.send(a.part("", "", finish(now.generated)))
		if withUsage {
			out.send(a.object(a.form.piece, usageOf(now.generated)))
		}
		out.line("[DONE]\n")
		return now.generated, out.err
	}
}
