package main

// How finetune talks.
//
// Results go to standard output and nothing else does; with --json they are
// one JSON object (train: one a line, as events), so that a script can rely on
// every byte there. Everything said to people goes to standard error, where
// each line begins with "finetune: ", is lower case, has no full stop, and
// quotes what the user named. There are four kinds of line:
//
//	finetune: text               what happens, only where it helps to know
//	finetune: warning: text      it goes on, but perhaps not as was meant
//	finetune: text               the error that ended the command, always one line
//	finetune: hint: text         under a warning or an error: what to try next
//
// An error says what was wanted and what was found. How far something has come
// is drawn at the bottom of a terminal, below all that was said, and is gone
// when the results come (board.go). Where standard error is no terminal, with
// TERM=dumb and with --json there are lines only, now and then.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"finetune/internal/hint"
	"finetune/trainer/data"

	"golang.org/x/term"
)

// ui is where every command reads its global flags and sends its words.
// Goroutines may share it.
type ui struct {
	json    bool   // --json
	verbose bool   // --verbose
	offline string // why no model is brought, empty = it may be

	mu        sync.Mutex
	stdout    *bufio.Writer
	stderr    io.Writer
	board     board // what is drawn on stderr, and what is said there
	terminal  bool  // stderr is one
	dumb      bool  // it can do no more than a typewriter
	typed     bool  // standard input is one: somebody types
	warned    []string
	answering stopper // what Ctrl-C ends before it ends the program
	closed    func()  // called when nobody reads one of the streams any more; nil = nothing is
}

// newUI returns a ui for the given streams.
func newUI(stdout, stderr io.Writer) *ui {
	f, isFile := stderr.(*os.File)
	u := &ui{stderr: stderr, terminal: isFile && term.IsTerminal(int(f.Fd())), dumb: os.Getenv("TERM") == "dumb"}
	u.stdout = bufio.NewWriter(watched{stdout, u})
	u.board.write, u.board.size = u.talk, u.size
	return u
}

// onClosed has f called, perhaps more than once, when something is written to a pipe that nobody reads any more.
func (u *ui) onClosed(f func()) { u.closed = f }

// watched is a stream of the ui that tells when nobody reads it.
type watched struct {
	io.Writer
	ui *ui
}

func (w watched) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if errors.Is(err, syscall.EPIPE) && w.ui.closed != nil {
		w.ui.closed()
	}
	return n, err
}

// talk writes to standard error. That it cannot be written changes nothing, but for a pipe that is closed.
func (u *ui) talk(text string) { io.WriteString(watched{u.stderr, u}, text) }

// results returns the writer for what a command prints as its result. Its errors
// stick and come out of flush. What is drawn on the terminal ends here.
func (u *ui) results() io.Writer {
	u.board.clear()
	return u.stdout
}

// printJSON prints one object on one line, at once, so that a reader of events
// need not wait.
func (u *ui) printJSON(v any) error {
	line, err := jsonLine(v)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stdout.Write(line)
	return u.stdout.Flush()
}

// jsonLine returns v as JSON with a newline, and with <, > and & as they are: the
// output goes to scripts and people, not into HTML.
func jsonLine(v any) ([]byte, error) {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return line.Bytes(), err
}

// flush sends the results on their way and returns what went wrong with them. What is drawn on the terminal ends here.
func (u *ui) flush() error {
	u.board.clear()
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stdout.Flush()
}

// say tells what happens.
func (u *ui) say(format string, args ...any) { u.line("", fmt.Sprintf(format, args...)) }

// warn tells of something that goes on, but perhaps not as was meant: once, however often it comes up.
func (u *ui) warn(text string, hints ...string) {
	u.mu.Lock()
	again := slices.Contains(u.warned, text)
	u.warned = append(u.warned, text)
	u.mu.Unlock()
	if again {
		return
	}
	u.line("warning: ", text)
	for _, h := range hints {
		u.line("hint: ", h)
	}
}

// fail tells the error that ends the command, and its hints.
func (u *ui) fail(err error) {
	u.flush() // a result that was printed comes before the error
	u.line("", errorText(err))
	for _, h := range append(hint.Of(err), systemHints(err, os.Args)...) {
		u.line("hint: ", h)
	}
}

// errorText returns the error on one line. The errors of the file system name
// the system call and not the file's quotes, so they are put in our own form.
func errorText(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) && path.Error() == err.Error() {
		return fmt.Sprintf("%q: %v", path.Path, path.Err)
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// line writes one line to standard error, in one piece.
func (u *ui) line(kind, text string) { u.board.say("finetune: " + kind + asText(text) + "\n") }

// draws reports whether pictures can be drawn on standard error.
func (u *ui) draws() bool { return u.terminal && !u.dumb && !u.json }

// progress draws how far something has come, in place of what was drawn so far. Where nothing can be drawn the caller says
// something now and then instead: progress reports whether it drew.
func (u *ui) progress(format string, args ...any) bool { return u.progressOf(0, 0, format, args...) }

// progressOf does so with a bar, where it is known of how much: done of of, which is 0 if it is not.
func (u *ui) progressOf(done, of int64, format string, args ...any) bool {
	text := "finetune: " + asText(fmt.Sprintf(format, args...))
	return u.show(func(columns int) []string { return []string{barRow(text, done, of, columns)} })
}

// counting does so for things of which there are of.
func (u *ui) counting(thing string, done, of int) bool {
	return u.progressOf(int64(done), int64(of), "%s %d of %d", thing, done, of)
}

// show draws a picture in place of what was drawn so far, and reports whether it did.
func (u *ui) show(p picture) bool {
	if !u.draws() {
		return false
	}
	u.board.show(p)
	return true
}

// patience is how long something may take until the first line about it, where no status line can be drawn.
const patience = 2 * time.Second

// reading returns what tells of the reading of data, where it takes longer than some seconds.
func (u *ui) reading() func(data.Progress) {
	began, said := time.Now(), time.Time{}
	what := ""
	return func(p data.Progress) {
		if p.What != what {
			what, began = p.What, time.Now()
		}
		text := p.String()
		if took := time.Since(began); took > patience && p.Done > 0 && p.Total > p.Done {
			text += fmt.Sprintf(", %s left", clock(took.Seconds()*float64(p.Total-p.Done)/float64(p.Done)))
		}
		if u.progressOf(p.Done, p.Total, "%s", text) {
			return
		}
		if time.Since(began) > patience && time.Since(said) > quietInterval {
			said = time.Now()
			u.say("%s", text)
		}
	}
}

// prompt asks for input, where somebody sits at a terminal.
func (u *ui) prompt(text string) {
	if u.terminal {
		u.board.clear()
		u.board.say(text)
	}
}

// size returns the size of the terminal; 80 by 24 where it cannot be told.
func (u *ui) size() (columns, rows int) {
	if f, ok := u.stderr.(*os.File); ok {
		if columns, rows, err := term.GetSize(int(f.Fd())); err == nil && columns > 1 && rows > 0 {
			return columns, rows
		}
	}
	return 80, 24
}
