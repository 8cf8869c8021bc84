package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// emulator is a terminal that knows what the program may ask of one: text, new lines, some rows up, erase to the end of the row or
// of the screen. Anything else is an error, so a test that draws on it also says that nothing more is asked for. Lines that are
// wider than the terminal take several rows, and are broken anew when its width changes, as most terminals do. Every character
// is as wide as any other. Goroutines may share it.
type emulator struct {
	mu            sync.Mutex
	columns, rows int
	lines         [][]rune // from the first that was shown on, none is forgotten
	line, offset  int      // the cursor, which is on a row of lines[line]
	top           int      // the first row that is in sight
	rest          []byte   // of a character or of a request, whose end has not come yet
	err           error
}

func newEmulator(columns, rows int) *emulator {
	return &emulator{columns: columns, rows: rows, lines: [][]rune{nil}}
}

// Write shows what a program sends.
func (e *emulator) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rest = append(e.rest, p...)
	for len(e.rest) > 0 && e.err == nil {
		n := e.obey(string(e.rest))
		if n == 0 {
			break
		}
		e.rest = e.rest[n:]
		e.top = max(e.top, e.row()-e.rows+1)
	}
	return len(p), nil
}

// obey does what the beginning of text asks for, and returns how much of it that was; 0 where the end has not come yet.
func (e *emulator) obey(text string) int {
	const request = "\x1b["
	switch {
	case strings.HasPrefix(text, request):
		end := strings.IndexFunc(text[len(request):], func(r rune) bool { return r >= '@' })
		if end < 0 {
			return 0
		}
		end += len(request) + 1
		e.request(text[len(request):end])
		return end
	case text[0] == '\x1b':
		return 0
	case !utf8.FullRuneInString(text):
		return 0
	}
	r, n := utf8.DecodeRuneInString(text)
	switch {
	case r == '\r':
		e.offset -= e.offset % e.columns
	case r == '\n':
		e.down()
	case r < ' ':
		e.err = fmt.Errorf("the terminal is sent %q", r)
	default:
		e.put(r)
	}
	return n
}

func (e *emulator) request(what string) {
	n := 0
	switch {
	case what == "K":
		e.eraseRow()
	case what == "J":
		e.lines = e.lines[:e.line+1]
		e.lines[e.line] = e.lines[e.line][:min(e.offset, len(e.lines[e.line]))]
	case strings.HasSuffix(what, "A"):
		if _, err := fmt.Sscanf(what, "%dA", &n); err == nil && n > 0 {
			for ; n > 0 && e.row() > e.top; n-- {
				e.up()
			}
			return
		}
		fallthrough
	default:
		e.err = fmt.Errorf("the terminal is asked for %q", what)
	}
}

// put writes a character over what is under the cursor.
func (e *emulator) put(r rune) {
	line := e.lines[e.line]
	for len(line) <= e.offset {
		line = append(line, ' ')
	}
	line[e.offset] = r
	e.lines[e.line] = line
	e.offset++
}

// height returns how many rows a line takes.
func (e *emulator) height(line []rune) int { return max(1, (len(line)+e.columns-1)/e.columns) }

// row returns the cursor's row, counted from the first of all.
func (e *emulator) row() int {
	row := e.offset / e.columns
	if row > 0 && e.offset == len(e.lines[e.line]) && e.offset%e.columns == 0 { // behind the last column
		row--
	}
	for _, line := range e.lines[:e.line] {
		row += e.height(line)
	}
	return row
}

func (e *emulator) down() {
	column := e.offset % e.columns
	if next := e.offset - column + e.columns; next < len(e.lines[e.line]) {
		e.offset = next
		return
	}
	e.line, e.offset = e.line+1, 0
	if e.line == len(e.lines) {
		e.lines = append(e.lines, nil)
	}
}

func (e *emulator) up() {
	if e.offset >= e.columns {
		e.offset -= e.columns
		return
	}
	e.line--
	e.offset = (e.height(e.lines[e.line]) - 1) * e.columns
}

// eraseRow erases from the cursor to the end of its row. What was broken behind it becomes a line of its own.
func (e *emulator) eraseRow() {
	line := e.lines[e.line]
	end := e.offset - e.offset%e.columns + e.columns
	if end < len(line) {
		e.lines = slices.Insert(e.lines, e.line+1, slices.Clone(line[end:]))
	}
	e.lines[e.line] = line[:min(e.offset, len(line))]
}

// resize gives the terminal another size.
func (e *emulator) resize(columns, rows int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.columns, e.rows = columns, rows
	e.top = max(0, e.row()-rows+1)
}

func (e *emulator) size() (columns, rows int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.columns, e.rows
}

// shown returns the lines from the first on, without those that are empty at the end.
func (e *emulator) shown() ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var lines []string
	for _, line := range e.lines {
		lines = append(lines, strings.TrimRight(string(line), " "))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines, e.err
}
