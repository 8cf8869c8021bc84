package models

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"finetune/internal/hint"
	"finetune/internal/machine"
)

const (
	q4   = "model-Q4_K_M.gguf"
	name = "hf.co/owner/repo:Q4_K_M"
)

// sameFile fails unless path holds the bytes, and nothing else is left beside it.
func sameFile(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || sha(got) != sha(want) {
		t.Fatalf("%q has %d bytes, %v; want the %d of the server", path, len(got), err, len(want))
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if strings.Contains(e.Name(), partSuffix) || strings.HasSuffix(e.Name(), lockSuffix) {
			t.Errorf("%q is left beside the model", e.Name())
		}
	}
}

// Cut off at every byte, a download goes on from there, by itself.
func TestCutOffAtEveryByte(t *testing.T) {
	t.Parallel()
	content := someBytes(211, 1)
	for at := range content {
		f := newFakeHub(t, map[string][]byte{q4: content})
		f.cut = func(request int) int {
			if request == 0 {
				return at
			}
			return -1
		}
		found, err := f.store().Resolve(t.Context(), name, nil)
		if err != nil {
			t.Fatalf("cut off after %d bytes: %v", at, err)
		}
		sameFile(t, found.Path, content)
		if len(f.requests) != 2 {
			t.Fatalf("cut off after %d bytes: %d requests, want 2", at, len(f.requests))
		}
		wantRange, wantIf := fmt.Sprintf("bytes=%d-", at), `"one"`
		if at == 0 {
			wantRange, wantIf = "", ""
		}
		if second := f.requests[1]; second.Get("Range") != wantRange || second.Get("If-Range") != wantIf {
			t.Fatalf("cut off after %d bytes: asks for %q if it is %q, want %q if %q", at, second.Get("Range"), second.Get("If-Range"), wantRange, wantIf)
		}
		f.front.Close()
		f.bytes.Close()
	}
}

// A program that ends at any byte leaves nothing that is taken for a model, and the next one goes on from there.
func TestNextProgramGoesOn(t *testing.T) {
	t.Parallel()
	content := someBytes(97, 2)
	for at := range content {
		f := newFakeHub(t, map[string][]byte{q4: content})
		s := f.store()
		f.cut = func(request int) int { return map[bool]int{true: at}[request == 0] } // and then nothing
		_, err := s.Resolve(t.Context(), name, nil)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("cut off after %d of 97 bytes", at)) {
			t.Fatalf("cut off after %d bytes: %v, want an error that says so", at, err)
		}
		if files := modelFiles(t, s.Own); len(files) > 0 {
			t.Fatalf("cut off after %d bytes: %q is there", at, files)
		}
		if all := s.List(); len(all) > 0 {
			t.Fatalf("cut off after %d bytes: %v is listed", at, all)
		}
		f.cut, f.requests = nil, nil
		found, err := s.Resolve(t.Context(), name, nil)
		if err != nil {
			t.Fatal(err)
		}
		sameFile(t, found.Path, content)
		if want := fmt.Sprintf("bytes=%d-", at); at > 0 && f.requests[0].Get("Range") != want {
			t.Fatalf("cut off after %d bytes: the next program asks for %q, want %q", at, f.requests[0].Get("Range"), want)
		}
		f.front.Close()
		f.bytes.Close()
	}
}

// A connection that breaks again and again is no error as long as something comes.
func TestManyCuts(t *testing.T) {
	t.Parallel()
	content := someBytes(3<<20, 3)
	f := newFakeHub(t, map[string][]byte{q4: content})
	f.cut = func(int) int { return 200_000 }
	var told []int64
	found, err := f.store().Resolve(t.Context(), name, func(p Progress) { told = append(told, p.Done) })
	if err != nil {
		t.Fatal(err)
	}
	sameFile(t, found.Path, content)
	if n := len(f.requests); n < len(content)/200_000 {
		t.Errorf("%d requests, want more: nothing was cut", n)
	}
	if len(told) == 0 || told[len(told)-1] != int64(len(content)) || !slices.IsSorted(told) {
		t.Errorf("progress %v, want it to rise to %d", told, len(content))
	}
}

