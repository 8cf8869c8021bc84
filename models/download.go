package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"finetune/internal/atomicfile"
	"finetune/internal/hint"
	"finetune/internal/machine"
)

// A file that is being brought lies beside its place: FILE.part has the bytes so far, FILE.part.json says of which file they
// are, and FILE.lock is held by the program that brings it. It gets its name when all bytes are there, have the SHA-256 of the
// listing and are on the disk.
const (
	partSuffix  = ".part"
	aboutSuffix = ".part.json"
	lockSuffix  = ".lock"
)

// ErrChecksum is in the error where a file that came whole is not the one that was listed.
var ErrChecksum = errors.New("wrong SHA-256")

// about identifies the bytes of a part.
type about struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	ETag   string `json:"etag"` // of the host that the bytes came from
}

// part is a file that is being brought.
type part struct {
	remote
	about
	path string // of the whole file
	file *os.File
	sum  hash.Hash // of the bytes so far
	have int64
	tell func(done int64)
}

// bring makes a file of the hub appear at path, or finds it there.
func (h *hub) bring(ctx context.Context, f remote, path string, tell func(done int64)) error {
	if exists(path, f.size) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	lock, err := machine.AcquireLock(path + lockSuffix)
	if errors.Is(err, machine.ErrLocked) {
		return hint.With(fmt.Errorf("models: %q: another finetune is bringing it", f.String()), "wait for that one to end")
	}
	if err != nil {
		return err
	}
	defer machine.ReleaseLock(lock)
	if exists(path, f.size) { // by who had the lock
		return nil
	}
	p, err := openPart(ctx, f, path, tell)
	if err != nil {
		return err
	}
	defer p.file.Close()
	if free := machine.FreeDisk(filepath.Dir(path)); free > 0 && free < f.size-p.have {
		return hint.With(fmt.Errorf("models: %q: want %d bytes on the disk of %q, %d are free", f.String(), f.size-p.have, filepath.Dir(path), free),
			"FINETUNE_CACHE names a folder elsewhere")
	}
	if err := h.fill(ctx, p); err != nil {
		return err
	}
	return p.finish()
}

// openPart opens what has come of a file before, if that is of the same one.
func openPart(ctx context.Context, f remote, path string, tell func(done int64)) (*part, error) {
	p := &part{remote: f, about: about{SHA256: f.sha256, Size: f.size}, path: path, sum: sha256.New(), tell: tell}
	const most = 1 << 12
	var before about
	if text, err := readSmall(path+aboutSuffix, most); err == nil {
		json.Unmarshal(text, &before) // what cannot be read is of another file
	}
	if info, err := os.Lstat(path + partSuffix); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("models: %q: not a regular file", path+partSuffix)
	}
	var err error
	if p.file, err = os.OpenFile(path+partSuffix, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return nil, err
	}
	info, err := p.file.Stat()
	if err == nil && (before.SHA256 != p.SHA256 || before.Size != p.Size || info.Size() > p.Size) {
		err = p.restart()
	} else if err == nil {
		p.ETag = before.ETag
		err = p.addUp(ctx)
	}
	if err != nil {
		p.file.Close()
		return nil, err
	}
	return p, nil
}

