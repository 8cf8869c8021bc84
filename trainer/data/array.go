package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
)

// wholeArray is the longest file with an array of records that is read at once, in bytes.
const wholeArray = 16 << 20

// arrayFile reads a file that is an array of records, which begins at line. Long ones are read element by element.
func arrayFile(path string, r *bufio.Reader, line int, yield func(row, error) bool) error {
	b, err := io.ReadAll(io.LimitReader(r, wholeArray+1))
	if err != nil {
		return err
	}
	if len(b) <= wholeArray {
		return arrayRows(b, line, yield)
	}
	a := &arrayReader{r: bufio.NewReaderSize(io.MultiReader(bytes.NewReader(b), r), 1<<16), line: line}
	return a.rows(yield)
}

// arrayReader cuts an array into its elements. It knows strings and brackets; all else is for who parses an element.
type arrayReader struct {
	r    *bufio.Reader
	line int // of the next byte
}

// byte reads a byte; io.EOF is one that is missing.
func (a *arrayReader) byte() (byte, error) {
	c, err := a.r.ReadByte()
	if c == '\n' {
		a.line++
	}
	return c, err
}

// next returns the next byte that is no white space, without reading it.
func (a *arrayReader) next() (byte, error) {
	for {
		c, err := a.byte()
		if err != nil {
			return 0, err
		}
		switch c {
		case ' ', '\t', '\r', '\n':
		default:
			return c, a.r.UnreadByte()
		}
	}
}

func (a *arrayReader) rows(yield func(row, error) bool) error {
	if _, err := a.next(); err != nil {
		return err
	}
	a.byte() // the bracket
	for first := true; ; first = false {
		c, err := a.next()
		if err == nil && c != ']' && !first {
			if c != ',' {
				return a.explain("[0 0]", a.line)
			}
			a.byte()
			if c, err = a.next(); err == nil && c == ']' {
				return a.explain("[0,]", a.line)
			}
		}
		switch {
		case err == io.EOF:
			return a.explain("[0", a.line)
		case err != nil:
			return err
		case c == ']':
			a.byte()
			if _, err := a.next(); err != io.EOF {
				return a.explain("[] 0", a.line)
			}
			return nil
		}
		if err := a.element(yield); err != nil {
			return err
		}
	}
}

func (a *arrayReader) element(yield func(row, error) bool) error {
	line := a.line
	raw, err := a.value()
	if err != nil {
		return err
	}
	if i := badUTF8(raw); i >= 0 {
		return encodingError(raw, i, line)
	}
	if !json.Valid(raw) {
		return a.explain("["+string(raw)+"]", line)
	}
	if !yieldObject(raw, line, wantArray, yield) {
		return errStopped
	}
	return nil
}

// value reads up to the comma or bracket behind a value.
func (a *arrayReader) value() (raw []byte, err error) {
	line := a.line
	depth, quoted, escaped := 0, false, false
	for {
		c, err := a.byte()
		if err == io.EOF {
			return nil, a.explain("["+string(raw), line)
		}
		if err != nil {
			return nil, err
		}
		if len(raw) > maxRecord {
			return nil, &FormatError{Line: line, Msg: badf("more than %d MiB in one element of the array, want %s", maxRecord>>20, wantArray[len("want "):]).(*FormatError).Msg}
		}
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = c == '\\', c != '"'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case depth == 0 && (c == ',' || c == ']'):
			return bytes.TrimRight(raw, " \t\r\n"), a.r.UnreadByte()
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return append(raw, c), nil
			}
		}
		raw = append(raw, c)
	}
}

// explain returns what is wrong with a text that is short and wrong in the same way.
func (a *arrayReader) explain(text string, line int) error {
	return arrayRows([]byte(text), line, func(row, error) bool { return true })
}
