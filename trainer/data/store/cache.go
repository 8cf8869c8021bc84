package store

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"finetune/internal/machine"
)

// Cache is a folder of cache files. Several programs may use it at once: who makes a file holds a lock, and who wants the same
// waits for it.
type Cache struct {
	Dir      string
	MaxBytes int64         // all files together; the ones unused for longest are removed
	MaxAge   time.Duration // since a file was last used
}

const (
	fileSuffix = ".tokens"
	lockSuffix = ".lock"
)

// DefaultDir returns the folder of the user's caches for this program.
func DefaultDir() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "finetune", "tokens"), err
}

func (c Cache) path(key Key) string {
	return filepath.Join(c.Dir, hex.EncodeToString(key[:16])+fileSuffix)
}

// Get returns the file for a key, which make writes if there is none, or one that is damaged. While another program makes it,
// Get waits, and tells waiting once. What fill returns is what Commit is to be given. Old files are removed, and what killed
// programs have left.
func (c Cache) Get(ctx context.Context, key Key, progress func(done, size int64) error, waiting func(), fill func(w *Writer) (about any, err error)) (*File, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	path := c.path(key)
	if f, err := c.use(path, key, progress); err == nil || !missing(err) {
		c.prune(path)
		return f, err
	}
	lock, err := acquire(ctx, path+lockSuffix, waiting)
	if err != nil {
		return nil, err
	}
	defer machine.ReleaseLock(lock)
	if f, err := c.use(path, key, progress); err == nil || !missing(err) { // by who had the lock
		return f, err
	}
	c.prune(path)
	w, err := Create(path, key)
	if err != nil {
		return nil, err
	}
	defer w.Discard() // of no effect behind Commit
	about, err := fill(w)
	if err != nil {
		return nil, err
	}
	f, err := w.Commit(about)
	if err == nil {
		c.prune(path)
	}
	return f, err
}

// use opens a file, and notes that it was.
func (c Cache) use(path string, key Key, progress func(done, size int64) error) (*File, error) {
	f, err := Open(path, key, progress)
	if err == nil {
		now := time.Now()
		os.Chtimes(path, now, now) // or it is removed earlier
	}
	return f, err
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) }

// acquire waits for a lock.
func acquire(ctx context.Context, path string, waiting func()) (*os.File, error) {
	const pause = 200 * time.Millisecond
	for told := false; ; {
		lock, err := machine.TryLock(path)
		if !errors.Is(err, machine.ErrLocked) {
			return lock, err
		}
		if !told && waiting != nil {
			waiting()
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// prune removes what is old, what is too much, and what killed programs have left. keep stays.
// What cannot be removed stays too: it is a cache.
func (c Cache) prune(keep string) {
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		path := filepath.Join(c.Dir, e.Name())
		switch {
		case err != nil || !info.Mode().IsRegular():
		case strings.HasSuffix(path, partSuffix), strings.HasSuffix(path, lockSuffix):
			removeLeft(strings.TrimSuffix(strings.TrimSuffix(path, partSuffix), lockSuffix))
		case strings.HasSuffix(path, fileSuffix):
			files, total = append(files, info), total+info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range files {
		path := filepath.Join(c.Dir, info.Name())
		if path != keep && (total > c.MaxBytes || time.Since(info.ModTime()) > c.MaxAge) && os.Remove(path) == nil {
			total -= info.Size()
		}
	}
}

// removeLeft removes what there is of a file that was not finished, and its lock, if nobody is at it.
func removeLeft(path string) {
	lock, err := machine.TryLock(path + lockSuffix)
	if err != nil {
		return
	}
	os.Remove(path + partSuffix)
	machine.ReleaseLock(lock)
}
