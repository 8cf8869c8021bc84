package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"
)

// row is one record of a file as it stands there.
type row struct {
	object
	line int // where it begins, from 1
	cols int // of a table without a header: how many cells; 0: it has names

	around []string // fields of the object that wraps this record and those behind it
}

// rows yields the records of a file. An error ends them if it is fatal, else it is about one record, and the next follows.
func rows(path string, kind fileKind, w *watch) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		n := 0
		next := func(r row, err error) bool {
			n++
			return yield(r, locate(err, path, r.line))
		}
		if err := eachRow(path, kind, w, next); err != nil && err != errStopped {
			yield(row{}, &fatalError{locate(err, path, 0)})
		} else if err == nil && n == 0 {
			yield(row{}, &fatalError{&FormatError{Path: path, Msg: "no record in the file", Err: ErrEmpty}})
		}
	}
}

// errStopped ends the reading because the reader wants no more.
var errStopped = errors.New("stopped")

// fatalError is an error behind which a file cannot be read on.
type fatalError struct{ error }

func (e *fatalError) Unwrap() error { return e.error }

func unwrapFatal(err error) error {
	if fatal, ok := errors.AsType[*fatalError](err); ok {
		return fatal.error
	}
	return err
}

// eachRow hands the rows of a file to yield, which says whether it wants more. What it returns is fatal.
func eachRow(path string, kind fileKind, w *watch, yield func(row, error) bool) error {
	if kind == kindParquet {
		return parquetRows(path, w, yield)
	}
	f, err := open(path, w)
	if err != nil {
		return err
	}
	defer f.Close()
	switch kind {
	case kindCSV, kindTSV:
		return tableRows(path, f, kind, yield)
	}
	return jsonRows(path, bufio.NewReaderSize(f, 1<<16), yield)
}

// jsonRows reads an array, objects one a line, or objects one behind the other; the objects may be wrapped in another.
func jsonRows(path string, r *bufio.Reader, yield func(row, error) bool) error {
	first, skipped, err := firstByte(r)
	if err != nil {
		return err
	}
	line := 1 + skipped
	if first == '[' {
		return arrayFile(path, r, line, yield)
	}
	return lineRows(path, r, line, yield)
}

// firstByte peeks at the first byte that is not white space, and counts the line ends before it. 0 is none.
func firstByte(r *bufio.Reader) (first byte, lines int, err error) {
	for {
		c, err := r.ReadByte()
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return 0, lines, err
		}
		switch c {
		case '\n':
			lines++
		case ' ', '\t', '\r':
		default:
			return c, lines, r.UnreadByte()
		}
	}
}

// lineRows reads a record a line. A first line that only begins an object means that objects go over several lines.
func lineRows(path string, r *bufio.Reader, line int, yield func(row, error) bool) error {
	for first := true; ; line++ {
		b, err := readLine(r)
		if err != nil && err != io.EOF {
			return locate(err, path, line)
		}
		text := bytes.TrimSpace(b)
		switch {
		case len(text) == 0:
		case first && opens(text):
			rest, e := readAll(path, r)
			if e != nil {
				return e
			}
			return streamRows(append(append(b, '\n'), rest...), line, yield)
		default:
			first = false
			if !rowOfLine(b, line, yield) {
				return errStopped
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// opens reports whether a line is the beginning of an object that goes on in the next.
func opens(text []byte) bool {
	last := text[len(text)-1]
	return text[0] == '{' && (last == '{' || last == '[' || last == ',') && !json.Valid(bytes.TrimSuffix(text, []byte(",")))
}

func rowOfLine(b []byte, line int, yield func(row, error) bool) bool {
	if badUTF8(b) >= 0 {
		return yield(row{line: line}, &FormatError{Msg: notUTF8(b, "of the line"), Err: errEncoding})
	}
	return yieldObject(b, line, wantLine, yield)
}

const (
	wantLine  = "want one JSON object a line"
	wantArray = "want a JSON array of objects"
)

// yieldObject parses an object and yields it, or those that it wraps.
func yieldObject(raw []byte, line int, want string, yield func(row, error) bool) bool {
	o, err := parseObject(raw, want)
	if err != nil {
		return yield(row{line: line}, err)
	}
	if inner, around, ok := o.unwrap(); ok {
		at := bytes.Index(raw, inner)
		line += bytes.Count(raw[:max(at, 0)], []byte("\n"))
		told := func(r row, err error) bool { // with the first of them
			r.around, around = append(r.around, around...), nil
			return yield(r, err)
		}
		if jsonKind(inner) == "an object" {
			return yieldObject(inner, line, want, told)
		}
		return arrayRows(inner, line, told) == nil
	}
	return yield(row{object: o, line: line}, nil)
}

// readLine returns the next line without its end, io.EOF with the last.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxRecord:
			return nil, badf("more than %d MiB without a line end, want one JSON object a line", maxRecord>>20)
		case err == bufio.ErrBufferFull:
			continue
		}
		return bytes.TrimSuffix(line, []byte("\n")), err
	}
}

// lineCounter counts the lines of a text up to offsets that only grow.
type lineCounter struct {
	b       []byte
	line    int // of byte counted
	counted int
}

func (c *lineCounter) at(offset int64) int {
	if at := min(int(offset), len(c.b)); at > c.counted {
		c.line += bytes.Count(c.b[c.counted:at], []byte("\n"))
		c.counted = at
	}
	return c.line
}

// streamRows reads objects that stand one behind the other, each over several lines.
func streamRows(b []byte, line int, yield func(row, error) bool) error {
	if i := badUTF8(b); i >= 0 {
		return encodingError(b, i, line)
	}
	lines := &lineCounter{b: b, line: line}
	for dec := json.NewDecoder(bytes.NewReader(b)); ; {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return syntaxError(b, dec, err, lines, wantLine)
		}
		if !yieldObject(raw, lines.at(dec.InputOffset()-int64(len(raw))), wantLine, yield) {
			return errStopped
		}
	}
}

// arrayRows reads the elements of an array.
func arrayRows(b []byte, line int, yield func(row, error) bool) error {
	if i := badUTF8(b); i >= 0 {
		return encodingError(b, i, line)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	lines := &lineCounter{b: b, line: line}
	fail := func(err error) error { return syntaxError(b, dec, err, lines, wantArray) }
	if _, err := dec.Token(); err != nil {
		return fail(err)
	}
	for dec.More() {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fail(err)
		}
		if !yieldObject(raw, lines.at(dec.InputOffset()-int64(len(raw))), wantArray, yield) {
			return errStopped
		}
	}
	if _, err := dec.Token(); err != nil {
		return fail(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fail(errors.New("data behind the array"))
	}
	return nil
}

func encodingError(b []byte, i, line int) error {
	start := bytes.LastIndexByte(b[:i], '\n') + 1
	return &FormatError{Line: line + bytes.Count(b[:i], []byte("\n")), Msg: notUTF8(b[start:], "of the line"), Err: errEncoding}
}

// syntaxError places an error of encoding/json.
func syntaxError(b []byte, dec *json.Decoder, err error, lines *lineCounter, want string) error {
	at := dec.InputOffset()
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = max(s.Offset-1, 0)
	} else if err == io.EOF || err == io.ErrUnexpectedEOF {
		at = int64(len(b))
	}
	if rest := bytes.TrimLeft(b[dec.InputOffset():], " \t\r\n,"); bytes.HasPrefix(rest, []byte("]")) {
		at = int64(len(b) - len(rest)) // the decoder stops at the comma
	}
	return &FormatError{Line: lines.at(at), Msg: jsonProblem(err, b, int(at)) + "; " + want}
}
