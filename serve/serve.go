// Package serve answers OpenAI's HTTP API with a model and its adapters, on this machine alone, so that any client of that API can
// try an adapter.
//
//	l, err := serve.Listen("127.0.0.1:8080")                         // loopback addresses only
//	s, err := serve.New(evaluator, models, serve.Options{})           // the base first, then its adapters
//	err = s.Serve(ctx, l)                                             // until ctx is cancelled
//
// There are /v1/models, /v1/chat/completions and /v1/completions, as a whole or as a stream of events, and /health. An adapter is
// a model of its own: "name" applies it with the scale that it was given, "name:0.5" with another, and from one request to the
// next nothing is loaded. One request is computed at a time, the others wait in the order in which they came; each begins with an
// empty context, so that no answer depends on what was asked before.
//
// What a request asks for and does not get (tools, several answers, log-probabilities …) is refused. Prompts longer than the
// context are refused, not cut. guard.go says who is answered at all. What net/http itself complains of goes to the standard
// logger, which is the program's.
package serve

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"finetune/chat"
	"finetune/eval"
)

// Model is what a request may name.
type Model struct {
	Name     string
	Adapter  *eval.Adapter // nil is the base alone
	Scale    float32       // of the adapter
	Template chat.Source   // of conversations; without one there are only completions
	Args     chat.Args     // of the template
}

// Options say how requests are answered. The zero value asks for no token.
type Options struct {
	Token  string        // that every request but /health has to show; "" = none, and pages in a browser are not answered
	Grace  time.Duration // that answers have to end once the server stops; 0 = ten seconds
	Report func(Report)  // called for each request of a model when it is over, from several goroutines; nil = nobody asks
}

// Report is what became of a request.
type Report struct {
	Path, Model string
	Status      int // of HTTP; 200 also for a stream that an error ended
	Err         error
	Took        time.Duration
	eval.Generated
}

// Limits. A client that keeps to none of them costs a connection, and no more.
const (
	mostBody      = 2 << 20  // bytes of a request: a text of more tokens than a context of 128 Ki has
	mostDrained   = 64 << 20 // bytes of a larger one that are read, so that its sender sees the refusal
	mostRequests  = 32       // that are read, wait and are answered; the next is told to come back
	headerTimeout = 10 * time.Second
	bodyTimeout   = 30 * time.Second
	writeTimeout  = 10 * time.Second // for a client to take what it is sent
	idleTimeout   = 2 * time.Minute
	mostHeader    = 64 << 10 // bytes
	usualGrace    = 10 * time.Second
)

// errStopping is why a request is not answered once the server stops.
var errStopping = errors.New("the server is stopping")

// Server answers requests. Goroutines may share it.
type Server struct {
	options  Options
	models   []Model
	engine   *engine
	requests chan struct{} // holds one for each request that is being dealt with
	mux      *http.ServeMux
	began    time.Time
}

// New returns a server for an evaluator and its models, the base first. Both stay the caller's, who closes them after Serve. Names
// that are no names, or several models', are errors, as is a token that is easily guessed.
func New(e *eval.Evaluator, models []Model, o Options) (*Server, error) {
	if err := checkNames(models); err != nil {
		return nil, err
	}
	if err := checkToken(o.Token); err != nil {
		return nil, err
	}
	o.Grace = cmp.Or(o.Grace, usualGrace)
	s := &Server{options: o, models: models, engine: newEngine(e), requests: make(chan struct{}, mostRequests), began: time.Now()}
	s.mux = s.routes()
	return s, nil
}

// Serve answers the requests that reach l until ctx is cancelled. Then those that wait are refused, the one that is being answered
// and those being written have Options.Grace to end, and Serve returns nil. It closes l. The evaluator is free when it returns, and
// the server is used up.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	err := Until(ctx, l, s, s.options.Grace, s.engine.stop)
	s.engine.wait()
	return err
}

// Stop does for a server that is a part of another handler what the end of Serve does: requests that wait and that come are
// refused, and the evaluator is free when it returns.
func (s *Server) Stop() {
	s.engine.stop()
	s.engine.wait()
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	extendWrite(w)
	if s.admit(w, r) {
		s.mux.ServeHTTP(w, r)
	}
}

// routes lists what is answered.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for path, methods := range map[string]map[string]http.HandlerFunc{
		"/health":              {"GET": s.health},
		"/v1/models":           {"GET": s.list},
		"/v1/models/{name...}": {"GET": s.describe},
		"/v1/chat/completions": {"POST": s.answer(chatForm)},
		"/v1/completions":      {"POST": s.answer(textForm)},
	} {
		for method, handle := range methods {
			mux.HandleFunc(method+" "+path, handle)
			mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Allow", method)
				refuse(w, problem(http.StatusMethodNotAllowed, "", "%s %.100q: want %s", r.Method, r.URL.Path, method))
			})
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, problem(http.StatusNotFound, "", "there is no %.100q here: want /v1/chat/completions, /v1/completions, /v1/models or /health", r.URL.Path))
	})
	return mux
}
