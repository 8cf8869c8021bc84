package serve

import (
	"context"
	"net/http"
	"sync"
	"time"

	"finetune/chat"
	"finetune/eval"
)

// engine is the one evaluator, which one request uses at a time.
type engine struct {
	eval     *eval.Evaluator
	slot     chan struct{} // holds one while the evaluator is in use; the runtime lets those who wait in by their turn
	stopping chan struct{} // closed once no request gets the evaluator any more
	stopOnce sync.Once
}

func newEngine(e *eval.Evaluator) *engine {
	return &engine{eval: e, slot: make(chan struct{}, 1), stopping: make(chan struct{})}
}

// stop refuses the requests that wait, and those that come.
func (e *engine) stop() { e.stopOnce.Do(func() { close(e.stopping) }) }

// wait returns when nobody uses the evaluator any more, behind stop.
func (e *engine) wait() { e.slot <- struct{}{} }

// do calls work when it is its turn, unless ctx ends or the server stops before.
func (e *engine) do(ctx context.Context, work func() error) error {
	select {
	case <-e.stopping:
		return errStopping
	case <-ctx.Done():
		return context.Cause(ctx)
	case e.slot <- struct{}{}:
	}
	defer func() { <-e.slot }()
	select {
	case <-e.stopping: // both were so, and chance decided
		return errStopping
	default:
		return work()
	}
}

// job is what a request wants written.
type job struct {
	model    Model
	messages []chat.Message // of a conversation; nil = prompt is continued
	prompt   string
	sampling eval.Sampling
}

// text returns the prompt as the model reads it.
func (j *job) text(e *eval.Evaluator) (string, error) {
	if j.messages == nil {
		return j.prompt, nil
	}
	return chat.PromptFrom(j.model.Template, e.Vocab(), chat.Options{Now: time.Now(), Args: j.model.Args}, j.messages)
}

// generate does a job when it is its turn. start is called when nothing is wrong with it, before the first piece of text.
func (e *engine) generate(ctx context.Context, j *job, start func(), emit func(string)) (g eval.Generated, err error) {
	err = e.do(ctx, func() error {
		text, err := j.text(e.eval)
		if err != nil {
			return err
		}
		tokens, total, err := e.eval.Prompt(text)
		if err != nil {
			return err
		}
		if total > len(tokens) {
			return problem(http.StatusBadRequest, "context_length_exceeded", "the prompt has %d tokens, want at most %d: the context has %d, one of them for the answer",
				total, len(tokens), e.eval.NCtx())
		}
		var adapters []eval.Scaled
		if j.model.Adapter != nil {
			adapters = append(adapters, eval.Scaled{Adapter: j.model.Adapter, Scale: j.model.Scale})
		}
		if err := e.eval.Use(adapters...); err != nil {
			return err
		}
		start()
		g, err = e.eval.Continue(ctx, tokens, j.sampling, emit)
		return err
	})
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // that the client is gone, or that the server stops
	}
	return g, err
}
