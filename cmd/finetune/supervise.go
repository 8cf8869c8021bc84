package main

// A command runs in a worker, a child process of the same program, so that an end that nobody foresaw (a failed assertion or
// a signal in native code, an exception that nobody catches, a panic) is a line and an exit code here, and not the silence
// or the wall of text that such an end leaves. docs/decisions/0012-native-faults.md has the reasons and the cost.
//
//	standard input, output   the worker has the supervisor's own
//	standard error           the worker has it as descriptor 3; its 2 is a pipe, on which the runtimes of Go and C++ and
//	                         ggml write their last words and nothing else does
//	descriptor 4             a pipe of signals to the worker, a byte each; it ends when the supervisor does

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// The environment of a supervisor and its worker.
const (
	workerVariable = "FINETUNE_WORKER"      // the supervisor's process number, for the worker
	aloneVariable  = "FINETUNE_ONE_PROCESS" // by the user: everything in one process, for debuggers and profilers
)

// The worker's descriptors.
const (
	workerStderr  = 3
	workerSignals = 4
)

// ending is how a worker has ended.
type ending struct {
	code int
	err  error // what there is to say, nil where the worker has said it
}

// supervise runs the command line in a worker and returns the process's exit code. ok is false where the command is to go on
// in this process: because it is the worker, because it has nothing to fear, or because no process can be started.
func supervise(args []string) (code int, ok bool) {
	if isWorker || runtime.GOOS == "windows" || os.Getenv(aloneVariable) != "" || harmless(args) {
		return 0, false
	}
	runtime.LockOSThread() // the worker is killed when the thread that started it ends: dieWith
	worker, last, stop, err := startWorker()
	if err != nil {
		return 0, false
	}
	worker.Wait() // its error says nothing that the state does not
	stop()
	if slices.Contains(args, "--verbose") {
		os.Stderr.Write(last.Bytes())
	}
	end := endOf(commandOf(args), worker.ProcessState, last.Bytes())
	if end.err != nil {
		u := newUI(os.Stdout, os.Stderr)
		if u.terminal {
			fmt.Fprintln(os.Stderr) // after what the worker was writing
		}
		u.fail(end.err)
	}
	return end.code, true
}

// harmless reports whether a command line prints what the program holds, and reads no files.
func harmless(args []string) bool {
	switch commandOf(args) {
	case "", "version", "help", "completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
		return true
	}
	return false
}

// commandOf returns the command that a command line names, "" for none.
func commandOf(args []string) string {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			return arg
		}
	}
	return ""
}

// startWorker starts this program again with the same arguments. last gathers what it writes at its end; stop ends the
// forwarding of signals.
func startWorker() (worker *exec.Cmd, last *head, stop func(), err error) {
	self, err := program()
	if err != nil {
		return nil, nil, nil, err
	}
	listen, tell, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	defer listen.Close()
	last = &head{}
	worker = &exec.Cmd{
		Path: self, Args: os.Args,
		Env:   append(os.Environ(), workerVariable+"="+strconv.Itoa(os.Getpid())),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: last,
		ExtraFiles:  []*os.File{workerStderr - 3: os.Stderr, workerSignals - 3: listen},
		SysProcAttr: dieWith(),
		WaitDelay:   time.Second, // for what the worker has started and left behind
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded()...)
	if err := worker.Start(); err != nil {
		signal.Reset(forwarded()...)
		tell.Close()
		return nil, nil, nil, err
	}
	go func() {
		for s := range signals {
			if s == syscall.SIGQUIT { // asks Go's runtime where everything is
				worker.Process.Signal(s)
				continue
			}
			tell.Write([]byte{byte(s.(syscall.Signal))})
		}
	}()
	return worker, last, func() {
		signal.Stop(signals)
		tell.Close()
	}, nil
}

// program returns the path of this program. On Linux it can be started when its file is gone, too.
func program() (string, error) {
	path, err := os.Executable()
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil && runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return path, err
}

// forwarded lists the signals that the supervisor passes on instead of ending by them. A hangup that was ignored when the
// program started, by nohup, stays so.
func forwarded() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// mostLast is how much of a worker's last words is kept, in bytes. The first of them say why; a Go program with many
// goroutines writes megabytes.
const mostLast = 1 << 20

// head keeps the first mostLast bytes that are written to it.
type head struct{ bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.Buffer.Write(p[:min(len(p), mostLast-h.Len())])
	return len(p), nil
}
