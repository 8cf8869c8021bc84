package serve_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"finetune/chat"
	"finetune/internal/hint"
	"finetune/serve"
)

const token = "0123456789abcdef0123"

// What is hostile, wrong or asks for what there is not is refused in OpenAI's form, and the next request is answered as ever.
func TestHostileRequestsAreRefused(t *testing.T) {
	t.Parallel()
	s := base(t, 64, serve.Options{Token: token})
	good := `{"prompt": "once upon", "max_tokens": 4, "temperature": 0}`
	bearer := "Bearer " + token
	ask := func(body string, header map[string]string) reply {
		h := map[string]string{"Authorization": bearer}
		for k, v := range header {
			h[k] = v
		}
		return s.send("POST", "/v1/completions", strings.NewReader(body), h)
	}
	first := ask(good, nil)
	if first.status != 200 || first.text == "" {
		t.Fatalf("%+v, want an answer", first)
	}
	local := "http://localhost:3000"
	for _, tt := range []struct {
		name   string
		body   string
		header map[string]string
		status int
		says   string
	}{
		{"10 MB of prompt", `{"prompt": "` + strings.Repeat("x", 10<<20) + `"}`, nil, 413, fmt.Sprint(serve.MostBody)},
		{"10 MB of nothing", strings.Repeat(" ", 10<<20), nil, 413, ""},
		{"longer than the context", `{"prompt": "` + strings.Repeat("the ", 100) + `"}`, nil, 400, "tokens, want at most 63: the context has 64"},
		{"bad JSON", `{"prompt": "once`, nil, 400, "no JSON"},
		{"deep JSON", strings.Repeat(`{"prompt":`, 100000), nil, 400, ""},
		{"a list", `[1, 2]`, nil, 400, "want a JSON object"},
		{"null", `null`, nil, 400, "want a JSON object"},
		{"two objects", good + good, nil, 400, ""},
		{"nothing", ``, nil, 400, "empty"},
		{"zeros", "\x00\x00\x00", nil, 400, ""},
		{"a number for a prompt", `{"prompt": 1}`, nil, 400, `"prompt": want one string, got 1`},
		{"tokens for a prompt", `{"prompt": [1, 2]}`, nil, 400, `want one string`},
		{"several prompts", `{"prompt": ["a", "b"]}`, nil, 400, `want one string`},
		{"no prompt", `{}`, nil, 400, "missing"},
		{"several answers", `{"prompt": "a", "n": 2}`, nil, 400, `"n": 2 is not supported`},
		{"log-probabilities", `{"prompt": "a", "logprobs": 5}`, nil, 400, "not supported"},
		{"no tokens", `{"prompt": "a", "max_tokens": 0}`, nil, 400, "want 1 or more, got 0"},
		{"too many tokens", `{"prompt": "a", "max_tokens": 99999999999999999999}`, nil, 400, "want a whole number"},
		{"cold", `{"prompt": "a", "temperature": -1}`, nil, 400, `"temperature": want`},
		{"hot", `{"prompt": "a", "temperature": 1e300}`, nil, 400, `"temperature": want`},
		{"no top-p", `{"prompt": "a", "top_p": 0}`, nil, 400, `"top_p": want`},
		{"seed", `{"prompt": "a", "seed": -1}`, nil, 400, `"seed": want`},
		{"stops", `{"prompt": "a", "stop": ["", "b"]}`, nil, 400, `"stop": want`},
		{"another model", `{"prompt": "a", "model": "gpt-9"}`, nil, 404, `"gpt-9", want one of "base"`},
		{"scale of the base", `{"prompt": "a", "model": "base:0.5"}`, nil, 404, ""},
		{"no token", good, map[string]string{"Authorization": ""}, 401, "want the server's token"},
		{"wrong token", good, map[string]string{"Authorization": "Bearer " + token + "0"}, 401, ""},
		{"another scheme", good, map[string]string{"Authorization": "Basic " + token}, 401, ""},
		{"DNS rebinding", good, map[string]string{"Host": "evil.example:80"}, 403, "host"},
		{"a name that begins alike", good, map[string]string{"Host": "127.0.0.1.evil.example"}, 403, "host"},
		{"another address", good, map[string]string{"Host": "192.168.0.1"}, 403, "host"},
		{"a page elsewhere", good, map[string]string{"Origin": "https://evil.example"}, 403, "origin"},
		{"a page with a name that begins alike", good, map[string]string{"Origin": "http://localhost.evil.example"}, 403, "origin"},
		{"a page in a frame", good, map[string]string{"Origin": "null"}, 403, "origin"},
		{"a page without an origin", good, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "origin"},
		{"a page here without a token", good, map[string]string{"Origin": local, "Authorization": ""}, 401, ""},
		{"a page here", good, map[string]string{"Origin": local}, 200, ""},
		{"by IPv6", good, map[string]string{"Host": "[::1]:8080"}, 200, ""},
		{"typed", good, map[string]string{"Sec-Fetch-Site": "none"}, 200, ""},
	} {
		got := ask(tt.body, tt.header)
		if got.status != tt.status || !strings.Contains(got.failed, tt.says) || (got.status == 200) != (got.failed == "") {
			t.Errorf("%s: %d, %q, want %d with %q", tt.name, got.status, got.failed, tt.status, tt.says)
		}
		if allowed := got.header.Get("Access-Control-Allow-Origin"); allowed != "" && allowed != local {
			t.Errorf("%s: answers the origin %q", tt.name, allowed)
		}
	}
	for name, tt := range map[string]struct {
		method, path string
		status       int
	}{
		"another path": {"POST", "/v1/embeddings", 404}, "the top": {"GET", "/", 404}, "a way out": {"GET", "/v1/models/../../etc/passwd", 404},
		"reading what is written": {"GET", "/v1/completions", 405}, "deleting": {"DELETE", "/v1/models/base", 405}, "a question of a page": {"OPTIONS", "/v1/models", 405},
	} {
		if got := s.send(tt.method, tt.path, nil, map[string]string{"Authorization": bearer}); got.status != tt.status || got.failed == "" {
			t.Errorf("%s: %d, %q, want %d", name, got.status, got.failed, tt.status)
		}
	}
	if got := s.send("OPTIONS", "/v1/completions", nil, map[string]string{"Origin": local}); got.status != 204 || got.header.Get("Access-Control-Allow-Origin") != local {
		t.Errorf("a page here that asks what it may send: %d, %v", got.status, got.header)
	}
	if got := s.send("GET", "/health", nil, nil); got.status != 200 {
		t.Errorf("/health without a token: %d", got.status)
	}
	for _, body := range []string{
		`{"messages": "hello"}`, `{"messages": []}`, `{"messages": [1]}`, `{"messages": [{"role": "user"}]}`, `{"messages": [{"content": "a"}]}`, `{"prompt": "a"}`,
		`{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]}`,
		`{"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {"name": "f"}}]}`,
	} {
		if got := s.send("POST", "/v1/chat/completions", strings.NewReader(body), map[string]string{"Authorization": bearer}); got.status != 400 || got.failed == "" {
			t.Errorf("%s: %d, %q, want 400", body, got.status, got.failed)
		}
	}
	if again := ask(good, nil); again.text != first.text {
		t.Errorf("%q after it all, want %q as before", again.text, first.text)
	}
}

