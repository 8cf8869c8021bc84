package serve

// Who is answered. The port can be reached by every program of this machine, and by every page that somebody has open in a
// browser here: a page may send requests anywhere, and a name of its own that it lets point to 127.0.0.1 makes answers readable
// to it (DNS rebinding). So
//
//	the Host that a request names must be this machine: a page that rebinds its name sends that name
//	a request from a page (it has an Origin, or Sec-Fetch-Site) must come from a page of this machine and show a token, which the
//	server must have been given; CORS is answered for such pages only
//	where there is a token every request shows it, but for /health, which tells nothing

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"finetune/internal/hint"
)

// shortestToken is the length of a token that is not guessed over a port without a limit: 64 bits in hexadecimal digits.
const shortestToken = 16

// checkToken refuses a token that is easily guessed, or that no header can carry.
func checkToken(token string) error {
	bad := func(r rune) bool { return r <= ' ' || r > '~' }
	if token == "" || len(token) >= shortestToken && !strings.ContainsFunc(token, bad) {
		return nil
	}
	return hint.With(fmt.Errorf("token: want %d or more letters, digits and signs without spaces, got %d bytes", shortestToken, len(token)),
		"openssl rand -hex 16 makes one")
}

// admit reports whether a request may be answered. If not, it has been.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	if !admitHost(w, r) {
		return false
	}
	origin := r.Header.Get("Origin")
	if page := isPage(r); page {
		if !ofThisMachine(origin) {
			refuse(w, problem(http.StatusForbidden, "", "origin %.100q: want a page of this machine, such as http://localhost:3000", origin))
			return false
		}
		if s.options.Token == "" {
			refuse(w, problem(http.StatusForbidden, "", "pages in a browser are answered only where the server was given a token"))
			return false
		}
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Add("Vary", "Origin")
		if r.Method == http.MethodOptions { // asks what it may send; its own request will show the token
			w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
			w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			w.WriteHeader(http.StatusNoContent)
			return false
		}
	}
	return s.options.Token == "" || r.URL.Path == "/health" || admitToken(w, r, s.options.Token)
}

// Pages lets requests through to h, a handler that serves pages of its own, from the address bar of a browser, from those pages
// and from programs, and from no other page: the Host must be this machine, an Origin that very host. Every request shows the
// token, but for the paths that open says, which tell nothing and change nothing.
func Pages(token string, open func(path string) bool, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		extendWrite(w)
		if !admitHost(w, r) {
			return
		}
		free := open(r.URL.Path) && (r.Method == http.MethodGet || r.Method == http.MethodHead)
		if !isOwn(r) && !(free && r.Header.Get("Sec-Fetch-Mode") == "navigate") { // a link may lead here
			refuse(w, problem(http.StatusForbidden, "", "origin %.100q: want the page of this server, http://%.100s", r.Header.Get("Origin"), r.Host))
			return
		}
		if free || admitToken(w, r, token) {
			h.ServeHTTP(w, r)
		}
	})
}

// admitHost reports whether a request names this machine. If not, it has been refused.
func admitHost(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if isLoopback(hostOf(r.Host)) {
		return true
	}
	refuse(w, problem(http.StatusForbidden, "", "host %.100q: want this machine, 127.0.0.1, [::1] or localhost", r.Host))
	return false
}

// admitToken reports whether a request shows the token. If not, it has been refused.
func admitToken(w http.ResponseWriter, r *http.Request, token string) bool {
	if showsToken(r, token) {
		return true
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	refuse(w, problem(http.StatusUnauthorized, "invalid_api_key", "want the server's token as Authorization: Bearer TOKEN, which clients call their API key"))
	return false
}

// showsToken compares in a time that says nothing of the token.
func showsToken(r *http.Request, token string) bool {
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got, want := sha256.Sum256([]byte(strings.TrimSpace(shown))), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// isOwn reports whether a request comes from no page, or from one of the host that it is sent to.
func isOwn(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "" && site != "none" && site != "same-origin" {
		return false
	}
	for _, origin := range r.Header.Values("Origin") {
		if u, err := url.Parse(origin); err != nil || u.User != nil || !strings.EqualFold(u.Host, r.Host) {
			return false
		}
	}
	return true
}

// isPage reports whether a request comes from a page in a browser: every browser sends an Origin with what is not GET, and newer ones
// say of every request whether another page made it.
func isPage(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return len(r.Header.Values("Origin")) > 0 || site != "" && site != "none" // "none" is the user, at the address bar
}

// ofThisMachine reports whether an Origin is that of a page that this machine serves.
func ofThisMachine(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.User == nil && isLoopback(u.Hostname())
}

// hostOf returns the host of HOST:PORT or HOST, without the brackets of an IPv6 address.
func hostOf(hostPort string) string {
	if host, _, err := net.SplitHostPort(hostPort); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(hostPort, "["), "]")
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}