func TestServerWithoutRanges(t *testing.T) {
	t.Parallel()
	content := someBytes(5000, 4)
	f := newFakeHub(t, map[string][]byte{q4: content})
	f.noRanges = true
	f.cut = func(request int) int { return []int{100, 4000, -1}[request] }
	found, err := f.store().Resolve(t.Context(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	sameFile(t, found.Path, content)
}

// Where the file has changed between two attempts, none of the bytes of the first are used.
func TestChangedFile(t *testing.T) {
	t.Parallel()
	before, after := someBytes(500, 5), someBytes(500, 6)
	f := newFakeHub(t, map[string][]byte{q4: before})
	s := f.store()
	f.cut = func(request int) int { return map[bool]int{true: 300}[request == 0] }
	if _, err := s.Resolve(t.Context(), name, nil); err == nil {
		t.Fatal("no error")
	}
	f.files[q4], f.etag, f.cut, f.requests = after, `"two"`, nil, nil
	found, err := s.Resolve(t.Context(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	sameFile(t, found.Path, after)
	if r := f.requests[0].Get("Range"); r != "" {
		t.Errorf("asks for %q of a file that it has nothing of", r)
	}
}

// If-Range is what keeps the bytes of two files with one listing apart before the checksum has to.
func TestChangedTag(t *testing.T) {
	t.Parallel()
	content := someBytes(500, 7)
	f := newFakeHub(t, map[string][]byte{q4: content})
	f.cut = func(request int) int {
		if request == 0 {
			f.etag = `"two"` // from the next answer on
			return 300
		}
		return -1
	}
	found, err := f.store().Resolve(t.Context(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	sameFile(t, found.Path, content)
}

func TestWrongChecksum(t *testing.T) {
	t.Parallel()
	content := someBytes(1000, 8)
	f := newFakeHub(t, map[string][]byte{q4: content})
	f.sha256[q4] = sha([]byte("another"))
	s := f.store()
	_, err := s.Resolve(t.Context(), name, nil)
	if !errors.Is(err, ErrChecksum) {
		t.Fatalf("%v, want ErrChecksum", err)
	}
	left := filesBelow(s.Own, 4)
	if len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	f.sha256 = map[string]string{}
	if found, err := s.Resolve(t.Context(), name, nil); err != nil {
		t.Error(err)
	} else {
		sameFile(t, found.Path, content)
	}
}

// A part whose bytes were damaged on the disk is found by the checksum of the whole.
func TestDamagedPart(t *testing.T) {
	t.Parallel()
	content := someBytes(1000, 9)
	f := newFakeHub(t, map[string][]byte{q4: content})
	s := f.store()
	f.cut = func(request int) int { return map[bool]int{true: 600}[request == 0] }
	if _, err := s.Resolve(t.Context(), name, nil); err == nil {
		t.Fatal("no error")
	}
	part := filepath.Join(s.Own, "hf.co/owner/repo", q4+partSuffix)
	bytes, err := os.ReadFile(part)
	if err != nil || len(bytes) != 600 {
		t.Fatalf("the part has %d bytes, %v, want 600", len(bytes), err)
	}
	bytes[17] ^= 1
	write(t, part, string(bytes))
	f.cut = nil
	if _, err := s.Resolve(t.Context(), name, nil); !errors.Is(err, ErrChecksum) {
		t.Errorf("%v, want ErrChecksum", err)
	}
	if files := modelFiles(t, s.Own); len(files) > 0 {
		t.Errorf("%q is there", files)
	}
}

func TestMoreThanListed(t *testing.T) {
	t.Parallel()
	f := newFakeHub(t, map[string][]byte{q4: someBytes(1000, 10)})
	s := f.store()
	r, _ := parseHub(name)
	r.file = q4
	for _, listed := range []int64{999, 1001} {
		err := newHub(s).bring(t.Context(), remote{r, listed, sha(nil)}, filepath.Join(s.Own, "x.gguf"), func(int64) {})
		if want := fmt.Sprintf("the listing says %d bytes", listed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}

func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	f := newFakeHub(t, map[string][]byte{q4: someBytes(1000, 11)})
	s := f.store()
	dir := filepath.Join(s.Own, "hf.co/owner/repo")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	lock, err := machine.AcquireLock(filepath.Join(dir, q4+lockSuffix))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(t.Context(), name, nil); err == nil || !strings.Contains(err.Error(), "another finetune is bringing it") {
		t.Errorf("%v, want that another one brings it", err)
	}
	machine.ReleaseLock(lock)
	if _, err := s.Resolve(t.Context(), name, nil); err != nil {
		t.Error(err)
	}
}

func TestStopped(t *testing.T) {
	t.Parallel()
	content := someBytes(1<<20, 12)
	f := newFakeHub(t, map[string][]byte{q4: content})
	s := f.store()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.Resolve(ctx, name, func(Progress) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want context.Canceled", err)
	}
	if files := modelFiles(t, s.Own); len(files) > 0 {
		t.Errorf("%q is there", files)
	}
	found, err := s.Resolve(t.Context(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	sameFile(t, found.Path, content)
}

func TestStall(t *testing.T) {
	t.Parallel()
	content := someBytes(1000, 13)
	f := newFakeHub(t, map[string][]byte{q4: content})
	s := f.store()
	s.waits.stall = 50 * time.Millisecond
	real := f.bytes.Config.Handler
	hung := false
	f.bytes.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hung {
			real.ServeHTTP(w, r)
			return
		}
		hung = true
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("ETag", f.etag)
		w.Write(content[:400])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	found, err := s.Resolve(t.Context(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	sameFile(t, found.Path, content)
}

// The token goes to the endpoint and not to where that redirects.
func TestTokenStaysAtHome(t *testing.T) {
	t.Parallel()
	f := newFakeHub(t, map[string][]byte{q4: someBytes(100, 14)})
	s := f.store()
	s.Token = "hf_secret"
	if _, err := s.Resolve(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	want := []string{"front Bearer hf_secret", "front Bearer hf_secret", "bytes "}
	if !slices.Equal(f.tokens, want) {
		t.Errorf("requests with %q, want %q", f.tokens, want)
	}
}

func TestAnswersOfTheHub(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what   string
		status []int
		token  string
		want   string // in the error; empty = none
		hint   string
	}{
		{"none there", []int{404}, "", "has none", "spelt right"},
		{"private", []int{401}, "", "not everybody may read it", "HF_TOKEN in the environment"},
		{"not for this account", []int{403}, "x", "not everybody may read it", "HF_TOKEN is set"},
		{"busy for a while", []int{503, 429, 500, 200}, "", "", ""},
		{"busy for good", slices.Repeat([]int{503}, 1+retries), "", "503", ""},
	} {
		f := newFakeHub(t, map[string][]byte{q4: someBytes(100, 15)})
		f.status = tt.status
		s := f.store()
		s.Token = tt.token
		_, err := s.Resolve(t.Context(), name, nil)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v, want none", tt.what, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want an error with %q", tt.what, err, tt.want)
		case !strings.Contains(strings.Join(hint.Of(err), "\n"), tt.hint):
			t.Errorf("%s: hints %q, want one with %q", tt.what, hint.Of(err), tt.hint)
		}
		if err != nil && strings.Contains(err.Error()+fmt.Sprint(hint.Of(err)), "secret") {
			t.Errorf("%s: %v tells a signature", tt.what, err)
		}
	}
}

func TestOffline(t *testing.T) {
	t.Parallel()
	f := newFakeHub(t, map[string][]byte{q4: someBytes(100, 16)})
	s := f.store()
	s.Offline = "HF_HUB_OFFLINE forbids it"
	if _, err := s.Resolve(t.Context(), name, nil); err == nil || !strings.Contains(err.Error(), "HF_HUB_OFFLINE") {
		t.Errorf("%v, want an error with HF_HUB_OFFLINE", err)
	}
	s.Offline = ""
	f.front.Close()
	began := time.Now()
	_, err := s.Resolve(t.Context(), name, nil)
	if err == nil || !strings.Contains(err.Error(), "cannot reach 127.0.0.1:") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v, want one line that says what cannot be reached", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("said after %v, want it at once", took)
	}
}
