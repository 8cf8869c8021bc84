package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"finetune/internal/need"
)

// waitVariable makes this test's binary a program that waits for Ctrl-C.
const waitVariable = "FINETUNE_TEST_WAIT"

// waitForInterrupts says when it is ready and when its context is cancelled,
// then hangs like a step that takes too long.
func waitForInterrupts() {
	ctx, _ := untilInterrupted(newUI(os.Stdout, os.Stderr))
	os.Stdout.WriteString("ready\n")
	<-ctx.Done()
	os.Stdout.WriteString("cancelled\n")
	select {}
}

// waiting starts this test's binary as that program.
func waiting(t *testing.T, stderr io.Writer) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	if runtime.GOOS == "windows" {
		need.Skip(t, need.System, "Windows has no way to send Ctrl-C to one process")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), waitVariable+"=1")
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() }) // for a failure in between; no harm after Wait
	return cmd, bufio.NewReader(stdout)
}

func signalTo(t *testing.T, cmd *exec.Cmd, s os.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func wantLine(t *testing.T, lines *bufio.Reader, want string) {
	t.Helper()
	if got, err := lines.ReadString('\n'); got != want {
		t.Fatalf("line = %q, %v, want %q", got, err, want)
	}
}

// The second signal stops at once, with the code of the first; one that comes with the first is the same request, and a
// closed terminal, which both the shell and the system tell of, is one however often.
func TestSecondInterruptStopsAtOnce(t *testing.T) {
	for _, tt := range []struct {
		first os.Signal
		code  int
	}{{os.Interrupt, exitInterrupted}, {syscall.SIGTERM, exitInterrupted}, {syscall.SIGHUP, exitHangup}} {
		var stderr strings.Builder
		cmd, lines := waiting(t, &stderr)
		wantLine(t, lines, "ready\n")
		signalTo(t, cmd, tt.first)
		wantLine(t, lines, "cancelled\n")
		signalTo(t, cmd, tt.first) // timeout(1) sends it twice
		time.Sleep(2 * sameRequest)
		signalTo(t, cmd, syscall.SIGHUP)
		time.Sleep(sameRequest)
		signalTo(t, cmd, os.Interrupt)
		io.Copy(io.Discard, lines)
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != tt.code {
			t.Errorf("%v: Wait() = %v, want exit status %d", tt.first, err, tt.code)
		}
		if want := "finetune: stopping in good order, a second Ctrl-C stops at once\n"; stderr.String() != want {
			t.Errorf("%v: stderr = %q, want %q", tt.first, stderr.String(), want)
		}
	}
}

// The repeated request does not stop a command that is leaving in good order.
func TestRepeatedRequestIsOne(t *testing.T) {
	cmd, lines := waiting(t, io.Discard)
	wantLine(t, lines, "ready\n")
	signalTo(t, cmd, syscall.SIGTERM)
	wantLine(t, lines, "cancelled\n")
	signalTo(t, cmd, syscall.SIGTERM)
	signalTo(t, cmd, syscall.SIGHUP)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		t.Errorf("Wait() = %v, want a process that goes on", err)
	case <-time.After(2 * sameRequest):
	}
}
