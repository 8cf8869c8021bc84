//go:build cgo

package data

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"finetune/internal/need"
	"finetune/trainer/data/store"
)

// cacheFolder makes the cache of the test one of its own.
func cacheFolder(t *testing.T) string {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", os.Getenv("XDG_CACHE_HOME"))
	dir, err := store.DefaultDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// cacheFiles lists what is in the cache.
func cacheFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestCachedDataIsTheSame: windows, counts and hash from a cache file, made or found, are those of data in memory.
func TestCachedDataIsTheSame(t *testing.T) {
	dir := cacheFolder(t)
	model := need.Own(t, "demo/base.gguf")
	vocab := openVocab(t, model).Vocab()
	n := 0
	for name, l := range loads() {
		if !strings.Contains(name, ", 100") {
			continue
		}
		l.o.Tokenizer = vocab
		path := write(t, l.name, l.text)
		want, err := loadFile(path, l.o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		l.o.Model, l.o.Large = model, 1
		n++
		for _, time := range []string{"made", "found"} {
			var said []string
			l.o.watch = newWatch(context.Background(), func(p Progress) { said = append(said, p.What) })
			got, err := loadFile(path, l.o)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if hashed(got.Train) != hashed(want.Train) || hashed(got.Val) != hashed(want.Val) {
				t.Errorf("%s, %s: other windows", name, time)
			}
			if !reflect.DeepEqual(got.Train.Stats(), want.Train.Stats()) || want.Val != nil && !reflect.DeepEqual(got.Val.Stats(), want.Val.Stats()) {
				t.Errorf("%s, %s: stats %+v, want %+v", name, time, got.Train.Stats(), want.Train.Stats())
			}
			if sum(got) != sum(want) || got.Train.state == nil {
				t.Errorf("%s, %s: another hash over the windows", name, time)
			}
			if got.Train.Bytes() != 0 {
				t.Errorf("%s, %s: %d bytes in memory", name, time, got.Train.Bytes())
			}
		}
		if files := cacheFiles(t, dir); len(files) != n {
			t.Fatalf("%s: %d files in the cache, want %d: %v", name, len(files), n, files)
		}
	}
	if n < 10 {
		t.Errorf("%d data sets, want more", n)
	}
}

func sum(set *dataset) [32]byte {
	h := sha256.New()
	set.Train.Sum(h, true)
	set.Val.Sum(h, false)
	return [32]byte(h.Sum(nil))
}

// TestCacheFollowsWhatItIsMadeFrom: what changes the windows makes another file.
func TestCacheFollowsWhatItIsMadeFrom(t *testing.T) {
	dir := cacheFolder(t)
	model := need.Own(t, "demo/base.gguf")
	text := manyRecords(`{"prompt": %s, "completion": %s}`, 50, 1)
	path := write(t, "a.jsonl", text)
	o := options{NCtx: 64, Tokenizer: openVocab(t, model).Vocab(), Model: model, Large: 1}
	n := 0
	for _, tt := range []struct {
		name   string
		change func(o *options)
	}{
		{"first", func(o *options) {}},
		{"context", func(o *options) { o.NCtx = 65 }},
		{"held out", func(o *options) { o.ValFraction = 0.1 }},
		{"seed", func(o *options) { o.Seed = 2 }},
		{"long records", func(o *options) { o.LongRecords = skipLong }},
		{"template", func(o *options) { o.Template.Default = chatML }},
		{"date", func(o *options) { o.Now = time.Unix(1e9, 0) }},
		{"format", func(o *options) { o.Format = "completion" }},
		{"fields", func(o *options) { o.Map = []string{"prompt=completion", "completion=prompt"} }},
		{"bad ones", func(o *options) { o.SkipBad = 3 }},
		{"argument", func(o *options) { o.Args = map[string]any{"x": true} }},
		{"a letter of the data", func(o *options) {
			if err := os.WriteFile(path, []byte(strings.Replace(text, "girl", "firl", 1)), 0o666); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		changed := o
		tt.change(&changed)
		if _, err := loadFile(path, changed); err != nil && tt.name != "fields" {
			t.Fatalf("%s: %v", tt.name, err)
		} else if err == nil {
			n++
		}
		if files := cacheFiles(t, dir); len(files) != n {
			t.Errorf("%s: %d files in the cache, want %d", tt.name, len(files), n)
		}
	}
}

// TestSmallDataIsNotCached, nor standard input or what has no model.
func TestSmallDataIsNotCached(t *testing.T) {
	dir := cacheFolder(t)
	model := need.Own(t, "demo/base.gguf")
	path := write(t, "a.txt", strings.Repeat("once upon a time\n", 1000))
	o := options{NCtx: 64, Tokenizer: openVocab(t, model).Vocab(), Model: model}
	if set := mustLoad(t, path, o); set.Train.Bytes() == 0 {
		t.Error("small data takes no memory")
	}
	o.Model, o.Large = "", 1
	mustLoad(t, path, o)
	if files := cacheFiles(t, dir); len(files) > 0 {
		t.Errorf("in the cache: %v", files)
	}
}

// TestReadingIsInterrupted: within a second, at any point, with nothing left behind.
func TestReadingIsInterrupted(t *testing.T) {
	dir := cacheFolder(t)
	model := need.Own(t, "demo/base.gguf")
	vocab := openVocab(t, model).Vocab()
	need.Long(t, "some megabytes are read eight times")
	for name, text := range map[string]string{
		"a.txt":    strings.Repeat("once upon a time there was a little girl\n", 100_000),
		"a.jsonl":  strings.Repeat(manyRecords(`{"prompt": %s, "completion": %s}`, 1000, 1), 15),
		"b.jsonl":  strings.Repeat("{\"text\": \"a\"}\n", 300_000),
		"one.json": `[` + strings.Repeat(`{"text": "once upon a time there was a little girl"},`, 400_000) + `{"text": "b"}]`,
	} {
		path := write(t, name, text)
		for _, large := range []int64{1, 1 << 40} {
			ctx, cancel := context.WithCancel(context.Background())
			var at time.Time
			o := options{NCtx: 64, Tokenizer: vocab, ValFraction: 0.1, Model: model, Large: large, watch: newWatch(ctx, func(p Progress) {
				if at.IsZero() && p.What == "tokenizing" {
					at = time.Now()
					cancel()
				}
			})}
			_, err := loadFile(path, o)
			if took := time.Since(at); at.IsZero() || !errors.Is(err, context.Canceled) || took > 3*time.Second { // a second, on a busy machine
				t.Errorf("%s: %v, %v after the cancellation", name, err, took)
			}
			cancel()
			if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) > 0 {
				t.Errorf("%s: left %v", name, files)
			}
		}
	}
}

// TestProgressIsTold, in bytes that grow up to the size of the files.
func TestProgressIsTold(t *testing.T) {
	text := strings.Repeat("once upon a time there was a little girl\n", 100_000)
	var all []Progress
	o := options{NCtx: 64, Tokenizer: openVocab(t, need.Own(t, "demo/base.gguf")).Vocab(), watch: newWatch(context.Background(), func(p Progress) { all = append(all, p) })}
	mustLoad(t, write(t, "a.txt", text), o)
	last := Progress{}
	for _, p := range all {
		if p.What == "opening the data" {
			continue
		}
		if p.Total != int64(len(text)) || p.Done > p.Total || p.What == last.What && p.Done < last.Done {
			t.Errorf("%+v behind %+v", p, last)
		}
		last = p
	}
	if last.What != "tokenizing" {
		t.Errorf("%d times, at last %+v", len(all), last)
	}
}
