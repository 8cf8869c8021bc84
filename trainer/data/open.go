package data

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"finetune/internal/hint"
	"finetune/trainer/data/store"

	"github.com/klauspost/compress/zstd"
)

const (
	maxRecord = 16 << 20 // bytes of one line of JSON
	maxFile   = 1 << 30  // bytes of a file that is read whole: plain text, a JSON array, a table
)

// stdin names standard input among paths.
const stdin = "-"

// fileKind is how a file holds its text.
type fileKind uint8

const (
	kindPlain   fileKind = iota // one plain text
	kindJSON                    // JSON objects: one a line, one behind the other, or an array of them
	kindCSV                     // a table, comma or semicolon between the cells
	kindTSV                     // a table, tab between the cells
	kindParquet                 // Apache Parquet
)

// kinds of files by their extension; others are plain text.
var kinds = map[string]fileKind{
	".jsonl": kindJSON, ".ndjson": kindJSON, ".json": kindJSON, ".csv": kindCSV, ".tsv": kindTSV, ".tab": kindTSV, ".parquet": kindParquet,
	".txt": kindPlain, ".md": kindPlain, ".text": kindPlain,
}

// notText are names of files that would read as nonsense.
var notText = []string{".arrow", ".bz2", ".xz", ".zip", ".tar", ".tgz", ".7z", ".xlsx", ".xls", ".ods", ".pdf", ".docx", ".odt", ".epub", ".html",
	".gguf", ".safetensors", ".bin", ".pt", ".pkl", ".npy", ".db", ".sqlite", ".png", ".jpg", ".wav", ".mp3", ".mp4"}

const wantedFiles = "want .txt, .md, .jsonl, .json, .csv, .tsv or .parquet, each also as .gz or .zst"

// packedBy returns the extension that says how a file is compressed, or "".
func packedBy(path string) string {
	if ext := strings.ToLower(filepath.Ext(path)); ext == ".gz" || ext == ".zst" {
		return ext
	}
	return ""
}

// kindOf goes by the name. What has the name of a text, or none, is JSON all the same if its first line is a record.
func kindOf(path string, w *watch) (fileKind, error) {
	inner := strings.TrimSuffix(strings.ToLower(path), packedBy(path))
	ext := filepath.Ext(inner)
	if slices.Contains(notText, ext) {
		return kindPlain, &UnsupportedError{Path: path, Msg: ext + " is not read, " + wantedFiles, Err: errNotText}
	}
	if !namedText(path) {
		return kinds[ext], nil
	}
	holds, err := holdsRecords(path, w)
	if holds {
		return kindJSON, err
	}
	return kindPlain, err
}

// namedText reports whether a file has the name of a text, or none that says anything.
func namedText(path string) bool {
	return kinds[filepath.Ext(strings.TrimSuffix(strings.ToLower(path), packedBy(path)))] == kindPlain
}

// holdsRecords reports whether the first line of a file is a record, or the beginning of a list of records.
func holdsRecords(path string, w *watch) (bool, error) {
	f, err := open(path, w)
	if err != nil {
		return false, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<16)
	first, _, err := firstByte(r)
	if err != nil || first != '{' && first != '[' {
		return false, err
	}
	start, err := r.Peek(r.Size())
	if err != nil && err != io.EOF {
		return false, err
	}
	if first == '[' {
		var list []object
		return decodeFirst(start, &list) && isRecord(list[0]), nil
	}
	var o object
	return json.NewDecoder(bytes.NewReader(start)).Decode(&o) == nil && isRecord(o), nil
}

// expand lists the files that paths name, a line each: files, globs, folders with the files in them that data comes in, and
// "-" for standard input.
func expand(paths string) ([]string, error) {
	var all []string
	for path := range strings.SplitSeq(paths, "\n") {
		if path == "" {
			continue
		}
		files, err := expandOne(path)
		if err != nil {
			return nil, err
		}
		all = append(all, files...)
	}
	if len(all) == 0 {
		return nil, &FormatError{Path: paths, Msg: "names no file", Err: ErrEmpty}
	}
	return all, nil
}

func expandOne(path string) ([]string, error) {
	if path == stdin {
		return []string{path}, nil
	}
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return filesIn(path)
	case err == nil, !errors.Is(err, fs.ErrNotExist), !strings.ContainsAny(path, "*?["):
		return []string{path}, nil // whose opening tells what is wrong with it
	}
	found, err := filepath.Glob(path)
	if err != nil || len(found) == 0 {
		return nil, &FormatError{Path: path, Msg: "no file fits this pattern", Err: ErrEmpty}
	}
	return found, nil // sorted
}

