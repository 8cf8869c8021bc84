package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"finetune/internal/hint"
)

// fileFormat is how a file holds its text.
type fileFormat uint8

const (
	formatAuto    fileFormat = iota // by the name: .jsonl, .ndjson and .json are records, others text
	formatText                      // one plain text
	formatRecords                   // one JSON object a line, or one JSON array of objects
)

const (
	maxRecord = 16 << 20 // bytes of one line of JSON
	maxFile   = 1 << 30  // bytes of a file that is read whole: plain text, a JSON array
)

// notText are names of files that would read as nonsense.
var notText = []string{".csv", ".tsv", ".parquet", ".arrow", ".gz", ".zst", ".bz2", ".xz", ".zip", ".xlsx", ".pdf", ".docx", ".gguf"}

func formatOf(path string, f fileFormat) (fileFormat, error) {
	if f != formatAuto {
		return f, nil
	}
	ext := strings.ToLower(filepath.Ext(path))
	switch {
	case ext == ".jsonl" || ext == ".ndjson" || ext == ".json":
		return formatRecords, nil
	case slices.Contains(notText, ext):
		return formatAuto, &UnsupportedError{Path: path, Msg: ext + " is not read, want plain text, .jsonl or .json", Err: errNotText}
	}
	return formatText, nil
}

var byteOrderMark = []byte("\ufeff")

// openFile opens a file that has an end and can be read again. It asks before it opens, which would wait for the other end of
// a named pipe.
func openFile(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, hint.With(&UnsupportedError{Path: path, Msg: "is a device or a pipe, want a regular file"},
			"what a pipe gives can be written to a file first")
	}
	return os.Open(path)
}

// readWhole reads a file that must be UTF-8, without its byte order mark.
func readWhole(path string) ([]byte, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxFile:
		return nil, &UnsupportedError{Path: path, Msg: fmt.Sprintf("more than %d MiB to read at once, want JSON lines, which are streamed", maxFile>>20)}
	}
	if i := badUTF8(b); i >= 0 {
		return nil, &FormatError{Path: path, Msg: fmt.Sprintf("byte %d is not UTF-8, want UTF-8 text", i)}
	}
	b = bytes.TrimPrefix(b, byteOrderMark)
	if len(b) == 0 {
		return nil, &FormatError{Path: path, Msg: "file is empty", Err: ErrEmpty}
	}
	return b, nil
}

func readText(path string) (string, error) {
	b, err := readWhole(path)
	return string(b), err
}

// badUTF8 returns the offset of the first byte that is not UTF-8, -1 if there is none.
func badUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	at := 0
	for {
		r, n := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && n <= 1 {
			return at
		}
		at += n
	}
}

// readRecords yields the records of a file in order, and stops behind the first error, which
// names path and line. Lines of JSON are streamed, at most 16 MiB each; blank ones are
// skipped. A JSON array is read whole.
func readRecords(path string) iter.Seq2[record, error] {
	return readObjects(path, func(o object, line int) (record, error) {
		rec, err := parseRecord(o)
		rec.Line = line
		return rec, err
	})
}

// readObjects yields what parse makes of each JSON object of a file, as readRecords.
func readObjects[T any](path string, parse func(o object, line int) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		f, err := openFile(path)
		if err != nil {
			yield(none, err)
			return
		}
		defer f.Close()
		r := bufio.NewReaderSize(f, 1<<16)
		isArray, err := beginsArray(r)
		if err != nil {
			yield(none, err)
			return
		}
		next := lines(path, r)
		if isArray {
			next = elements(path)
		}
		n := 0
		for raw, err := range next {
			var o object
			var x T
			if err == nil {
				o, err = parseObject(raw.json)
			}
			if err == nil {
				x, err = parse(o, raw.line)
			}
			if err != nil {
				yield(none, locate(err, path, raw.line))
				return
			}
			if n++; !yield(x, nil) {
				return
			}
		}
		if n == 0 {
			yield(none, &FormatError{Path: path, Msg: "no record in the file", Err: ErrEmpty})
		}
	}
}

// locate leaves errors of the file system, and those that know their place, as they are.
func locate(err error, path string, line int) error {
	var f *FormatError
	var u *UnsupportedError
	if errors.As(err, &f) && f.Path == "" || errors.As(err, &u) && u.Path == "" {
		return located(err, path, line)
	}
	return err
}

// beginsArray looks at the first byte that is not white space.
func beginsArray(r *bufio.Reader) (bool, error) {
	if mark, err := r.Peek(len(byteOrderMark)); err == nil && bytes.Equal(mark, byteOrderMark) {
		r.Discard(len(mark))
	}
	for n := 1; n <= 1<<16; n++ {
		b, err := r.Peek(n)
		if err != nil {
			if err == io.EOF || err == bufio.ErrBufferFull {
				return false, nil
			}
			return false, err
		}
		if c := b[n-1]; c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c == '[', nil
		}
	}
	return false, nil
}

// rawRecord is the bytes of one record and the line it begins on.
type rawRecord struct {
	json []byte
	line int
}

func lines(path string, r *bufio.Reader) iter.Seq2[rawRecord, error] {
	return func(yield func(rawRecord, error) bool) {
		for line := 1; ; line++ {
			b, err := readLine(r)
			if err != nil && err != io.EOF {
				yield(rawRecord{line: line}, locate(err, path, line))
				return
			}
			if len(bytes.TrimSpace(b)) > 0 && !yield(rawRecord{b, line}, checkLine(b)) {
				return
			}
			if err == io.EOF {
				return
			}
		}
	}
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

func checkLine(b []byte) error {
	if i := badUTF8(b); i >= 0 {
		return badf("byte %d of the line is not UTF-8, want UTF-8 text", i)
	}
	return nil
}

// elements yields the elements of a JSON array.
func elements(path string) iter.Seq2[rawRecord, error] {
	return func(yield func(rawRecord, error) bool) {
		b, err := readWhole(path)
		if err != nil {
			yield(rawRecord{}, err)
			return
		}
		dec := json.NewDecoder(bytes.NewReader(b))
		line, counted := 1, 0 // the line of byte counted
		lineOf := func(offset int64) int {
			if at := min(int(offset), len(b)); at > counted {
				line += bytes.Count(b[counted:at], []byte("\n"))
				counted = at
			}
			return line
		}
		fail := func(err error) {
			at := dec.InputOffset()
			if s, ok := errors.AsType[*json.SyntaxError](err); ok {
				at = s.Offset
			} else if err == io.EOF || err == io.ErrUnexpectedEOF {
				at = int64(len(b))
			}
			yield(rawRecord{line: lineOf(at)}, badf("%s; want a JSON array of objects", jsonProblem(err)))
		}
		if _, err := dec.Token(); err != nil {
			fail(err)
			return
		}
		for dec.More() {
			var raw json.RawMessage
			if err := dec.Decode(&raw); err != nil {
				fail(err)
				return
			}
			if !yield(rawRecord{raw, lineOf(dec.InputOffset() - int64(len(raw)))}, nil) {
				return
			}
		}
		if _, err := dec.Token(); err != nil {
			fail(err)
			return
		}
		if _, err := dec.Token(); err != io.EOF {
			fail(errors.New("data behind the array"))
		}
	}
}

// jsonProblem returns encoding/json's message in words for someone who looks at the
// file.
func jsonProblem(err error) string {
	if err == io.EOF || err == io.ErrUnexpectedEOF || strings.Contains(err.Error(), "unexpected end") {
		return "JSON ends too early"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}
