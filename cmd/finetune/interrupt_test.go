package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

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

func TestSecondInterruptStopsAtOnce(t *testing.T) {
	if runtime.GOOS == "windows" {
		need.Skip(t, need.System, "Windows has no way to send Ctrl-C to one process")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), waitVariable+"=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill() // for a failure in between; no harm after Wait
	lines := bufio.NewReader(stdout)
	for _, want := range []string{"ready\n", "cancelled\n"} {
		if got, err := lines.ReadString('\n'); got != want {
			t.Fatalf("line = %q, %v, want %q", got, err, want)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
	io.Copy(io.Discard, lines)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		t.Errorf("Wait() = %v, want exit status %d", err, exitInterrupted)
	}
	if want := "finetune: stopping in good order, a second Ctrl-C stops at once\n"; stderr.String() != want {
		t.Errorf("stderr = %q, want %q", stderr.String(), want)
	}
}
