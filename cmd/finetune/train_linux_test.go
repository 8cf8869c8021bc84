package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"finetune/internal/testmodel"
)

// seat is a program at a terminal.
type seat struct {
	*emulator
	t     *testing.T
	cmd   *exec.Cmd
	ours  *os.File
	ended chan struct{} // closed when the program has gone and all that it wrote is on the terminal
}

// sit starts a program with its standard error, and its standard output unless that is stdout, on a terminal.
func sit(t *testing.T, columns, rows int, stdout io.Writer, args ...string) *seat {
	t.Helper()
	ours, theirs := terminal(t)
	s := &seat{newEmulator(columns, rows), t, exec.Command("finetune", args...), ours, make(chan struct{})}
	s.tellSize()
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = theirs, stdout, theirs
	if stdout == nil {
		s.cmd.Stdout = theirs
	}
	s.cmd.Env = append(os.Environ(), "TERM=xterm")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		ours.Close()
	})
	go func() {
		io.Copy(s, ours) // until nobody has the other end open
		close(s.ended)
	}()
	return s
}

// tellSize tells the system what the terminal's size is, which tells the program.
func (s *seat) tellSize() {
	columns, rows := s.size()
	size := struct{ rows, columns, x, y uint16 }{uint16(rows), uint16(columns), 0, 0}
	if _, _, err := syscall.Syscall(syscall.SYS_IOCTL, s.ours.Fd(), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size))); err != 0 {
		s.t.Fatal(err)
	}
}

// waits until what the terminal shows is as wanted, and returns that.
func (s *seat) waits(what string, wanted func(lines []string) bool) []string {
	s.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		lines, err := s.shown()
		switch {
		case err != nil:
			s.t.Fatal(err)
		case wanted(lines):
			return lines
		case time.Now().After(end):
			s.t.Fatalf("the terminal shows no %s:\n%s", what, strings.Join(lines, "\n"))
		}
	}
}

// leaves waits for the program's end and returns its exit code and what the terminal shows then.
func (s *seat) leaves() (code int, lines []string) {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(2 * time.Minute):
		s.t.Fatal("the program does not end")
	}
	s.cmd.Wait()
	lines, err := s.shown()
	if err != nil {
		s.t.Error(err)
	}
	return s.cmd.ProcessState.ExitCode(), lines
}

// display is how the rows begin that a run is drawn in.
var display = []string{"loss  ", "validation  ", "memory  ", "tokens/s  ", "step  ", "measuring  "}

// drawnRows lists the lines that are rows of the display.
func drawnRows(lines []string) (rows []string) {
	for _, line := range lines {
		for _, name := range display {
			if strings.HasPrefix(line, name) {
				rows = append(rows, line)
			}
		}
	}
	return rows
}

// whole reports whether the display stands below all lines, each of its rows once.
func whole(lines []string) bool {
	const most = 5
	last := lines[max(0, len(lines)-most):]
	rows := drawnRows(lines)
	if len(rows) != most || len(drawnRows(last)) != most {
		return false
	}
	for i, name := range []string{"loss  ", "validation  ", "memory  ", "tokens/s  "} {
		if !strings.HasPrefix(rows[i], name) {
			return false
		}
	}
	return true
}

// trainArgs are those of a run that takes as many steps as it is left.
func trainArgs(t *testing.T, more ...string) []string {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("The quick brown fox jumps over the lazy dog. ", 200)), 0o666); err != nil {
		t.Fatal(err)
	}
	model := testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 256})
	return append([]string{"train", "--model", model, "--data", text, "--out", filepath.Join(dir, "run"), "--ctx", "32", "--threads", "1"}, more...)
}

// A run is drawn below what is said of it, through validations and checkpoints and on a terminal that is resized, until Ctrl-C;
// then nothing of it is left.
func TestTrainAtATerminal(t *testing.T) {
	s := sit(t, 90, 24, nil, trainArgs(t, "--steps", "1000000", "--eval-every", "300", "--checkpoint-every", "500")...)
	s.waits("display", whole)
	s.resize(50, 24)
	s.tellSize()
	s.waits("display without graphs", func(lines []string) bool {
		return whole(lines) && !strings.ContainsAny(strings.Join(lines, ""), "━─")
	})
	s.resize(70, 12)
	s.tellSize()
	lines := s.waits("display with graphs again, and a checkpoint", func(lines []string) bool {
		return whole(lines) && strings.ContainsAny(strings.Join(lines, ""), "━─") && strings.Contains(strings.Join(lines, "\n"), "finetune: checkpoint")
	})
	for _, want := range []string{"finetune: memory: ", "finetune: validation loss of the base: ", "finetune: validation loss after step 300: "} {
		if n := strings.Count(strings.Join(lines, "\n"), want); n != 1 {
			t.Errorf("%q is said %d times, want once:\n%s", want, n, strings.Join(lines, "\n"))
		}
	}
	if _, err := s.ours.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	code, lines := s.leaves()
	if rows := drawnRows(lines); len(rows) > 0 || code != exitInterrupted {
		t.Errorf("after Ctrl-C the exit code is %d and %q is left, want %d and nothing", code, rows, exitInterrupted)
	}
	if last := strings.Join(lines[len(lines)-2:], "\n"); !strings.Contains(last, "interrupted after step") || !strings.Contains(last, "finetune: hint: --resume") {
		t.Errorf("the last lines are %q, want the step and --resume", last)
	}
}

// A run that comes to its end leaves its summary.
func TestTrainAtATerminalToTheEnd(t *testing.T) {
	code, lines := sit(t, 80, 24, nil, trainArgs(t, "--steps", "3")...).leaves()
	text := strings.Join(lines, "\n")
	if rows := drawnRows(lines); code != exitDone || len(rows) > 0 || !strings.Contains(text, "\n3 steps in ") {
		t.Errorf("the exit code is %d and the terminal shows\n%s\nwant 0 and the summary without a display", code, text)
	}
}

// With --json, and where the terminal cannot be drawn on, there are lines.
func TestTrainIsNotDrawnForScripts(t *testing.T) {
	var events bytes.Buffer
	s := sit(t, 80, 24, &events, append(trainArgs(t, "--steps", "3"), "--json")...)
	code, lines := s.leaves()
	if rows := drawnRows(lines); code != exitDone || len(rows) > 0 || !strings.Contains(strings.Join(lines, "\n"), "finetune: step 1 of 3: loss ") {
		t.Errorf("the exit code is %d and the terminal shows\n%s\nwant 0 and lines", code, strings.Join(lines, "\n"))
	}
	for line := range strings.Lines(events.String()) {
		if !strings.HasPrefix(line, `{"event":`) {
			t.Errorf("standard output has %q, want events", line)
		}
	}
	if !strings.Contains(events.String(), `{"event":"done"`) {
		t.Errorf("standard output ends without an event of the end:\n%s", events.String())
	}
}