// Without a token no page is answered, whatever it shows; other programs are.
func TestPagesNeedAToken(t *testing.T) {
	t.Parallel()
	s := base(t, 64, serve.Options{})
	for _, header := range []map[string]string{{"Origin": "http://localhost:3000"}, {"Origin": "http://localhost:3000", "Authorization": "Bearer "}, {"Origin": ""}} {
		if got := s.send("GET", "/v1/models", nil, header); got.status != 403 {
			t.Errorf("%v: %d, want 403", header, got.status)
		}
	}
	if got := s.send("GET", "/v1/models", nil, map[string]string{"Authorization": "Bearer whatever a client has"}); got.status != 200 {
		t.Errorf("another program: %d", got.status)
	}
}

func TestListenOnThisMachineOnly(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.168.0.1:0", "example.com:0", "8080", "127.0.0.1:99999"} {
		l, err := serve.Listen(addr)
		if err == nil {
			l.Close()
			t.Errorf("%q: listens on %v", addr, l.Addr())
		} else if !strings.Contains(err.Error(), addr) || !strings.HasSuffix(addr, "99999") && len(hint.Of(err)) == 0 {
			t.Errorf("%q: %v", addr, err)
		}
	}
	l, err := serve.Listen("localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
		t.Errorf("listens on %v", l.Addr())
	}
}

// long is a request whose answer fills the context.
const long = `{"prompt": "once upon a time", "max_tokens": 100000, "temperature": 0, "stream": true}`

