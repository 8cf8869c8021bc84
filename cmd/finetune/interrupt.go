package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// stopRequest is why a command is to end before its work is done: the cause of the cancelled context.
type stopRequest struct {
	why  string
	code int // what the process exits with
}

func (s *stopRequest) Error() string { return s.why }

// The requests. The codes are those that a shell gives a process which such a signal ends, but for a request to terminate,
// which has always had that of Ctrl-C here.
var (
	stopInterrupt = &stopRequest{"interrupted", exitInterrupted}
	stopHangup    = &stopRequest{"terminal closed", exitHangup}
	stopPipe      = &stopRequest{"output closed", exitPipe}
	stopPage      = &stopRequest{"stopped from the page", exitInterrupted}
)

// sameRequest is how soon after another a signal counts as the same request: timeout(1) sends one to the process and one to
// its group, and a terminal that closes makes both the shell and the system send SIGHUP.
const sameRequest = 300 * time.Millisecond

// untilInterrupted returns a context that the first Ctrl-C, a request to terminate, a closed terminal, a closed output or
// the button of a page cancels, with a *stopRequest as its cause: the command finishes what it must and leaves. A Ctrl-C that an answer of a
// conversation takes for itself counts for nothing. A second Ctrl-C or request to
// terminate ends the process at once. stop gives the signals back to the system.
func untilInterrupted(u *ui) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 8)
	notifyRequests(signals, requests()...)
	u.stop = func(why *stopRequest) { cancel(why) }
	failing := failingWrites()
	go func() {
		s := <-signals
		for s == os.Interrupt && u.answering.takes() {
			s = <-signals
		}
		first := requestOf(s)
		sayBriefly(u, "stopping in good order, a second Ctrl-C stops at once")
		cancel(first)
		for again := time.Now().Add(sameRequest); ; {
			if requestOf(<-signals) == stopInterrupt && time.Now().After(again) {
				os.Exit(first.code)
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		signal.Stop(failing)
		cancel(nil)
	}
}

// sayBriefly says a line but does not wait for a reader who has stopped reading: the request counts all the same.
func sayBriefly(u *ui, text string) {
	said := make(chan struct{})
	go func() {
		u.say("%s", text)
		close(said)
	}()
	select {
	case <-said:
	case <-time.After(sameRequest):
	}
}

// requests lists the signals that ask to stop. A hangup that was ignored when the program started, by nohup, stays so.
func requests() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

func requestOf(s os.Signal) *stopRequest {
	if s == syscall.SIGHUP {
		return stopHangup
	}
	return stopInterrupt
}

// failingWrites makes what would end the process amid a write the error of that write: a pipe that nobody reads any more, a
// file above the size that the user may write. Unlike ignored signals these are not inherited by other programs.
func failingWrites() chan os.Signal {
	never := make(chan os.Signal, 1) // nobody receives: what does not fit is dropped
	signal.Notify(never, fatalWrites...)
	return never
}

// stopCode returns the exit code for the request that ended the command, if its error comes of one.
func stopCode(ctx context.Context) (code int, ok bool) {
	request := (*stopRequest)(nil)
	if errors.As(context.Cause(ctx), &request) {
		return request.code, true
	}
	return 0, false
}

// untilStopped is a reader that ends with ctx, so that a command which waits for somebody to type leaves without another
// line. What was being read then is lost.
type untilStopped struct {
	ctx context.Context
	io.Reader
}

func (r untilStopped) Read(p []byte) (int, error) {
	type result struct {
		data []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		data := make([]byte, len(p))
		n, err := r.Reader.Read(data)
		read <- result{data[:n], err}
	}()
	select {
	case got := <-read:
		return copy(p, got.data), got.err
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}
