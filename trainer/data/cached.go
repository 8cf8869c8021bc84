package data

import (
	"cmp"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/internal/version"
	"finetune/trainer/data/store"
)

// largeData is how many bytes of files are worth a cache file: below, reading them takes seconds.
const largeData = 8 << 20

// cacheFormat is part of every key: another one makes all cache files anew.
const cacheFormat = "tokens 1"

// The cache keeps what was used in the last month, up to 32 GiB.
const (
	cacheBytes = 32 << 30
	cacheAge   = 30 * 24 * time.Hour
)

// about is what a cache file says of itself.
type about struct {
	NCtx  int
	Train Stats
	Val   *Stats // nil: nothing is held out
	State []byte // of a SHA-256 that has gone over the windows of Train
}

// size is how many bytes the files of a source have; what is packed counts four times.
func (s *source) size() (size int64) {
	for i, path := range s.files {
		n := sizeOf(path)
		if packedBy(path) != "" || s.kinds[i] == kindParquet {
			n *= 4
		}
		size += n
	}
	return size
}

// cached loads large data from the cache, where it is put if it is not there.
func cached(s *source, asText bool, o options) (*dataset, error) {
	key, err := o.key(s)
	if err != nil {
		return nil, err
	}
	dir, err := store.DefaultDir()
	if err != nil {
		return nil, err
	}
	checking := false
	progress := func(done, size int64) error {
		if !checking {
			checking = true
			o.watch.begin("checking the tokens in the cache", size)
		}
		return o.watch.at(done, size)
	}
	cache := store.Cache{Dir: dir, MaxBytes: cacheBytes, MaxAge: cacheAge}
	waiting := func() { o.watch.begin("waiting for another program that reads the same data", 0); o.watch.tell() }
	f, err := cache.Get(o.ctx(), key, progress, waiting, func(w *store.Writer) (any, error) { return fill(w, s, asText, o) })
	if full := (*fs.PathError)(nil); errors.As(err, &full) && strings.HasPrefix(full.Path, dir) {
		return nil, hint.With(err, fmt.Sprintf("the tokens of large data are kept in %q; XDG_CACHE_HOME names another folder for caches", dir))
	}
	if err != nil {
		return nil, err
	}
	return ofCache(f)
}

// key identifies what windows are made from, and how.
func (o options) key(s *source) (store.Key, error) {
	h := sha256.New()
	fmt.Fprintln(h, cacheFormat, version.Version, runtime.GOARCH, o.NCtx, o.LongRecords, o.OnLost, o.SkipBad, o.ValFraction, o.Seed, o.Now)
	fmt.Fprintf(h, "%q %q %q %v\n", o.Format, o.Map, []string{o.Template.Default, o.Template.ToolUse}, o.Args)
	if err := hashTokenizer(h, o); err != nil {
		return store.Key{}, err
	}
	var size int64
	for _, path := range s.files {
		size += sizeOf(path)
	}
	o.watch.begin("looking for the data in the cache", size)
	for i, path := range s.files {
		fmt.Fprintf(h, "\n%q %d ", path, s.kinds[i])
		if err := hashFile(h, path, o.watch); err != nil {
			return store.Key{}, err
		}
	}
	return store.Key(h.Sum(nil)), nil
}

func hashFile(h hash.Hash, path string, w *watch) error {
	f, err := openFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	content := sha256.New()
	if _, err := io.CopyBuffer(content, struct{ io.Reader }{watched{f, w}}, make([]byte, 1<<20)); err != nil {
		return err
	}
	_, err = h.Write(content.Sum(nil))
	return err
}

// hashTokenizer hashes what the model's file says of its tokenizer, and what comes out of it, which the version of llama.cpp
// decides too.
func hashTokenizer(h hash.Hash, o options) error {
	f, err := gguf.Open(o.Model)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, kv := range f.KVs() {
		if strings.HasPrefix(kv.Key, "tokenizer.") && !strings.HasPrefix(kv.Key, "tokenizer.chat_template") {
			fmt.Fprintf(h, "%s %v\n", kv.Key, kv.Value)
		}
	}
	const probe = "Once upon a time,\n\n  there were 12345 cats (naïve ones):\t\"don't\" <|im_end|></s> 猫が好き 😀👩‍👩‍👧 \x01 /* a_b */ x==y; ÀÉ  \r\n"
	for _, special := range []bool{false, true} {
		ids, err := o.Tokenizer.Tokenize(probe, false, special)
		if err != nil {
			return err
		}
		fmt.Fprintln(h, ids, o.Tokenizer.AddBOS(), o.Tokenizer.BOS(), o.Tokenizer.EOS())
	}
	return nil
}

