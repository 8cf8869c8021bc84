//go:build unix

package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// supervised is a program that waits for Ctrl-C: waitForInterrupts.
type supervised struct {
	*exec.Cmd
	t      *testing.T
	lines  *bufio.Reader
	stdout *os.File
	stderr strings.Builder
}

func startWaiting(t *testing.T) *supervised {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &supervised{Cmd: exec.Command(self, "wait"), t: t}
	w.Env = append(os.Environ(), waitVariable+"=1")
	w.Cmd.Stderr = &w.stderr
	w.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := w.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-w.Process.Pid, syscall.SIGKILL) })
	w.stdout = stdout.(*os.File)
	w.lines = bufio.NewReader(stdout)
	w.reads("ready\n")
	return w
}

func (w *supervised) reads(want string) {
	w.t.Helper()
	if got, err := w.lines.ReadString('\n'); got != want {
		w.t.Fatalf("line = %q, %v, want %q", got, err, want)
	}
}

// ends waits for the end of all processes of the program, and checks the code.
func (w *supervised) ends(code int) {
	w.t.Helper()
	late := time.AfterFunc(20*time.Second, func() { syscall.Kill(-w.Process.Pid, syscall.SIGKILL) })
	io.Copy(io.Discard, w.lines) // the worker has the same pipe
	w.Wait()
	if !late.Stop() {
		w.t.Error("does not end within 20 s")
	}
	if got := w.ProcessState.ExitCode(); got != code {
		w.t.Errorf("ends with %v, want %d", w.ProcessState, code)
	}
}

func TestSignalsReachTheWorkerOnce(t *testing.T) {
	for name, send := range map[string]func(pid int){
		"sent to the supervisor": func(pid int) { syscall.Kill(pid, syscall.SIGINT) },
		"sent to both":           func(pid int) { syscall.Kill(-pid, syscall.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			w := startWaiting(t)
			send(w.Process.Pid)
			w.reads("cancelled\n")
			w.stdout.SetReadDeadline(time.Now().Add(500 * time.Millisecond)) // twice what was sent once would end it by then
			if _, err := w.lines.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("has ended by one request: %v", err)
			}
			w.stdout.SetReadDeadline(time.Time{})
			send(w.Process.Pid)
			w.ends(exitInterrupted)
			if want := "finetune: stopping in good order, a second Ctrl-C stops at once\n"; w.stderr.String() != want {
				t.Errorf("stderr = %q, want %q", w.stderr.String(), want)
			}
		})
	}
}

func TestKilledSupervisorTakesItsWorkerAlong(t *testing.T) {
	w := startWaiting(t)
	w.Process.Kill()
	w.ends(-1)
}
