package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"finetune/internal/machine"
)

func TestSpoolGivesBackWhatWasWritten(t *testing.T) {
	for _, limit := range []int{0, 10, 1000, 1 << 20} {
		dir := t.TempDir()
		s := Spool{Limit: limit, Dir: dir}
		var want []byte
		for i := range 500 {
			b := bytes.Repeat([]byte{byte(i)}, i%13)
			if n, err := s.Write(b); n != len(b) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
			want = append(want, b...)
			if i%100 == 50 { // it can be read amid the writing
				if got, err := s.Bytes(); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("limit %d: Bytes gives %d bytes, %v, want %d", limit, len(got), err, len(want))
				}
			}
		}
		r, err := s.Reader()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) || s.Len() != int64(len(want)) {
			t.Errorf("limit %d: Reader gives %d bytes, %v, want %d", limit, len(got), err, len(want))
		}
		if inMemory := s.Held() > 0; inMemory != (limit > len(want)) {
			t.Errorf("limit %d: in memory %v", limit, inMemory)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("limit %d: left %v", limit, left)
		}
	}
}

var testKey = Key{1, 2, 3}

// content writes two sections of n bytes.
func content(n int) func(w *Writer) (any, error) {
	return func(w *Writer) (any, error) {
		for i, name := range []string{"a", "b"} {
			if err := w.Section(name); err != nil {
				return nil, err
			}
			if _, err := w.Write(bytes.Repeat([]byte{byte(i + 1)}, n)); err != nil {
				return nil, err
			}
		}
		return n, nil
	}
}

func testCache(t *testing.T) Cache {
	return Cache{Dir: filepath.Join(t.TempDir(), "cache"), MaxBytes: 1 << 30, MaxAge: time.Hour}
}

func isContent(t *testing.T, f *File, n int) {
	t.Helper()
	about := 0
	if err := f.About(&about); err != nil || about != n {
		t.Errorf("About = %d, %v, want %d", about, err, n)
	}
	for i, name := range []string{"a", "b"} {
		if got := f.Section(name); !bytes.Equal(got, bytes.Repeat([]byte{byte(i + 1)}, n)) {
			t.Errorf("section %s: %d bytes, want %d of %d", name, len(got), n, i+1)
		}
	}
}

func get(c Cache, key Key, n int) (f *File, made bool, err error) {
	f, err = c.Get(context.Background(), key, nil, nil, func(w *Writer) (any, error) {
		made = true
		return content(n)(w)
	})
	return f, made, err
}

func TestCacheMakesAFileOnce(t *testing.T) {
	c := testCache(t)
	for i, want := range []bool{true, false, false} {
		f, made, err := get(c, testKey, 1001)
		if err != nil || made != want {
			t.Fatalf("time %d: made %v, %v, want %v", i, made, err, want)
		}
		isContent(t, f, 1001)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if f, made, err := get(c, Key{9}, 5); err != nil || !made {
		t.Errorf("another key: made %v, %v", made, err)
	} else {
		isContent(t, f, 5)
		f.Close()
	}
}

// TestDamageIsFound changes each byte in turn, cuts the file everywhere, and makes it longer.
func TestDamageIsFound(t *testing.T) {
	c := testCache(t)
	f, _, err := get(c, testKey, 40)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	path := c.path(testKey)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := Open(path, testKey, nil); err == nil {
			f.Close()
			t.Errorf("%s: opened", what)
		} else if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want %v", what, err, ErrDamaged)
		}
	}
	for i := range whole {
		if i >= headerUsed && i < headerSize {
			continue // nothing there
		}
		b := slices.Clone(whole)
		b[i] ^= 0x10
		try(fmt.Sprintf("byte %d changed", i), b)
	}
	for _, n := range []int{0, 1, 75, 76, headerSize, headerSize + 1, len(whole) - 1} {
		try(fmt.Sprintf("cut to %d bytes", n), whole[:n])
	}
	try("a byte more", append(slices.Clone(whole), 0))
	if f, made, err := get(c, testKey, 40); err != nil || !made {
		t.Errorf("a damaged file was made again: %v, %v", made, err)
	} else {
		isContent(t, f, 40)
		f.Close()
	}
	if err := os.Rename(path, c.path(Key{7})); err != nil {
		t.Fatal(err)
	}
	if _, made, err := get(c, Key{7}, 40); err != nil || !made {
		t.Errorf("a file of another key was made again: %v, %v", made, err)
	}
}

func TestTwoAtOnceMakeOneFile(t *testing.T) {
	c := testCache(t)
	var mu sync.Mutex
	made, waited := 0, 0
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			f, err := c.Get(context.Background(), testKey, nil, func() { mu.Lock(); waited++; mu.Unlock() }, func(w *Writer) (any, error) {
				mu.Lock()
				made++
				mu.Unlock()
				time.Sleep(300 * time.Millisecond)
				return content(77)(w)
			})
			if err != nil {
				t.Error(err)
				return
			}
			isContent(t, f, 77)
			f.Close()
		})
	}
	all.Wait()
	if made != 1 || waited == 0 {
		t.Errorf("made %d times, %d waited, want once and 1 or more", made, waited)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	c := testCache(t)
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := machine.AcquireLock(c.path(testKey) + lockSuffix)
	if err != nil {
		t.Fatal(err)
	}
	defer machine.ReleaseLock(lock)
	ctx, cancel := context.WithCancel(context.Background())
	_, err = c.Get(ctx, testKey, nil, cancel, content(1))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Get = %v, want %v", err, context.Canceled)
	}
}

func TestAFailureLeavesNothing(t *testing.T) {
	c := testCache(t)
	mine := errors.New("mine")
	_, err := c.Get(context.Background(), testKey, nil, nil, func(w *Writer) (any, error) {
		content(100)(w)
		return nil, mine
	})
	if err != mine {
		t.Errorf("Get = %v, want %v", err, mine)
	}
	if left, _ := os.ReadDir(c.Dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestOldFilesAndThoseOfKilledProgramsGo(t *testing.T) {
	c := testCache(t)
	c.MaxBytes = 4*headerSize - 1 // three files of a page and a bit are too many
	names := func() (all []string) {
		entries, err := os.ReadDir(c.Dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			all = append(all, e.Name()[:2]+filepath.Ext(e.Name()))
		}
		return all
	}
	age := func(key byte, by time.Duration) {
		then := time.Now().Add(-by)
		if err := os.Chtimes(c.path(Key{key}), then, then); err != nil {
			t.Fatal(err)
		}
	}
	make := func(key byte) {
		f, _, err := get(c, Key{key}, 10)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	make(1)
	age(1, 2*time.Minute)
	make(2)
	age(2, time.Minute)
	make(3)
	make(1) // used: it is the newest now
	make(4)
	if got := strings.Join(names(), " "); got != "01.tokens 03.tokens 04.tokens" {
		t.Errorf("by size: %s", got)
	}
	age(1, 2*time.Hour)
	for _, part := range []byte{5, 6} {
		if err := os.WriteFile(c.path(Key{part})+partSuffix, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(c.path(Key{8})+lockSuffix, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := machine.AcquireLock(c.path(Key{6}) + lockSuffix)
	if err != nil {
		t.Fatal(err)
	}
	defer machine.ReleaseLock(lock)
	c.MaxBytes = 1 << 30
	make(7)
	if got := strings.Join(names(), " "); got != "03.tokens 04.tokens 06.lock 06.part 07.tokens" {
		t.Errorf("by age, and what was not finished: %s", got)
	}
}