// filesIn lists the files in a folder whose names say that they hold data.
func filesIn(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		inner := strings.TrimSuffix(strings.ToLower(e.Name()), packedBy(e.Name()))
		if _, known := kinds[filepath.Ext(inner)]; known && !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(inner, "readme") {
			files = append(files, filepath.Join(folder, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, &FormatError{Path: folder, Msg: "no file of data in the folder, " + wantedFiles, Err: ErrEmpty}
	}
	return files, nil
}

// standard is standard input, which is read once, so that it can be looked at before it is read, and read again.
var standard struct {
	sync.Mutex
	spool *store.Spool
	err   error
}

// openStdin reads all of standard input, unless that was done, and returns a reader of it.
func openStdin(w *watch) (io.ReadSeeker, error) {
	const inMemory = 64 << 20 // bytes
	standard.Lock()
	defer standard.Unlock()
	if standard.spool == nil {
		standard.spool = &store.Spool{Limit: inMemory, Dir: spoolDir()}
		w.begin("reading standard input", 0)
		standard.err = copyWatched(standard.spool, os.Stdin, w)
	}
	if standard.err != nil {
		return nil, standard.err
	}
	return standard.spool.Reader()
}

// copyWatched copies from a reader that may never answer.
func copyWatched(to io.Writer, from io.Reader, w *watch) error {
	type part struct {
		b   []byte
		err error
	}
	parts, used := make(chan part), make(chan struct{})
	go func() { // which a reader that never answers keeps, to the end of the process
		for b := make([]byte, 256<<10); ; {
			n, err := from.Read(b)
			parts <- part{b[:n], err}
			if _, more := <-used; !more || err != nil {
				return
			}
		}
	}()
	defer close(used)
	for {
		var p part
		if w == nil {
			p = <-parts
		} else {
			select {
			case p = <-parts:
			case <-w.ctx.Done():
				go func() { <-parts }()
				return w.ctx.Err()
			}
		}
		if _, err := to.Write(p.b); err != nil {
			return err
		}
		if p.err == io.EOF {
			return nil
		}
		if err := cmp.Or(p.err, w.add(int64(len(p.b)))); err != nil {
			return err
		}
		used <- struct{}{}
	}
}

// open opens a file, unpacks it if its name says that it is packed, and makes UTF-8 of it if it is UTF-16; a byte order mark is dropped.
// The caller closes it.
func open(path string, w *watch) (io.ReadCloser, error) {
	raw, err := openPacked(path, w)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(raw, 1<<16)
	start, _ := r.Peek(64)
	if what, advice := misplaced(start); what != "" {
		raw.Close()
		return nil, hint.With(&FormatError{Path: path, Msg: "is " + what}, advice)
	}
	start = start[:min(4, len(start))]
	switch {
	case bytes.HasPrefix(start, byteOrderMark):
		r.Discard(len(byteOrderMark))
	case bytes.HasPrefix(start, []byte{0xff, 0xfe}):
		r.Discard(2)
		return wrapped{&utf16Reader{r: r, order: binary.LittleEndian}, raw}, nil
	case bytes.HasPrefix(start, []byte{0xfe, 0xff}):
		r.Discard(2)
		return wrapped{&utf16Reader{r: r, order: binary.BigEndian}, raw}, nil
	case len(start) == 4 && start[0] != 0 && start[1] == 0 && start[2] != 0 && start[3] == 0:
		return wrapped{&utf16Reader{r: r, order: binary.LittleEndian}, raw}, nil
	case len(start) == 4 && start[0] == 0 && start[1] != 0 && start[2] == 0 && start[3] != 0:
		return wrapped{&utf16Reader{r: r, order: binary.BigEndian}, raw}, nil
	}
	return wrapped{r, raw}, nil
}

// misplaced says what lies in the place of a file of data, if it is what a download may leave there, by its first bytes.
func misplaced(start []byte) (what, advice string) {
	switch {
	case bytes.HasPrefix(start, []byte("version https://git-lfs.github.com/spec/")):
		return "a pointer of Git LFS, not the file itself", "git lfs pull in the folder of the clone brings the file"
	case bytes.HasPrefix(start, []byte("PK\x03\x04")):
		return "a zip archive", "unpack it"
	case bytes.HasPrefix(start, []byte("\x1f\x8b")):
		return "packed by gzip, and its name does not say so", "call it FILE.gz"
	case bytes.HasPrefix(start, []byte("\x28\xb5\x2f\xfd")):
		return "packed by zstd, and its name does not say so", "call it FILE.zst"
	case bytes.HasPrefix(start, []byte("PAR1")):
		return "Parquet, and its name does not say so", "call it FILE.parquet"
	}
	return "", ""
}

var byteOrderMark = []byte("\ufeff")

// wrapped reads from one reader and closes another.
type wrapped struct {
	io.Reader
	io.Closer
}

// openFile opens a file that has an end and can be read again. It asks before it opens, which would wait for the other end of
// a named pipe.
func openFile(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, hint.With(&UnsupportedError{Path: path, Msg: "is a device or a pipe, want a regular file"},
			"--data - reads standard input, once and whole")
	}
	return os.Open(path)
}

func openPacked(path string, w *watch) (io.ReadCloser, error) {
	if path == stdin {
		r, err := openStdin(w)
		return io.NopCloser(watched{r, w}), err
	}
	file, err := openFile(path)
	if err != nil {
		return nil, err
	}
	f := wrapped{watched{file, w}, file}
	switch packedBy(path) {
	case ".gz":
		z, err := gzip.NewReader(f)
		if err != nil {
			f.Close()
			return nil, broken(path, err)
		}
		return wrapped{unpacker{z, path}, f}, nil
	case ".zst":
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			f.Close()
			return nil, broken(path, err)
		}
		return wrapped{unpacker{z, path}, closers{z.IOReadCloser(), f}}, nil
	}
	return f, nil
}