// fill makes a cache file.
func fill(w *store.Writer, s *source, asText bool, o options) (any, error) {
	before := stamps(s.files)
	if err := w.Section("tokens"); err != nil {
		return nil, err
	}
	b, err := newBuilder(o, w)
	if err != nil {
		return nil, err
	}
	if err := b.read(s, asText); err != nil {
		return nil, err
	}
	if after := stamps(s.files); after != before {
		return nil, &FormatError{Path: s.files[0], Msg: "changed while it was read"}
	}
	a := about{NCtx: o.NCtx, Train: b.train.stats}
	if a.State, err = b.digest(w); err != nil {
		return nil, err
	}
	if err := writePacked(w, "train", b.train); err != nil {
		return nil, err
	}
	if b.hasVal {
		a.Val = &b.val.stats
		err = writePacked(w, "val", b.val)
	}
	return a, err
}

// stamps tell whether files were changed.
func stamps(files []string) string {
	var b strings.Builder
	for _, path := range files {
		if info, err := os.Stat(path); err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}

// digest goes over the training windows, whose tokens were just written.
func (b *builder) digest(w *store.Writer) ([]byte, error) {
	m, from, err := w.View()
	if err != nil {
		return nil, err
	}
	defer m.Close()
	windows := &Windows{nCtx: b.NCtx, words: listOf[word](m.Bytes[from:]), packed: b.train}
	b.watch.begin("summing up the windows", int64(windows.Len())*int64(b.NCtx)*4)
	h := sha256.New()
	for i := range windows.Len() {
		windows.At(i).WriteTo(h)
		if err := b.watch.add(int64(b.NCtx) * 4); err != nil {
			return nil, err
		}
	}
	return h.(encoding.BinaryMarshaler).MarshalBinary()
}

func writePacked(w *store.Writer, name string, p packed) error {
	for _, x := range []struct {
		name string
		b    []byte
	}{{"spans", bytesOf(p.spans)}, {"first", bytesOf(p.first)}, {"order", bytesOf(p.order)}} {
		if err := w.Section(name + "." + x.name); err != nil {
			return err
		}
		if _, err := w.Write(x.b); err != nil {
			return err
		}
	}
	return nil
}

// ofCache returns the windows in a cache file, which they keep mapped.
func ofCache(f *store.File) (*dataset, error) {
	var a about
	if err := f.About(&a); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	own := &owner{mapped: f.Mapped()}
	runtime.AddCleanup(own, func(f *store.File) { f.Close() }, f)
	words := listOf[word](f.Section("tokens"))
	read := func(name string, stats Stats) packed {
		return packed{spans: listOf[span](f.Section(name + ".spans")), first: listOf[uint32](f.Section(name + ".first")), order: listOf[uint32](f.Section(name + ".order")), stats: stats}
	}
	set := &dataset{Train: &Windows{nCtx: a.NCtx, words: words, packed: read("train", a.Train), owner: own, state: a.State}}
	if a.Val != nil {
		set.Val = &Windows{nCtx: a.NCtx, words: words, packed: read("val", *a.Val), owner: own}
	}
	return set, nil
}

// Sum writes every window to a hash: tokens, targets, positions, documents and loss mask, little-endian. A new SHA-256 may go on
// from where an earlier one came to.
func (w *Windows) Sum(h hash.Hash, fresh bool) {
	if w == nil {
		return
	}
	if state, ok := h.(encoding.BinaryUnmarshaler); ok && fresh && w.state != nil && state.UnmarshalBinary(w.state) == nil {
		return
	}
	for i := range w.Len() {
		w.At(i).WriteTo(h)
	}
}

// littleEndian tells whether numbers lie in memory as a hash wants them.
var littleEndian = func() bool { x := uint16(1); return *(*byte)(unsafe.Pointer(&x)) == 1 }()

// cacheable reports whether windows can be made a cache file of: what they are made from has a name, and can be read again.
func (o options) cacheable(s *source) bool {
	for _, path := range s.files {
		if path == stdin || filepath.Clean(path) == os.DevNull {
			return false
		}
	}
	if o.Model == "" || o.Classes != nil || o.Pairs || o.Ranks != nil || !littleEndian || s.size() < cmp.Or(o.Large, largeData) {
		return false
	}
	dir, err := store.DefaultDir()
	return err == nil && os.MkdirAll(dir, 0o700) == nil
}
