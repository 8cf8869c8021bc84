package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// picture draws what is to be seen while a command works: one row or more, none wider than columns. A board asks for it again
// and again, on a goroutine of its own.
type picture func(columns int) []string

const (
	mostRows     = 6                      // of a picture; of more the last are shown
	refreshEvery = 200 * time.Millisecond // a second's last digit is seen to change, and nobody reads faster
)

// board keeps a picture at the bottom of a terminal, and lets the lines that are said pass above it. Goroutines may share it.
//
// mpb has the clock, asks for the rows and takes them down again. What reaches the terminal is written by the board itself,
// which is mpb's ConsoleWriter, and in one piece each time: mpb's own writer holds lines back until it draws again, and the last
// line before a crash is the one that counts. The cursor is left at the beginning of the row below the picture, visible, and
// nothing of the terminal is switched: a program that is killed has nothing to put back.
type board struct {
	write func(text string) // to the terminal, at once
	size  func() (columns, rows int)

	shown atomic.Pointer[picture] // nil: nothing is

	life sync.Mutex // of bars
	bars *mpb.Progress

	mu    sync.Mutex
	frame []string // the rows that are on the terminal

	next bytes.Buffer // the rows that mpb is about to show; no other goroutine's
}

// show draws p from now on, in place of what was drawn so far.
func (b *board) show(p picture) {
	b.life.Lock()
	defer b.life.Unlock()
	b.shown.Store(&p)
	if b.bars != nil {
		return
	}
	b.bars = mpb.New(mpb.WithConsoleWriter(b), mpb.WithRefreshRate(refreshEvery))
	var rows []string // of one drawing: mpb calls for the first row first
	first := mpb.BarFillerFunc(func(w io.Writer, _ decor.Statistics) error {
		rows = b.drawn()
		_, err := io.WriteString(w, rowAt(rows, 0)) // mpb adds the end of the line
		return err
	})
	var others []mpb.BarFiller
	for i := 1; i < mostRows; i++ {
		others = append(others, mpb.BarFillerFunc(func(w io.Writer, _ decor.Statistics) error {
			if i >= len(rows) {
				return nil
			}
			_, err := io.WriteString(w, rows[i]+"\n")
			return err
		}))
	}
	b.bars.Add(0, first, mpb.BarFillerTrim(), mpb.BarBtmExtender(others...)) // fails after a shutdown only
}

// drawn returns the rows of the picture as the terminal has room for them.
func (b *board) drawn() []string {
	p := b.shown.Load()
	if p == nil {
		return nil
	}
	columns, height := b.size()
	rows := (*p)(columns - 1) // a row that fills the last column would leave the cursor in it
	return rows[max(0, len(rows)-max(1, min(mostRows, height-1))):]
}

func rowAt(rows []string, i int) string {
	if i < len(rows) {
		return rows[i]
	}
	return ""
}

// say writes text, which ends with a newline, above the picture.
func (b *board) say(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.frame) == 0 {
		b.write(text)
		return
	}
	columns, _ := b.size()
	b.write(b.back(columns) + eraseBelow + text + below(b.frame))
}

// clear takes the picture away. What is said stays.
func (b *board) clear() {
	b.life.Lock()
	defer b.life.Unlock()
	if b.bars == nil {
		return
	}
	b.shown.Store(nil)
	b.mu.Lock()
	if len(b.frame) > 0 {
		columns, _ := b.size()
		b.write(b.back(columns) + eraseBelow)
		b.frame = nil
	}
	b.mu.Unlock()
	b.bars.Shutdown()
	b.bars = nil
}

// What the terminal is told, all of it: the cursor so many rows up, to the end of a row or of the screen nothing.
const (
	rowsUp     = "\x1b[%dA\r"
	eraseRow   = "\x1b[K"
	eraseBelow = "\x1b[J"
)

// below writes the rows of a picture, each over what was there.
func below(rows []string) string {
	var text strings.Builder
	for _, row := range rows {
		text.WriteString(row + eraseRow + "\n")
	}
	return text.String()
}

// back returns to the first row of the picture. Where the terminal has become narrower since, it has broken the rows that no
// longer fit into several, as most terminals do. b.mu must be held.
func (b *board) back(columns int) string {
	n := 0
	for _, row := range b.frame {
		n += max(1, (runewidth.StringWidth(row)+columns-1)/columns)
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(rowsUp, n)
}

// Flush puts what mpb has written in place of the last picture; nothing is written where that is the same.
func (b *board) Flush(int) error {
	rows := strings.Split(strings.TrimSuffix(b.next.String(), "\n"), "\n")
	b.next.Reset()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shown.Load() == nil || slices.Equal(rows, b.frame) { // nil: it was cleared meanwhile
		return nil
	}
	columns, _ := b.size()
	b.write(b.back(columns) + below(rows) + eraseBelow)
	b.frame = rows
	return nil
}

// Write, ReadFrom, IsTerminal, GetTermSize and Flush make it an mpb.ConsoleWriter.
func (b *board) Write(p []byte) (int, error) { return b.next.Write(p) }

func (b *board) ReadFrom(r io.Reader) (int64, error) { return b.next.ReadFrom(r) }

func (b *board) IsTerminal() bool { return true }

func (b *board) GetTermSize() (columns, rows int, err error) {
	columns, _ = b.size()
	return columns, 2 * mostRows, nil // drawn sees to it that the rows fit
}
