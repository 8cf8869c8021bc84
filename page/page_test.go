package page

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	saved "finetune/run"
	"finetune/trainer"
)

const token = "0123456789ABCDEF0123456789"

// madeRun writes a run directory with settings and a log.
func madeRun(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	c := saved.DefaultConfig()
	c.Model, c.Out = "base.gguf", dir
	if err := c.Save(filepath.Join(dir, saved.ConfigFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, saved.LogFile), []byte(stepLine(1)), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// asked is a request of the page's own script, and what it got.
func asked(t *testing.T, h http.Handler, method, path string, header map[string]string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:1234"+path, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for k, v := range header {
		if k == "Host" {
			r.Host = v
			continue
		}
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	text, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(text)
}

// Runs are found where the folders are, keep their numbers when others come, and no request reaches what is in no folder.
func TestRunsAreFoundAndKeepTheirNumbers(t *testing.T) {
	top := t.TempDir()
	folder := filepath.Join(top, "runs")
	madeRun(t, filepath.Join(folder, "b"))
	madeRun(t, filepath.Join(top, "outside"))
	if err := os.MkdirAll(filepath.Join(folder, "no run"), 0o777); err != nil {
		t.Fatal(err)
	}
	h := New(Options{Token: token, Folders: []string{folder}})
	names := func() string {
		_, text := asked(t, h, "GET", "/api/state", nil)
		var s state
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, r := range s.Runs {
			all = append(all, fmt.Sprintf("%d %s of %d bytes", r.ID, r.Name, r.Bytes))
		}
		return strings.Join(all, ", ")
	}
	size := len(stepLine(1))
	first := fmt.Sprintf("0 b of %d bytes", size)
	if got := names(); got != first {
		t.Errorf("runs %q, want %q", got, first)
	}
	madeRun(t, filepath.Join(folder, "a"))
	if got, want := names(), fmt.Sprintf("%s, 1 a of %d bytes", first, size); got != want {
		t.Errorf("runs %q, want %q", got, want)
	}
	for path, want := range map[string]int{
		"/api/runs/0": 200, "/api/runs/0/log?from=0": 200, "/api/runs/2": 404, "/api/runs/-1": 404, "/api/runs/x": 404, "/api/runs/../outside": 404,
		"/api/runs/..%2Foutside/log?from=0": 404, "/api/runs/0/log?from=-1": 400, "/api/runs/0/log": 400, "/runs/b/config.yaml": 404, "/style.css/..": 404,
	} {
		got, text := asked(t, h, "GET", path, nil)
		if got.StatusCode != want && got.StatusCode != http.StatusTemporaryRedirect && got.StatusCode != http.StatusMovedPermanently {
			t.Errorf("%s: %d, %s, want %d", path, got.StatusCode, text, want)
		}
		if got.StatusCode != 200 && (strings.Contains(text, "settings") || strings.Contains(text, "steps")) {
			t.Errorf("%s tells of a run: %s", path, text)
		}
	}
}

// Who may ask what. The page itself holds nothing and needs no token; all that it asks for does.
func TestWhoIsAnswered(t *testing.T) {
	stopped := 0
	live := NewLive(filepath.Join(t.TempDir(), "run"), func() { stopped++ })
	h := New(Options{Token: token, Live: live})
	for _, tt := range []struct {
		name, method, path string
		header             map[string]string
		want               int
	}{
		{"the page, typed", "GET", "/", map[string]string{"Authorization": "", "Sec-Fetch-Site": "none"}, 200},
		{"the page, by a link elsewhere", "GET", "/", map[string]string{"Authorization": "", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200},
		{"the script, of a page elsewhere", "GET", "/page.js", map[string]string{"Authorization": "", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403},
		{"the state", "GET", "/api/state", nil, 200},
		{"without a token", "GET", "/api/state", map[string]string{"Authorization": ""}, 401},
		{"with a wrong one", "GET", "/api/state", map[string]string{"Authorization": "Bearer " + token + "x"}, 401},
		{"the token in the address", "GET", "/api/state?token=" + token, map[string]string{"Authorization": ""}, 401},
		{"DNS rebinding", "GET", "/", map[string]string{"Host": "evil.example:1234"}, 403},
		{"DNS rebinding, the state", "GET", "/api/state", map[string]string{"Host": "evil.example:1234"}, 403},
		{"a page elsewhere", "POST", "/api/stop", map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, 403},
		{"another page of this machine", "POST", "/api/stop", map[string]string{"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-site"}, 403},
		{"another page, in an old browser", "POST", "/api/stop", map[string]string{"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": ""}, 403},
		{"a page in a frame", "POST", "/api/stop", map[string]string{"Origin": "null"}, 403},
		{"a link to the state", "GET", "/api/state", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403},
		{"stopping by an address", "GET", "/api/stop", nil, 404},
		{"another path", "GET", "/api", nil, 404},
	} {
		got, text := asked(t, h, tt.method, tt.path, tt.header)
		if got.StatusCode != tt.want {
			t.Errorf("%s: %d, %.100s, want %d", tt.name, got.StatusCode, text, tt.want)
		}
		for _, want := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Cache-Control", "Referrer-Policy"} {
			if got.Header.Get(want) == "" {
				t.Errorf("%s: no %s", tt.name, want)
			}
		}
		if got.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: answers another origin", tt.name)
		}
	}
	if stopped > 0 {
		t.Fatalf("the run was stopped %d times by those who may not", stopped)
	}
	for range 2 {
		if got, text := asked(t, h, "POST", "/api/stop", map[string]string{"Origin": "http://127.0.0.1:1234"}); got.StatusCode != 200 || !strings.Contains(text, `"stopping":true`) {
			t.Errorf("the page's button: %d, %s", got.StatusCode, text)
		}
	}
	live.End(errors.New("interrupted"))
	if got, _ := asked(t, h, "POST", "/api/stop", nil); got.StatusCode != http.StatusConflict || stopped != 1 {
		t.Errorf("a run that has ended: %d, stopped %d times, want 409 and once", got.StatusCode, stopped)
	}
}

// A page on a run that has not begun says what is being done.
func TestLiveRunTellsWhatItDoes(t *testing.T) {
	live := NewLive(filepath.Join(t.TempDir(), "run"), func() {})
	h := New(Options{Token: token, Live: live})
	for _, tt := range []struct {
		event trainer.Event
		want  string
	}{
		{trainer.Event{Kind: "reading", What: "train.jsonl", Done: 1, Of: 4}, `"doing":"reading train.jsonl, 25 %"`},
		{trainer.Event{Kind: "measuring", What: "validation"}, `"doing":"measuring validation"`},
		{trainer.Event{Kind: "step"}, `"live":{"memory"`},
	} {
		live.Event(tt.event)
		if _, text := asked(t, h, "GET", "/api/state", nil); !strings.Contains(text, tt.want) {
			t.Errorf("%s: %s, want %s", tt.event.Kind, text, tt.want)
		}
	}
	if got, text := asked(t, h, "GET", "/api/runs/0", nil); got.StatusCode != 200 || strings.Contains(text, "notes") {
		t.Errorf("a run without a directory: %d, %s, want no complaint", got.StatusCode, text)
	}
}

// One conversation is open at a time, with the run that was asked last.
func TestOneConversationIsOpen(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"a", "b"} {
		dir := madeRun(t, filepath.Join(folder, name))
		if err := os.WriteFile(filepath.Join(dir, saved.AdapterFile), []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	madeRun(t, filepath.Join(folder, "c"))
	var events []string
	h := New(Options{Token: token, Folders: []string{folder}, Chat: func(_ context.Context, dir string) (*Chat, error) {
		name := filepath.Base(dir)
		events = append(events, "open "+name)
		return &Chat{Template: true,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name, " ", r.URL.Path) }),
			Close:   func() error { events = append(events, "close "+name); return nil }}, nil
	}})
	h.runs.list()
	for _, tt := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/api/runs/0/chat", 200, `{"template":true}`}, {"POST", "/api/runs/0/chat/chat", 200, "a /v1/chat/completions"}, {"POST", "/api/runs/0/chat/text", 200, "a /v1/completions"},
		{"POST", "/api/runs/1/chat/chat", 200, "b /v1/chat/completions"}, {"POST", "/api/runs/1/chat/models", 404, "want chat or text"}, {"GET", "/api/runs/2/chat", 409, "no result yet"},
		{"POST", "/api/runs/2/chat/chat", 409, "no result yet"},
	} {
		if got, text := asked(t, h, tt.method, tt.path, nil); got.StatusCode != tt.status || !strings.Contains(text, tt.want) {
			t.Errorf("%s %s: %d, %s, want %d, %s", tt.method, tt.path, got.StatusCode, text, tt.status, tt.want)
		}
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(events, ", "); got != "open a, close a, open b, close b" {
		t.Errorf("%s, want a closed before b is opened", got)
	}
	if got, _ := asked(t, h, "GET", "/api/runs/0/chat", nil); got.StatusCode != 500 {
		t.Errorf("after Close: %d, want a refusal", got.StatusCode)
	}
}