// A client that goes away frees the evaluator long before its answer would have ended.
func TestVanishedClientFreesTheEvaluator(t *testing.T) {
	t.Parallel()
	const nCtx = 8192
	s := base(t, nCtx, serve.Options{})
	ctx, vanish := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/completions", strings.NewReader(long))
	if err != nil {
		t.Fatal(err)
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(got.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	vanish()
	got.Body.Close()
	if next := s.post("/v1/completions", map[string]any{"prompt": "a", "max_tokens": 1}); next.status != 200 {
		t.Errorf("the next request: %+v", next)
	}
	first := <-s.reports
	if first.Err == nil { // that of the next one, which may be told of before
		first = <-s.reports
	}
	if first.Err == nil || first.Tokens > nCtx/2 {
		t.Errorf("the first ended with %v after %d tokens, want an error long before %d", first.Err, first.Tokens, nCtx)
	}
}

// pipes is a listener of connections without any buffer: what nobody reads is not written.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.connections:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// asks sends a request over a connection and returns it without having read anything.
func (p *pipes) asks(t *testing.T, body string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	p.connections <- theirs
	if _, err := fmt.Fprintf(ours, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return ours
}

// A client that reads nothing holds up nobody, and is given up.
func TestSlowClientHoldsUpNobody(t *testing.T) {
	t.Parallel()
	m, e := opened(t, tiny(t, 256), 256)
	p := &pipes{connections: make(chan net.Conn), closed: make(chan struct{})}
	s := started(t, e, []serve.Model{{Name: "base", Template: chat.SourceOf(m)}}, serve.Options{}, p)
	slow := p.asks(t, long)
	quick := p.asks(t, `{"prompt": "a", "max_tokens": 1}`)
	quick.SetDeadline(time.Now().Add(longest))
	got, err := http.ReadResponse(bufio.NewReader(quick), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := s.read(got); r.status != 200 {
		t.Errorf("the quick one: %+v", r)
	}
	if first := <-s.reports; first.Tokens != 1 {
		t.Fatalf("the first to end has %d tokens, want the quick one", first.Tokens)
	}
	given := <-s.reports // within writeTimeout
	if given.Err == nil {
		t.Error("the slow one was sent everything, which nobody has read")
	}
	slow.SetDeadline(time.Now().Add(longest))
	if rest, _ := io.ReadAll(slow); bytes.Contains(rest, []byte("[DONE]")) {
		t.Error("the slow one got it all")
	}
}

func TestBusyServerSaysSo(t *testing.T) {
	t.Parallel()
	s := base(t, 64, serve.Options{})
	free := serve.Occupy(s.Server)
	got := s.post("/v1/completions", map[string]any{"prompt": "a"})
	if got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("%+v, want 503 and when to try again", got)
	}
	free()
	if got := s.post("/v1/completions", map[string]any{"prompt": "a"}); got.status != 200 {
		t.Errorf("%+v, want an answer", got)
	}
}

// When the server stops, the answer that is being given ends, and those who wait are told.
func TestStopLetsAnswersEnd(t *testing.T) {
	t.Parallel()
	s := base(t, 2048, serve.Options{Grace: longest})
	var all sync.WaitGroup
	all.Go(func() {
		if got := s.send("POST", "/v1/completions", strings.NewReader(long), nil); !got.done || got.finish != "length" {
			t.Errorf("the answer that was being given: done %v, ended by %q, %q", got.done, got.finish, got.failed)
		}
	})
	s.engineBusy()
	all.Go(func() {
		if got := s.post("/v1/completions", map[string]any{"prompt": "a"}); got.status != 503 || !strings.Contains(got.failed, "stopping") {
			t.Errorf("the one that waited: %+v", got)
		}
	})
	s.until("the second request is there", func() bool { return serve.Admitted(s.Server) == 2 })
	if err := s.stopped(); err != nil {
		t.Errorf("Serve() = %v", err)
	}
	all.Wait()
	if _, err := http.Get(s.url + "/health"); err == nil {
		t.Error("a server that has stopped answers")
	}
}

// engineBusy returns once a request is being answered.
func (s *server) engineBusy() {
	s.t.Helper()
	s.until("a request is being answered", func() bool { return !serve.Free(s.Server) })
}

// until waits for something to be so.
func (s *server) until(what string, so func() bool) {
	s.t.Helper()
	for end := time.Now().Add(longest); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if so() {
			return
		}
	}
	s.t.Fatalf("waited in vain until %s", what)
}

// An answer that takes longer than there is patience for is cut off, and says why.
func TestStopCutsOffWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	s := base(t, 8192, serve.Options{Grace: time.Millisecond})
	answered := make(chan reply, 1)
	go func() { answered <- s.send("POST", "/v1/completions", strings.NewReader(long), nil) }()
	s.engineBusy()
	if err := s.stopped(); err != nil {
		t.Errorf("Serve() = %v", err)
	}
	if got := <-answered; got.done || !strings.Contains(got.failed, "stopping") {
		t.Errorf("status %d, done %v, %q, want that the server is stopping", got.status, got.done, got.failed)
	}
	if r := <-s.reports; r.Err == nil || errors.Is(r.Err, context.Canceled) {
		t.Errorf("report %v, want why", r.Err)
	}
}
