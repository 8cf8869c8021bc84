// Command finetune trains adapters over quantized GGUF models and writes GGUF
// LoRA files that llama.cpp loads.
//
// Each command is one file and thin: it turns flags into a configuration,
// validates it, makes one library call and prints the result. What every
// message looks like is said in ui.go.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime/debug"
	"syscall"

	"finetune/internal/setting"
	"finetune/newmodel"
	"finetune/trainer"

	"golang.org/x/term"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitCrashed     = 3
	exitHangup      = 129 // the terminal was closed
	exitInterrupted = 130 // Ctrl-C, or a request to terminate
	exitPipe        = 141 // nobody reads the output any more
)

// heapGrowth is the percentage that Go's heap may grow by before it is searched for garbage. What a run keeps there are a
// few large arrays of numbers, which cost the search nothing; at Go's own 100 as much again would in time lie there as
// garbage. GOGC in the environment wins.
const heapGrowth = 20

// testOnlyFault ends the process in a way that tests ask for: fault.go, with the build tag "faults".
var testOnlyFault func()

func main() {
	dieBySignal()
	becomeWorker()
	if code, ok := supervise(os.Args[1:]); ok {
		os.Exit(code)
	}
	if testOnlyFault != nil {
		testOnlyFault()
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// dieBySignal makes an end that nobody foresaw one by a signal, which the supervisor knows from the exit codes: a panic of Go,
// whose own code is that of a wrong command line, and a failed assertion of ggml, which would start a debugger to print where
// it was.
func dieBySignal() {
	debug.SetTraceback("crash")
	if os.Getenv("GGML_NO_BACKTRACE") == "" {
		os.Setenv("GGML_NO_BACKTRACE", "1")
	}
}

// execute runs the whole program but for the process around it.
func execute(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	u := newUI(stdout, stderr)
	if f, ok := stdin.(*os.File); ok {
		u.typed = term.IsTerminal(int(f.Fd()))
	}
	ctx, stop := untilInterrupted(u)
	defer stop()
	root := newRoot(u)
	root.SetArgs(args)
	root.SetIn(untilStopped{ctx, stdin})
	err := root.ExecuteContext(ctx)
	u.board.clear()
	if err == nil {
		err = u.flush()
	}
	code := exitCode(ctx, err)
	if errors.Is(err, context.Canceled) && err.Error() == context.Canceled.Error() { // with nothing to say beside it
		err = context.Cause(ctx)
	}
	if err != nil && !(code == exitPipe && errors.Is(err, syscall.EPIPE)) { // who closes a pipe has read enough
		u.fail(err)
	}
	return code
}

// exitCode returns the process's exit code for the error that a command ended with.
func exitCode(ctx context.Context, err error) int {
	var usage *usageError
	var setting *setting.Error
	var spec *newmodel.SpecError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage), errors.As(err, &setting), errors.As(err, &spec):
		return exitUsage
	case errors.Is(err, context.Canceled), errors.Is(err, trainer.ErrInterrupted), errors.Is(err, syscall.EPIPE):
		if code, ok := stopCode(ctx); ok {
			return code
		}
	}
	return exitFailed
}