// A report is one file: no address, no token, and what it says of itself in its policy is so.
func TestReportIsOneFile(t *testing.T) {
	folder := t.TempDir()
	dir := madeRun(t, filepath.Join(folder, "a"))
	hostile := `</script><script>alert(1)</script><!--`
	if err := saved.AddExport(dir, map[string]string{"file": hostile}); err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := Report(&page, []string{folder}); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	if n := strings.Count(text, "<script"); n != 2 || strings.Count(text, "</script>") != 2 || strings.Contains(text, "alert(1)</") {
		t.Errorf("the report has %d scripts, want its data and its own", n)
	}
	for _, foreign := range []string{"http://", "https://", "//cdn", "href=\"/", "src="} {
		rest := strings.ReplaceAll(text, "http://www.w3.org/2000/svg", "") // a name, which nothing loads
		if i := strings.Index(rest, foreign); i >= 0 {
			t.Errorf("the report holds %q: %.80q", foreign, rest[max(0, i-40):])
		}
	}
	if !strings.Contains(text, "default-src 'none'; script-src 'sha256-") || !strings.Contains(text, hashOf(assets["/page.js"].body)) {
		t.Error("the report's policy does not name its script")
	}
	if err := Report(io.Discard, []string{t.TempDir()}); !errors.Is(err, ErrNoRun) {
		t.Errorf("a folder without a run: %v, want ErrNoRun", err)
	}
}

// The script makes no markup of any text, and asks for nothing but what this package serves.
func TestScriptMakesNoMarkup(t *testing.T) {
	script := string(assets["/page.js"].body)
	for _, way := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser", "createContextualFragment", "srcdoc", "</script", "<!--"} {
		if strings.Contains(script, way) {
			t.Errorf("the script uses %s", way)
		}
	}
}
