package data

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// tableRows reads a table: cells are texts, named by the first line. Where that line is no names but cells like others, the
// columns are "1", "2" and so on.
func tableRows(path string, r io.Reader, kind fileKind, yield func(row, error) bool) error {
	b, err := readAll(path, r)
	if err != nil {
		return err
	}
	if i := badUTF8(b); i >= 0 {
		return encodingError(b, i, 1)
	}
	cells, err := tableCells(b, kind)
	if err != nil || len(cells) == 0 {
		return err
	}
	names, rest := header(cells)
	for i, name := range names {
		if name != "" && slices.Contains(names[:i], name) {
			return &FormatError{Line: cells[0].line, Msg: fmt.Sprintf("column %d is called %q like an earlier one, want names that differ", i+1, name)}
		}
	}
	for _, line := range rest {
		o := make(object, len(names))
		for i, name := range names {
			if i < len(line.cells) && name != "" {
				o[name], _ = json.Marshal(line.cells[i])
			}
		}
		next, err := row{object: o, line: line.line}, error(nil)
		if len(rest) == len(cells) {
			next.cols = len(names)
		}
		if len(line.cells) != len(names) {
			err = badf("%d cells, want %d as in the first line", len(line.cells), len(names))
		}
		if !yield(next, err) {
			return errStopped
		}
	}
	return nil
}

// cellsOfLine is one line of a table.
type cellsOfLine struct {
	cells []string
	line  int
}

func tableCells(b []byte, kind fileKind) ([]cellsOfLine, error) {
	comma := ','
	switch first, _, _ := bytes.Cut(b, []byte("\n")); {
	case kind == kindTSV:
		comma = '\t'
	case !bytes.ContainsRune(first, ',') && bytes.ContainsRune(first, ';'):
		comma = ';' // where a comma is the decimal point
	}
	lines, err := quotedCells(b, comma)
	if err != nil && kind == kindTSV {
		return plainCells(b), nil // quotes that are part of the text
	}
	return lines, err
}

// quotedCells reads cells that may stand in double quotes (RFC 4180).
func quotedCells(b []byte, comma rune) (all []cellsOfLine, err error) {
	r := csv.NewReader(bytes.NewReader(b))
	r.Comma, r.FieldsPerRecord = comma, -1
	for {
		cells, err := r.Read()
		if err == io.EOF {
			return all, nil
		}
		if e, ok := errors.AsType[*csv.ParseError](err); ok {
			return nil, &FormatError{Line: e.StartLine, Msg: fmt.Sprintf("column %d: %v", e.Column, e.Err)}
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		all = append(all, cellsOfLine{cells, line})
	}
}

// plainCells cuts lines at their tabs, whatever quotes there are.
func plainCells(b []byte) (all []cellsOfLine) {
	n := 0
	for line := range bytes.Lines(b) {
		n++
		if text := strings.TrimRight(string(line), "\r\n"); text != "" {
			all = append(all, cellsOfLine{strings.Split(text, "\t"), n})
		}
	}
	return all
}

// header takes the names off the lines. A first line with a cell that is empty, a number or longer than names are is none; but
// the first cell may be empty, above the numbers of rows.
func header(lines []cellsOfLine) (names []string, rest []cellsOfLine) {
	const longest = 40 // bytes
	first := lines[0].cells
	for i, c := range first {
		_, err := strconv.ParseFloat(strings.TrimSpace(c), 64)
		if i == 0 && strings.TrimSpace(c) == "" && len(first) > 1 && countsRows(lines[1:]) {
			continue
		}
		if strings.TrimSpace(c) == "" || len(c) > longest || err == nil {
			return numbered(len(first)), lines
		}
	}
	names = make([]string, len(first))
	for i, c := range first {
		names[i] = strings.TrimSpace(c)
	}
	return names, lines[1:]
}

// countsRows reports whether the first cell of every line is a whole number.
func countsRows(lines []cellsOfLine) bool {
	for _, l := range lines {
		if _, err := strconv.Atoi(strings.TrimSpace(l.cells[0])); err != nil {
			return false
		}
	}
	return true
}

func numbered(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = strconv.Itoa(i + 1)
	}
	return names
}

// textColumn finds the one column of a table without a header that holds texts: most of its cells are of several words, and of no other's.
func textColumn(rows []row) (string, bool) {
	const most = 0.8
	found := ""
	for _, name := range numbered(rows[0].cols) {
		n := 0
		for _, r := range rows {
			if s, err := r.text(name); err == nil && strings.Contains(strings.TrimSpace(s), " ") {
				n++
			}
		}
		if float64(n) < most*float64(len(rows)) {
			continue
		}
		if found != "" {
			return "", false
		}
		found = name
	}
	return found, found != ""
}