type closers [2]io.Closer

func (c closers) Close() error { return errors.Join(c[0].Close(), c[1].Close()) }

// unpacker names the file in the errors of its archive.
type unpacker struct {
	io.Reader
	path string
}

func (u unpacker) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	if err != nil && err != io.EOF && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		err = broken(u.path, err)
	}
	return n, err
}

func broken(path string, err error) error {
	return &FormatError{Path: path, Msg: fmt.Sprintf("cannot be unpacked: %v", err), Err: err}
}

// utf16Reader makes UTF-8 of UTF-16. Half of a pair becomes U+FFFD, as in unicode/utf16.
type utf16Reader struct {
	r     *bufio.Reader
	order binary.ByteOrder
	out   []byte // not yet read
}

func (u *utf16Reader) Read(b []byte) (int, error) {
	for len(u.out) == 0 {
		unit, err := u.unit()
		if err != nil {
			return 0, err
		}
		r := rune(unit)
		if utf16.IsSurrogate(r) {
			if next, err := u.unit(); err == nil {
				r = utf16.DecodeRune(r, rune(next))
			}
		}
		u.out = utf8.AppendRune(u.out, r)
	}
	n := copy(b, u.out)
	u.out = u.out[n:]
	return n, nil
}

func (u *utf16Reader) unit() (uint16, error) {
	var two [2]byte
	if _, err := io.ReadFull(u.r, two[:]); err != nil {
		return 0, io.EOF // half a unit at the end holds nothing
	}
	return u.order.Uint16(two[:]), nil
}

// readAll reads what is left of a file, up to maxFile.
func readAll(path string, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxFile:
		return nil, &UnsupportedError{Path: path, Msg: fmt.Sprintf("more than %d MiB to read at once, want JSON lines, which are streamed", maxFile>>20)}
	}
	return b, nil
}

// readText reads a file that must be UTF-8 (or UTF-16), without its byte order mark.
func readText(path string, w *watch) (string, error) {
	f, err := open(path, w)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := readAll(path, f)
	if err != nil {
		return "", err
	}
	if i := badUTF8(b); i >= 0 {
		line := 1 + bytes.Count(b[:i], []byte("\n"))
		return "", &FormatError{Path: path, Line: line, Msg: notUTF8(b[bytes.LastIndexByte(b[:i], '\n')+1:], "of the line"), Err: errEncoding}
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return "", &FormatError{Path: path, Msg: "file is empty", Err: ErrEmpty}
	}
	return string(b), nil
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

// notUTF8 says what stands where UTF-8 should, which is most often Latin-1.
func notUTF8(b []byte, where string) string {
	i := badUTF8(b)
	return notUTF8At(b[i], i, where)
}

func notUTF8At(c byte, i int, where string) string {
	if c >= 0xa0 {
		return fmt.Sprintf("byte %d %s is 0x%X, not UTF-8 (in Latin-1 it is %q), want UTF-8 text", i, where, c, string(rune(c)))
	}
	return fmt.Sprintf("byte %d %s is 0x%X, not UTF-8, want UTF-8 text", i, where, c)
}

// sizeOf returns the bytes of a file on the disk, 0 where that is not known.
func sizeOf(path string) int64 {
	if info, err := os.Stat(path); err == nil && path != stdin {
		return info.Size()
	}
	return 0
}
