package serve

import (
	"net/http"
	"sync"

	"finetune/eval"
)

// pieces carries the text of an answer from who writes it, and never waits, to who sends it. It holds one answer at most.
type pieces struct {
	changed chan struct{} // holds one when there is something to take

	mu  sync.Mutex
	now progress
}

// progress is how far an answer has come.
type progress struct {
	begun     bool   // nothing was wrong with the request
	text      string // since the last time
	ended     bool
	generated eval.Generated // once ended
	err       error          // likewise
}

func newPieces() *pieces { return &pieces{changed: make(chan struct{}, 1)} }

func (p *pieces) begin() { p.change(func() { p.now.begun = true }) }

func (p *pieces) add(text string) { p.change(func() { p.now.text += text }) }

func (p *pieces) end(g eval.Generated, err error) {
	p.change(func() { p.now.ended, p.now.generated, p.now.err = true, g, err })
}

func (p *pieces) change(do func()) {
	p.mu.Lock()
	do()
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// take waits until something has changed.
func (p *pieces) take() progress {
	<-p.changed
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now
	p.now.text = ""
	return now
}

// events writes server-sent events. Its error sticks.
type events struct {
	w     http.ResponseWriter
	begun bool
	err   error
}

func (e *events) begin() {
	e.begun = true
	e.w.Header().Set("Content-Type", "text/event-stream")
	e.w.WriteHeader(http.StatusOK)
}

func (e *events) send(v any) { e.line(string(jsonOf(v))) }

// line writes one event and sends it on its way, in the time that a client has for it.
func (e *events) line(data string) {
	if e.err != nil {
		return
	}
	extendWrite(e.w)
	if _, e.err = e.w.Write([]byte("data: " + data + "\n")); e.err == nil {
		e.err = http.NewResponseController(e.w).Flush()
	}
}