// addUp takes the checksum of what is there.
func (p *part) addUp(ctx context.Context) error {
	buf := make([]byte, 1<<20)
	for {
		n, err := p.file.Read(buf)
		p.sum.Write(buf[:n])
		p.have += int64(n)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// restart throws away what has come.
func (p *part) restart() error {
	p.sum.Reset()
	p.have, p.ETag = 0, ""
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	_, err := p.file.Seek(0, io.SeekStart)
	return err
}

// fill gets what is missing, in as many requests as it takes, unless several in a row bring nothing.
func (h *hub) fill(ctx context.Context, p *part) error {
	for fruitless := 0; p.have < p.Size; {
		before := p.have
		err := h.some(ctx, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var give *lasting
		if errors.As(err, &give) {
			return give.error
		}
		if fruitless++; p.have > before {
			fruitless = 0
		}
		if fruitless > retries {
			return hint.With(fmt.Errorf("models: %q: cut off after %d of %d bytes: %w", p.String(), p.have, p.Size, err), "the same command goes on from there")
		}
		if fruitless > 0 && !sleep(ctx, min(h.store.waits.most, h.store.waits.least<<fruitless)) {
			return ctx.Err()
		}
	}
	return nil
}

// lasting is an error that another attempt does not mend.
type lasting struct{ error }

// Unwrap returns the error itself.
func (e *lasting) Unwrap() error { return e.error }

// some asks for what is missing and takes what comes.
func (h *hub) some(ctx context.Context, p *part) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	header := http.Header{"Accept-Encoding": {"identity"}}
	if p.have > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", p.have))
		if p.ETag != "" && !strings.HasPrefix(p.ETag, "W/") {
			header.Set("If-Range", p.ETag)
		}
	}
	resp, err := h.get(ctx, p.repository, h.address(p.remote), header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := p.accept(resp); err != nil {
		return err
	}
	stalled := time.AfterFunc(h.store.waits.stall, func() { cancel(fmt.Errorf("nothing came for %v", h.store.waits.stall)) })
	defer stalled.Stop()
	err = p.take(resp.Body, func() { stalled.Reset(h.store.waits.stall) })
	if cause := context.Cause(ctx); cause != nil && err != nil && !errors.As(err, new(*lasting)) {
		err = cause
	}
	return err
}

// address returns where a file of the hub is.
func (h *hub) address(f remote) string {
	return h.store.Endpoint + (&url.URL{Path: "/" + f.owner + "/" + f.repo + "/resolve/" + f.branch() + "/" + f.file}).EscapedPath()
}

// accept gets ready for an answer: one that goes on, or one that begins again because the host has other bytes than before or
// knows no ranges.
func (p *part) accept(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		from, size, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || from != p.have || size >= 0 && size != p.Size {
			return errors.Join(fmt.Errorf("want the bytes from %d on of %d, got %q", p.have, p.Size, resp.Header.Get("Content-Range")), p.restart())
		}
	case http.StatusOK:
		if n := resp.ContentLength; n >= 0 && n != p.Size {
			return &lasting{fmt.Errorf("models: %q: the listing says %d bytes, %s has %d", p.String(), p.Size, resp.Request.URL.Host, n)}
		}
		if err := p.restart(); err != nil {
			return &lasting{err}
		}
	default: // of the ranges that there are none begins here
		return errors.Join(fmt.Errorf("%s has no bytes from %d on", resp.Request.URL.Host, p.have), p.restart())
	}
	if etag := resp.Header.Get("ETag"); etag != p.ETag || p.have == 0 {
		p.ETag = etag
		return p.note()
	}
	return nil
}

// contentRange reads "bytes FROM-TO/SIZE"; size is -1 where it is "*".
func contentRange(s string) (from, size int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, total, both := strings.Cut(s, "/")
	first, _, dash := strings.Cut(span, "-")
	from, err := strconv.ParseInt(first, 10, 64)
	if size = -1; total != "*" {
		var bad error
		if size, bad = strconv.ParseInt(total, 10, 64); bad != nil {
			return 0, 0, false
		}
	}
	return from, size, ok && both && dash && err == nil
}

// note writes down what the bytes are of.
func (p *part) note() error {
	err := atomicfile.Write(p.path+aboutSuffix, func(w io.Writer) error { return json.NewEncoder(w).Encode(p.about) })
	if err != nil {
		return &lasting{err}
	}
	return nil
}

// tellInterval is how often progress is told.
const tellInterval = 200 * time.Millisecond

// take writes what comes behind what is there.
func (p *part) take(body io.Reader, alive func()) error {
	buf := make([]byte, 256<<10)
	var told time.Time
	for {
		n, err := body.Read(buf)
		alive()
		if int64(n) > p.Size-p.have {
			return &lasting{errors.Join(fmt.Errorf("models: %q: more came than the %d bytes of the listing", p.String(), p.Size), p.discard())}
		}
		if _, failed := p.file.Write(buf[:n]); failed != nil {
			return &lasting{hint.With(failed, "the same command goes on from there when there is room")}
		}
		p.sum.Write(buf[:n])
		if p.have += int64(n); time.Since(told) > tellInterval || p.have == p.Size {
			told = time.Now()
			p.tell(p.have)
		}
		if err == io.EOF {
			if p.have < p.Size {
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// finish checks a file that is whole and gives it its name.
func (p *part) finish() error {
	if got := hex.EncodeToString(p.sum.Sum(nil)); got != p.SHA256 {
		return hint.With(errors.Join(fmt.Errorf("models: %q: %w: want %s, got %s", p.String(), ErrChecksum, p.SHA256, got), p.discard()),
			"what came is thrown away; the same command begins again")
	}
	if err := p.file.Sync(); err != nil {
		return err
	}
	if err := p.file.Close(); err != nil {
		return err
	}
	if err := os.Rename(p.path+partSuffix, p.path); err != nil {
		return err
	}
	os.Remove(p.path + aboutSuffix) // what is left of it is of no harm
	return atomicfile.SyncDir(filepath.Dir(p.path))
}

// discard removes what has come.
func (p *part) discard() error {
	p.file.Close()
	os.Remove(p.path + aboutSuffix)
	return os.Remove(p.path + partSuffix)
}

// sleep waits, and reports whether ctx is still there.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
