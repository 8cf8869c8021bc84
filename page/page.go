// Package page shows runs in a browser on this machine: curves, samples, what of the data is learned, settings, what exports keep,
// and a conversation with what a run has made. While a run goes on in this process it can be stopped from there.
//
//	h := page.New(page.Options{Token: token, Folders: []string{"runs"}})
//	err := serve.Until(ctx, l, h, grace, func() {})            // http://ADDRESS/#TOKEN
//	h.Close()
//
// Everything that it shows comes from run directories, which are read as they grow, so a page that is opened later, or again, sees
// all of it. The document, its style and its script are embedded and hold nothing; what they ask for needs the token, which stands
// behind the # of the address, where no browser sends it anywhere. Nothing that was read becomes markup, no path comes from a
// request, and a policy forbids the page to load or send anything elsewhere. [Report] puts the same page with its data in one file.
package page

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"finetune/internal/inspect"
	"finetune/serve"
)

// Options say what a page shows. The zero value shows nothing.
type Options struct {
	Token   string   // that every request but those for the page itself has to show
	Folders []string // run directories, and folders that hold some
	Live    *Live    // the run of this process, nil = there is none

	// Chat opens what the run in a directory has made, for conversations; nil where there are none. The page has one open at a
	// time, and closes it.
	Chat func(ctx context.Context, dir string) (*Chat, error)
}

// Handler serves a page. Goroutines may share it.
type Handler struct {
	options  Options
	runs     *runs
	guarded  http.Handler
	chat     chats
	measured sync.Map     // of adapters, by what has been measured
	asked    atomic.Int64 // when the state was asked for last, in Unix nanoseconds
}

// New returns a handler for what the options name. Folders are looked through each time that the page asks for its state.
func New(o Options) *Handler {
	h := &Handler{options: o, runs: newRuns(o.Folders, o.Live)}
	h.chat.open = o.Chat
	h.guarded = serve.Pages(o.Token, isAsset, h.routes())
	return h
}

// policy forbids the page everything but its own script, its own style and requests to where it comes from.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
	w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
	h.guarded.ServeHTTP(w, r)
}

// Close ends the conversation that is open, once nothing is answered any more. Later ones are refused.
func (h *Handler) Close() error { return h.chat.close() }

func (h *Handler) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for path, a := range assets {
		if path == "/" {
			path = "/{$}" // and nothing below it
		}
		mux.HandleFunc("GET "+path, a.serve)
	}
	mux.HandleFunc("GET /api/state", h.state)
	mux.HandleFunc("POST /api/stop", h.stop)
	mux.HandleFunc("GET /api/runs/{run}", h.ofRun(h.details))
	mux.HandleFunc("GET /api/runs/{run}/log", h.ofRun(h.log))
	mux.HandleFunc("GET /api/runs/{run}/adapter", h.ofRun(h.adapter))
	mux.HandleFunc("GET /api/runs/{run}/report", h.ofRun(h.report))
	mux.HandleFunc("GET /api/runs/{run}/chat", h.ofRun(h.openChat))
	mux.HandleFunc("POST /api/runs/{run}/chat/{form}", h.ofRun(h.answer))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		serve.Refuse(w, http.StatusNotFound, "%s %.100q: there is nothing of this name", r.Method, r.URL.Path)
	})
	return mux
}

// ofRun finds the run that a request names by its number.
func (h *Handler) ofRun(answer func(http.ResponseWriter, *http.Request, run)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("run"))
		of, ok := h.runs.at(n)
		if err != nil || !ok {
			serve.Refuse(w, http.StatusNotFound, "there is no run %.20q", r.PathValue("run"))
			return
		}
		answer(w, r, of)
	}
}

// state is what a page asks for every few seconds.
type state struct {
	Runs []runState `json:"runs"`
	Live *liveState `json:"live,omitempty"`
}

func (h *Handler) state(w http.ResponseWriter, r *http.Request) {
	h.asked.Store(time.Now().UnixNano())
	s := state{Runs: h.runs.states()}
	if h.options.Live != nil {
		s.Live = h.options.Live.state()
	}
	serve.Send(w, s)
}

func (h *Handler) stop(w http.ResponseWriter, r *http.Request) {
	if h.options.Live == nil || !h.options.Live.stop() {
		serve.Refuse(w, http.StatusConflict, "no run goes on here that could be stopped")
		return
	}
	serve.Send(w, h.options.Live.state())
}

func (h *Handler) log(w http.ResponseWriter, r *http.Request, of run) {
	from, err := strconv.ParseInt(r.URL.Query().Get("from"), 10, 64)
	if err != nil || from < 0 {
		serve.Refuse(w, http.StatusBadRequest, "from: want a number of bytes, got %.20q", r.URL.Query().Get("from"))
		return
	}
	c, err := readLog(of.logFile(), from, mostChunk)
	if err != nil {
		serve.Refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	serve.Send(w, c)
}

func (h *Handler) details(w http.ResponseWriter, r *http.Request, of run) {
	d := detailsOf(of)
	d.NoChat = h.noChat(of)
	serve.Send(w, d)
}

// adapter measures an adapter, which takes from a blink to minutes, once for each version of the file.
func (h *Handler) adapter(w http.ResponseWriter, r *http.Request, of run) {
	size, changed := of.result()
	key := [3]any{of.Dir, size, changed}
	if known, ok := h.measured.Load(key); ok {
		serve.Send(w, known)
		return
	}
	report, err := inspect.Path(r.Context(), of.Dir, inspect.Options{})
	if err != nil {
		serve.Refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	m := measured{report.Adapter, report.Note}
	h.measured.Store(key, m)
	serve.Send(w, m)
}

// measured is what inspect has found out about an adapter.
type measured struct {
	Adapter *inspect.Adapter `json:"adapter"`
	Note    string           `json:"note,omitempty"` // why there is none
}

func (h *Handler) report(w http.ResponseWriter, r *http.Request, of run) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience)) // a long log takes a while to read
	w.Header().Set("Content-Type", "application/octet-stream")               // the page saves it; nobody opens it here
	writeReport(w, []run{of}, time.Now())
}
