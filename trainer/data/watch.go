package data

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Progress is how far the reading of data has come.
type Progress struct {
	What        string // is being done
	Done, Total int64  // bytes; Total is 0 where it is not known
}

// String says it in a few words.
func (p Progress) String() string {
	const mebibyte = 1 << 20
	switch {
	case p.Done == 0 && p.Total == 0:
		return p.What
	case p.Total == 0:
		return fmt.Sprintf("%s: %d MiB", p.What, p.Done/mebibyte)
	}
	return fmt.Sprintf("%s: %d of %d MiB", p.What, min(p.Done, p.Total)/mebibyte, p.Total/mebibyte)
}

// watch tells how far the reading has come, and ends it when it is to end. nil is nobody who watches. One goroutine at a time.
type watch struct {
	ctx    context.Context
	report func(Progress) // may be nil
	now    Progress
	said   time.Time
}

// interval is how often progress is told.
const interval = 250 * time.Millisecond

func newWatch(ctx context.Context, report func(Progress)) *watch {
	return &watch{ctx: ctx, report: report, now: Progress{What: "opening the data"}, said: time.Now()}
}

// begin starts what is to be told of.
func (w *watch) begin(what string, total int64) {
	if w != nil {
		w.now, w.said = Progress{What: what, Total: total}, time.Now()
	}
}

// step is for work between reads.
func (w *watch) step() error {
	if w == nil {
		return nil
	}
	return w.tick()
}

// err is the reason to stop.
func (w *watch) err() error {
	if w == nil {
		return nil
	}
	return w.ctx.Err()
}

// add counts bytes, and returns the reason to stop.
func (w *watch) add(n int64) error {
	if w == nil {
		return nil
	}
	w.now.Done += n
	return w.tick()
}

// at says how many bytes were done.
func (w *watch) at(done, total int64) error {
	if w == nil {
		return nil
	}
	w.now.Done, w.now.Total = done, total
	return w.tick()
}

func (w *watch) tick() error {
	if time.Since(w.said) >= interval {
		w.tell()
	}
	return w.ctx.Err()
}

func (w *watch) tell() {
	if w != nil && w.report != nil {
		w.said = time.Now()
		w.report(w.now)
	}
}

// ctx is what ends the reading.
func (o options) ctx() context.Context {
	if o.watch == nil {
		return context.Background()
	}
	return o.watch.ctx
}

// watched counts what is read of a file.
type watched struct {
	io.Reader
	watch *watch
}

func (r watched) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if stop := r.watch.add(int64(n)); stop != nil {
		return n, stop
	}
	return n, err
}

// watchedAt counts what is read of a file anywhere.
type watchedAt struct {
	fileAt
	watch *watch
}

func (r watchedAt) ReadAt(b []byte, off int64) (int, error) {
	n, err := r.fileAt.ReadAt(b, off)
	if stop := r.watch.add(int64(n)); stop != nil {
		return n, stop
	}
	return n, err
}

// stopped returns the reason to stop, if there is one, in place of what came of it on its way up.
func stopped(w *watch, err error) error {
	if stop := w.err(); stop != nil && err != nil {
		return stop
	}
	return err
}
