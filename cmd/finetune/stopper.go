package main

import (
	"context"
	"sync"
	"time"
)

// stopper lets Ctrl-C end an answer instead of the program.
type stopper struct {
	mu    sync.Mutex
	stop  func()    // ends the answer that is being given; nil = there is none
	ended time.Time // the last one, by Ctrl-C
}

// afterStop is how long a Ctrl-C after one that stopped an answer is the same impatience, and not meant for the program.
const afterStop = time.Second

// stoppable returns a context for an answer that Ctrl-C ends, where somebody sits at a terminal. done is called when it is given.
func (u *ui) stoppable(ctx context.Context) (part context.Context, done func()) {
	part, cancel := context.WithCancel(ctx)
	if !u.typed {
		return part, cancel
	}
	u.answering.set(cancel)
	return part, func() {
		u.answering.set(nil)
		cancel()
	}
}

func (s *stopper) set(stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = stop
}

// takes reports whether a Ctrl-C was for an answer.
func (s *stopper) takes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop == nil {
		return time.Since(s.ended) < afterStop
	}
	s.stop()
	s.stop, s.ended = nil, time.Now()
	return true
}
