package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// drawing returns a ui that draws on a terminal of the test.
func drawing(columns, rows int) (*ui, *emulator) {
	e := newEmulator(columns, rows)
	u := newUI(e, e)
	u.terminal, u.dumb, u.board.size = true, false, e.size
	return u, e
}

// wantShown waits until the terminal shows these lines and no others: pictures come when mpb's clock says so.
func wantShown(t *testing.T, e *emulator, want ...string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		got, err := e.shown()
		switch {
		case err != nil:
			t.Fatal(err)
		case slices.Equal(got, want):
			return
		case time.Now().After(end):
			t.Fatalf("the terminal shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func rows(text ...string) picture { return func(int) []string { return text } }

func TestLinesPassAboveThePicture(t *testing.T) {
	u, e := drawing(40, 10)
	u.say("first")
	u.show(rows("one", "two"))
	wantShown(t, e, "finetune: first", "one", "two")
	u.say("second")
	if got, _ := e.shown(); !slices.Equal(got, []string{"finetune: first", "finetune: second", "one", "two"}) { // at once
		t.Errorf("after a line the terminal shows %q", got)
	}
	u.say("%s", "longer "+strings.Repeat("x", 40)) // takes two rows
	u.show(rows("a", "b", "c"))
	longer := "finetune: longer " + strings.Repeat("x", 40)
	wantShown(t, e, "finetune: first", "finetune: second", longer, "a", "b", "c")
	u.progress("less")
	wantShown(t, e, "finetune: first", "finetune: second", longer, "finetune: less")
	fmt.Fprintln(u.results(), "result")
	u.flush()
	wantShown(t, e, "finetune: first", "finetune: second", longer, "result")
	u.show(rows("again"))
	wantShown(t, e, "finetune: first", "finetune: second", longer, "result", "again")
	u.prompt("> ")
	wantShown(t, e, "finetune: first", "finetune: second", longer, "result", ">")
}

// Lines push the picture down and older lines out of sight; all of them are there, once.
func TestPictureAtTheBottomOfAFullTerminal(t *testing.T) {
	u, e := drawing(30, 6)
	defer u.board.clear()
	var want []string
	u.show(rows("one", "two", "three"))
	wantShown(t, e, "one", "two", "three")
	for i := range 20 {
		u.say("line %d", i)
		want = append(want, fmt.Sprintf("finetune: line %d", i))
	}
	wantShown(t, e, append(want, "one", "two", "three")...)
	u.show(rows("1", "2", "3"))
	wantShown(t, e, append(want, "1", "2", "3")...)
}

// Of a picture that is higher than the terminal what does not fit is left out, so that what was said stays.
func TestPictureInALowTerminal(t *testing.T) {
	u, e := drawing(30, 3)
	defer u.board.clear()
	u.say("first")
	u.show(rows("a", "b", "c", "d"))
	wantShown(t, e, "finetune: first", "c", "d")
	u.show(rows("1", "2", "3", "4"))
	wantShown(t, e, "finetune: first", "3", "4")
}

func TestPictureInATerminalThatIsResized(t *testing.T) {
	u, e := drawing(60, 10)
	defer u.board.clear()
	u.say("first")
	u.show(func(columns int) []string {
		return []string{strings.Repeat("a", columns), "short", strings.Repeat("b", columns)}
	})
	for _, columns := range []int{60, 25, 11, 80, 40} {
		e.resize(columns, 10)
		wantShown(t, e, "finetune: first", strings.Repeat("a", columns-1), "short", strings.Repeat("b", columns-1))
		u.say("at %d", columns)
		wantShown(t, e, "finetune: first", fmt.Sprintf("finetune: at %d", columns), strings.Repeat("a", columns-1), "short", strings.Repeat("b", columns-1))
		e.mu.Lock() // begin anew, for lines that fit into less
		e.lines = slices.Delete(e.lines, 1, 2)
		e.line--
		e.mu.Unlock()
	}
}

// A picture that does not change costs nothing, and one that does is one write.
func TestPictureIsWrittenOnce(t *testing.T) {
	u, _ := drawing(60, 10)
	defer u.board.clear()
	writes := make(chan string, 100)
	u.board.write = func(text string) { writes <- text }
	u.show(rows("one", "two"))
	if got, want := <-writes, "one\x1b[K\ntwo\x1b[K\n\x1b[J"; got != want {
		t.Errorf("the first picture is %q, want %q", got, want)
	}
	time.Sleep(3 * refreshEvery)
	u.show(rows("one", "2"))
	if got, want := <-writes, "\x1b[2A\rone\x1b[K\n2\x1b[K\n\x1b[J"; got != want {
		t.Errorf("the next picture is %q, want %q", got, want)
	}
}

func TestProgressNeverWraps(t *testing.T) {
	u, e := drawing(30, 10)
	defer u.board.clear()
	u.progressOf(1, 2, "%s", strings.Repeat("ö", 100))
	wantShown(t, e, "finetune: "+strings.Repeat("ö", 18)+"…")
	u.progress("%s", strings.Repeat("語", 100)) // each takes two columns
	wantShown(t, e, "finetune: "+strings.Repeat("語", 9)+"…")
	u.progress("a\x1b[2Jb\n")
	wantShown(t, e, `finetune: a\x1b[2Jb\n`)
}

func TestNothingIsDrawnWhereItCannotBe(t *testing.T) {
	for name, is := range map[string]func(*ui){
		"a pipe":              func(u *ui) { u.terminal = false },
		"a dumb terminal":     func(u *ui) { u.dumb = true },
		"output for a script": func(u *ui) { u.json = true },
	} {
		var stderr bytes.Buffer
		u := newUI(io.Discard, &stderr)
		u.terminal = true
		is(u)
		if u.progress("half") || u.counting("window", 1, 2) {
			t.Errorf("%s: progress has drawn", name)
		}
		u.say("done")
		if got := stderr.String(); got != "finetune: done\n" || u.board.bars != nil {
			t.Errorf("%s: stderr = %q, want the line alone", name, got)
		}
	}
}

// Lines and pictures come from several goroutines, and no line is lost or broken.
func TestBoardIsShared(t *testing.T) {
	u, e := drawing(50, 10)
	done := make(chan int)
	for g := range 4 {
		go func() {
			for i := range 50 {
				u.counting("window", i, 50)
				u.say("%d-%d", g, i)
				if i%20 == 0 {
					u.flush()
				}
			}
			done <- g
		}()
	}
	var want []string
	for range 4 {
		g := <-done
		for i := range 50 {
			want = append(want, fmt.Sprintf("finetune: %d-%d", g, i))
		}
	}
	u.board.clear()
	got, err := e.shown()
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("the terminal shows %d lines, %v, want %d: %q", len(got), err, len(want), got)
	}
}
