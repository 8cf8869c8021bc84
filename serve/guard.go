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
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if !isLoopback(hostOf(r.Host)) {
		refuse(w, problem(http.StatusForbidden, "", "host %.100q: want this machine, 127.0.0.1, [::1] or localhost", r.Host))
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
	if s.options.Token != "" && r.URL.Path != "/health" && !s.showsToken(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, problem(http.StatusUnauthorized, "invalid_api_key", "want the server's token as Authorization: Bearer TOKEN, which clients call their API key"))
		return false
	}
	return true
}

// showsToken compares in a time that says nothing of the token.
func (s *Server) showsToken(r *http.Request) bool {
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got, want := sha256.Sum256([]byte(strings.TrimSpace(shown))), sha256.Sum256([]byte(s.options.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer")
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
