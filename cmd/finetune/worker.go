package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// isWorker says that this process is the child of a supervisor: supervise.go.
var isWorker bool

// fromSupervisor are the signals that the supervisor passes on. Nothing is ever sent without one.
var fromSupervisor = make(chan os.Signal, 8)

// becomeWorker makes this process a worker, if it was started as one. What the program says goes to the supervisor's standard
// error; descriptor 2 is left to the runtimes, for their last words.
func becomeWorker() {
	supervisor := os.Getenv(workerVariable)
	os.Unsetenv(workerVariable) // not for programs that are started from here
	if supervisor != strconv.Itoa(os.Getppid()) {
		return
	}
	isWorker = true
	for _, fd := range []int{workerStderr, workerSignals} {
		syscall.CloseOnExec(fd)
	}
	os.Stderr = os.NewFile(workerStderr, "/dev/stderr")
	leaveNoCore()
	go watchSupervisor(os.NewFile(workerSignals, "signals"))
}

// watchSupervisor passes on the signals that the supervisor was sent, and ends the process when the supervisor is gone: who
// kills a program means all of it.
func watchSupervisor(signals *os.File) {
	for one := make([]byte, 1); ; {
		if n, err := signals.Read(one); n == 0 || err != nil {
			os.Exit(exitCrashed)
		}
		fromSupervisor <- syscall.Signal(one[0])
	}
}

// notifyRequests relays the given signals to c as signal.Notify does, but each request once: what a terminal sends, or
// killall, reaches the supervisor and the worker both. Of what either has had, the larger number counts.
func notifyRequests(c chan<- os.Signal, signals ...os.Signal) {
	if !isWorker {
		signal.Notify(c, signals...)
		return
	}
	direct := make(chan os.Signal, 8)
	signal.Notify(direct, signals...)
	go func() {
		var here, passed, told int
		for {
			var s os.Signal
			select {
			case s = <-direct:
				here++
			case s = <-fromSupervisor:
				passed++
			}
			if told < max(here, passed) {
				told++
				c <- s
			}
		}
	}()
}
