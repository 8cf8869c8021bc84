package page

import (
	"fmt"
	"sync"
	"time"

	"finetune/internal/machine"
	"finetune/trainer"
)

// Live is the run that goes on in this process. Goroutines may share it.
type Live struct {
	dir     string
	request func() // asks the run to stop

	mu       sync.Mutex
	doing    string // what no log tells of: reading, measuring
	stopping bool
	ended    bool
	failed   string // why, if it failed
}

// NewLive returns what shows a run in a directory, which need not be there yet. stop is called when somebody asks for that.
func NewLive(dir string, stop func()) *Live {
	return &Live{dir: dir, request: stop, doing: "opening the base"}
}

// Event takes what the run tells.
func (l *Live) Event(e trainer.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case e.Kind != "reading" && e.Kind != "measuring":
		l.doing = ""
	case e.Of > 0:
		l.doing = fmt.Sprintf("%s %s, %d %%", e.Kind, e.What, 100*e.Done/e.Of)
	default:
		l.doing = fmt.Sprintf("%s %s", e.Kind, e.What)
	}
}

// End says that the run is over, and why, nil if it is done.
func (l *Live) End(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended, l.doing = true, ""
	if err != nil {
		l.failed = err.Error()
	}
}

// stop asks the run to stop, and reports whether there was one to ask.
func (l *Live) stop() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	if !l.stopping {
		l.stopping = true
		l.request()
	}
	return true
}

// liveState is what the page is told of it. The run has the number 0.
type liveState struct {
	Doing    string `json:"doing,omitempty"`
	Stopping bool   `json:"stopping,omitempty"`
	Ended    bool   `json:"ended,omitempty"`
	Failed   string `json:"failed,omitempty"`
	Memory   int64  `json:"memory"` // bytes at most so far
}

func (l *Live) state() *liveState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &liveState{l.doing, l.stopping, l.ended, l.failed, machine.PeakMemory()}
}

// attention is how long after its last question a page counts as open.
const attention = 8 * time.Second

// Farewell waits until an open page has asked for the state once more, so that it shows how the run ended, for as long as such a
// page may take.
func (h *Handler) Farewell() {
	ended := time.Now()
	if ended.UnixNano()-h.asked.Load() > attention.Nanoseconds() {
		return
	}
	for time.Since(ended) < attention && h.asked.Load() < ended.UnixNano() {
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond) // the log and the rest, which it asks for next
}
