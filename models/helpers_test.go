package models

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"finetune/gguf"
)

// quick are waits for a server that is here.
var quick = waits{least: time.Microsecond, most: time.Millisecond, stall: 10 * time.Second}

// fakeHub is a hub of our own on two hosts: one lists and redirects, the other has the bytes, as the real one does.
type fakeHub struct {
	t     *testing.T
	front *httptest.Server
	bytes *httptest.Server

	mu       sync.Mutex
	files    map[string][]byte // by path in owner/repo
	sha256   map[string]string // in the listing, where it is not that of the bytes
	etag     string
	cut      func(request int) int // bytes that an answer ends after, -1 = none, by the number of the request of bytes, from 0 on
	noRanges bool
	status   []int // of the next requests of the front
	listings int
	requests []http.Header // of bytes
	tokens   []string      // Authorization of every request, by host: "front Bearer …"
}

func newFakeHub(t *testing.T, files map[string][]byte) *fakeHub {
	f := &fakeHub{t: t, files: files, sha256: map[string]string{}, etag: `"one"`}
	f.front = httptest.NewServer(http.HandlerFunc(f.serveFront))
	f.bytes = httptest.NewServer(http.HandlerFunc(f.serveBytes))
	t.Cleanup(f.front.Close)
	t.Cleanup(f.bytes.Close)
	return f
}

// store returns a store that has nothing, and this hub.
func (f *fakeHub) store() *Store {
	return &Store{Own: f.t.TempDir(), Endpoint: f.front.URL, waits: quick}
}

func (f *fakeHub) serveFront(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens = append(f.tokens, "front "+r.Header.Get("Authorization"))
	if len(f.status) > 0 {
		code := f.status[0]
		f.status = f.status[1:]
		if code != http.StatusOK {
			http.Error(w, "no", code)
			return
		}
	}
	const resolve = "/owner/repo/resolve/main/"
	switch {
	case strings.HasPrefix(r.URL.Path, "/api/models/owner/repo/tree/main"):
		f.listings++
		f.list(w, r)
	case strings.HasPrefix(r.URL.Path, resolve):
		http.Redirect(w, r, f.bytes.URL+"/blob/"+strings.TrimPrefix(r.URL.Path, resolve)+"?Signature=secret", http.StatusFound)
	default:
		http.NotFound(w, r)
	}
}

// list answers a page for each file, so that pages are followed.
func (f *fakeHub) list(w http.ResponseWriter, r *http.Request) {
	var names []string
	for name := range f.files {
		names = append(names, name)
	}
	page := 0
	fmt.Sscan(r.URL.Query().Get("cursor"), &page)
	entries := []any{map[string]any{"type": "file", "path": "README.md", "oid": "aa", "size": 3}}
	sorted := sortedNames(names)
	if page < len(sorted) {
		name := sorted[page]
		sum := f.sha256[name]
		if sum == "" {
			sum = sha(f.files[name])
		}
		entries = append(entries, map[string]any{"type": "file", "path": name, "oid": "bb", "size": 130, "lfs": map[string]any{"oid": sum, "size": len(f.files[name]), "pointerSize": 130}})
	}
	if page+1 < len(sorted) {
		w.Header().Set("Link", fmt.Sprintf("<%s/api/models/owner/repo/tree/main?recursive=true&cursor=%d>; rel=\"next\"", f.front.URL, page+1))
	}
	json.NewEncoder(w).Encode(entries)
}

func sortedNames(names []string) []string {
	m := map[string]string{}
	for _, name := range names {
		m[name] = ""
	}
	return sortedKeys(m)
}

func (f *fakeHub) serveBytes(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	content, ok := f.files[strings.TrimPrefix(r.URL.Path, "/blob/")]
	request, cut, etag := len(f.requests), -1, f.etag
	f.requests = append(f.requests, r.Header.Clone())
	f.tokens = append(f.tokens, "bytes "+r.Header.Get("Authorization"))
	if f.cut != nil {
		cut = f.cut(request)
	}
	if f.noRanges {
		r.Header.Del("Range")
	}
	f.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", etag)
	http.ServeContent(&cutting{w, cut}, r, "", time.Time{}, bytes.NewReader(content))
}

// cutting is an answer whose connection breaks after some bytes of the body.
type cutting struct {
	http.ResponseWriter
	left int // -1 = all
}

func (c *cutting) Write(p []byte) (int, error) {
	if c.left < 0 || len(p) <= c.left {
		if c.left >= 0 {
			c.left -= len(p)
		}
		return c.ResponseWriter.Write(p)
	}
	c.ResponseWriter.Write(p[:c.left])
	c.ResponseWriter.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// someBytes returns n bytes that follow from a seed.
func someBytes(n int, seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// writeModel writes a small GGUF.
func writeModel(t *testing.T, path string, keys map[string]any) {
	t.Helper()
	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	for key, value := range keys {
		b.Set(key, value)
	}
	b.AddTensor("token_embd.weight", gguf.TypeQ8_0, []int64{32, 4}, make([]byte, 4*34))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// models returns the names of the files below a folder that a model could be taken for.
func modelFiles(t *testing.T, dir string) (files []string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".gguf") {
			files = append(files, path)
		}
		return nil
	})
	return files
}
