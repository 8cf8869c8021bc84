package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilInterrupted returns a context that the first Ctrl-C, or a request to
// terminate, cancels: the command finishes what it must and leaves. A second
// one ends the process at once. stop gives the signals back to the system.
func untilInterrupted(u *ui) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	notifyRequests(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		u.say("stopping in good order, a second Ctrl-C stops at once")
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
	}
}
