package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"finetune/internal/need"
	"finetune/internal/testmodel"
)

// terminal opens a pair of a terminal's two ends: what is written to ours is typed at theirs.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		need.Skip(t, need.Rights, err.Error())
	}
	var number, unlocked int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCGPTN: &number, syscall.TIOCSPTLCK: &unlocked} {
		if _, _, err := syscall.Syscall(syscall.SYS_IOCTL, ours.Fd(), request, uintptr(unsafe.Pointer(arg))); err != 0 {
			t.Fatal(err)
		}
	}
	if theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// screen gathers what a terminal shows.
type screen struct {
	t    *testing.T
	text chan string
	seen string
}

func newScreen(t *testing.T, f *os.File) *screen {
	s := &screen{t: t, text: make(chan string)}
	go func() {
		defer close(s.text)
		for b := make([]byte, 4096); ; {
			n, err := f.Read(b)
			if err != nil { // the program has ended
				return
			}
			s.text <- string(b[:n])
		}
	}()
	return s
}

// shows waits until the terminal has shown a text, behind what was waited for before.
func (s *screen) shows(text string) {
	s.t.Helper()
	for end := time.After(time.Minute); ; {
		if _, rest, ok := strings.Cut(s.seen, text); ok {
			s.seen = rest
			return
		}
		select {
		case more, ok := <-s.text:
			if s.seen += more; !ok {
				s.t.Fatalf("the terminal shows %q at last, want %q", s.seen, text)
			}
		case <-end:
			s.t.Fatalf("the terminal shows %.300q, want %q", s.seen, text)
		}
	}
}

// At a terminal Ctrl-C ends an answer, and the conversation goes on; a wrong command is no end either. Ctrl-D is one.
func TestCtrlCStopsAnAnswer(t *testing.T) {
	model := testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 8192, ChatTemplate: testmodel.ChatML})
	ours, theirs := terminal(t)
	cmd := exec.Command("finetune", "chat", "--model", model, "--ctx", "8192", "--n", "1000000", "--threads", "1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} // so that a typed Ctrl-C is a signal to it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() {
		cmd.Process.Kill()
		ours.Close()
	})
	s := newScreen(t, ours)
	s.shows("> ")
	fmt.Fprint(ours, "once\n")
	s.shows("once\r\n") // the echo
	select {
	case s.seen = <-s.text: // the answer begins
	case <-time.After(time.Minute):
		t.Fatal("no answer")
	}
	fmt.Fprint(ours, "\x03")
	s.shows("\r\n> ")
	fmt.Fprint(ours, "/foo\n")
	s.shows("want /adapter on|off")
	s.shows("> ")
	fmt.Fprint(ours, "\x04")
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for open := true; open; {
		select {
		case err := <-ended:
			if open = false; err != nil {
				t.Errorf("the chat ends with %v", err)
			}
		case _, ok := <-s.text:
			if !ok {
				s.text = nil
			}
		case <-time.After(time.Minute):
			t.Fatal("the chat does not end by Ctrl-D")
		}
	}
}
