package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"finetune/internal/hint"
	"finetune/internal/version"

	"github.com/hashicorp/go-cleanhttp"
	"github.com/hashicorp/go-retryablehttp"
)

// hub is a client of the Hugging Face hub's two addresses that are needed:
//
//	GET /api/models/OWNER/REPO/tree/REVISION?recursive=true   the files, with size and SHA-256
//	GET /OWNER/REPO/resolve/REVISION/FILE                     one of them, by a redirect to another host
type hub struct {
	store  *Store
	client *retryablehttp.Client
}

// waits are how long is waited.
type waits struct {
	least, most time.Duration // between attempts
	stall       time.Duration // for the next bytes of a file
}

// forPeople are the waits where nothing else is said.
var forPeople = waits{least: time.Second, most: 20 * time.Second, stall: time.Minute}

const (
	retries      = 4        // of a request; and of a download that gets nothing more
	mostPages    = 64       // of a listing
	mostListing  = 32 << 20 // bytes of a page
	headerWait   = time.Minute
	mostRedirect = 5
)

func newHub(s *Store) *hub {
	if s.waits == (waits{}) {
		withWaits := *s
		withWaits.waits = forPeople
		s = &withWaits
	}
	transport := cleanhttp.DefaultPooledTransport()
	transport.ResponseHeaderTimeout = headerWait
	transport.DisableCompression = true // a file's bytes are wanted as they are
	c := retryablehttp.NewClient()
	c.Logger = nil
	c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = retries, s.waits.least, s.waits.most
	c.ErrorHandler = retryablehttp.PassthroughErrorHandler
	c.CheckRetry = worthAnother
	c.HTTPClient = &http.Client{Transport: authorized{transport, s}, CheckRedirect: checkRedirect}
	return &hub{s, c}
}

// worthAnother decides whether a request is made again: not where there is no network, which people want to hear of at once.
func worthAnother(ctx context.Context, resp *http.Response, err error) (bool, error) {
	var dns *net.DNSError
	var op *net.OpError
	if errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial" || errors.Is(err, errRedirect) {
		return false, nil
	}
	return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
}

// authorized adds the token to requests to the endpoint itself. It is not in the request that http.Client copies to where a
// redirect leads, so no other host can get it.
type authorized struct {
	http.RoundTripper
	store *Store
}

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	home, err := url.Parse(a.store.Endpoint)
	if err == nil && a.store.Token != "" && r.URL.Scheme == home.Scheme && r.URL.Host == home.Host && safe(r.URL) {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+a.store.Token)
	}
	return a.RoundTripper.RoundTrip(r)
}

// safe reports whether nobody on the way can read what is sent to an address.
func safe(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

var errRedirect = errors.New("want no redirect")

// checkRedirect refuses to be sent in circles, and from a protected connection to one that is not.
func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) > mostRedirect {
		return fmt.Errorf("%w behind %d others", errRedirect, mostRedirect)
	}
	if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
		return fmt.Errorf("%w from https to %s", errRedirect, r.URL.Scheme)
	}
	return nil
}

// remote is a file on the hub, as the listing has it.
type remote struct {
	repository        // with its file
	size       int64  // bytes
	sha256     string // hexadecimal
}

// entry is a line of a listing. Files of a repository's large storage have their SHA-256 in lfs.
type entry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"lfs"`
}

// list returns the GGUF files of a repository by their paths. Those without a SHA-256, and those whose path is not fit to be
// one here, are left out.
func (h *hub) list(ctx context.Context, r repository) (map[string]remote, error) {
	files := map[string]remote{}
	next := fmt.Sprintf("%s/api/models/%s/%s/tree/%s?recursive=true", h.store.Endpoint, r.owner, r.repo, r.branch())
	for page := 0; next != ""; page++ {
		if page == mostPages {
			return nil, fmt.Errorf("models: %q: its listing has more than %d pages", r.at(), mostPages)
		}
		var entries []entry
		resp, err := h.get(ctx, r, next, nil)
		if err != nil {
			return nil, err
		}
		body := &io.LimitedReader{R: resp.Body, N: mostListing}
		err = json.NewDecoder(body).Decode(&entries)
		resp.Body.Close()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case body.N <= 0:
			return nil, fmt.Errorf("models: %q: a page of its listing has more than %d bytes", r.at(), mostListing)
		case err != nil:
			return nil, fmt.Errorf("models: %q: want a listing in JSON from %s: %w", r.at(), h.host(), err)
		}
		for _, e := range entries {
			if e.Type == "file" && isFile(e.Path) && e.LFS != nil && isSHA256(e.LFS.OID) && e.LFS.Size > 0 {
				f := remote{r, e.LFS.Size, e.LFS.OID}
				f.file = e.Path
				files[e.Path] = f
			}
		}
		next = h.nextPage(resp.Header.Values("Link"))
	}
	return files, nil
}

var nextLink = regexp.MustCompile(`<([^<>]*)>\s*;[^,]*rel="?next"?`)

// nextPage returns the address of a listing's next page, which is at the endpoint or nowhere.
func (h *hub) nextPage(links []string) string {
	m := nextLink.FindStringSubmatch(strings.Join(links, ", "))
	if m == nil {
		return ""
	}
	home, err := url.Parse(h.store.Endpoint)
	if err != nil {
		return ""
	}
	next, err := home.Parse(m[1])
	if err != nil || next.Host != home.Host || next.Scheme != home.Scheme {
		return ""
	}
	return next.String()
}

// host returns the endpoint's host, for messages.
func (h *hub) host() string {
	if u, err := url.Parse(h.store.Endpoint); err == nil && u.Host != "" {
		return u.Host
	}
	return h.store.Endpoint
}

// get asks for an address, and again where that is worth it. The answer has one of the codes of success, or 416.
func (h *hub) get(ctx context.Context, r repository, address string, header http.Header) (*http.Response, error) {
	if h.store.Offline != "" {
		return nil, &lasting{hint.With(fmt.Errorf("models: %q: not in any cache, and %s", r.String(), h.store.Offline), "finetune models lists what there is")}
	}
	if u, err := url.Parse(h.store.Endpoint); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, &lasting{fmt.Errorf("models: HF_ENDPOINT: want an address such as %s, got %q", endpoint, h.store.Endpoint)}
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		req.Header[key] = values
	}
	req.Header.Set("User-Agent", "finetune/"+version.Version)
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, h.unreachable(ctx, r, err)
	}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return resp, nil
	}
	resp.Body.Close()
	return nil, &lasting{h.refused(r, resp.StatusCode)}
}

// unreachable says in a line that the network did not do. Addresses, which may carry signatures, are left out.
func (h *hub) unreachable(ctx context.Context, r repository, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	host, cause := h.host(), err
	if at := (*url.Error)(nil); errors.As(err, &at) {
		if u, bad := url.Parse(at.URL); bad == nil && u.Host != "" {
			host = u.Host
		}
		cause = at.Err
	}
	if dns := (*net.DNSError)(nil); errors.As(cause, &dns) {
		cause = errors.New(dns.Err)
	}
	if op := (*net.OpError)(nil); errors.As(cause, &op) {
		cause = op.Err
	}
	return hint.With(fmt.Errorf("models: %q: cannot reach %s: %w", r.String(), host, cause),
		"is the network there? HTTPS_PROXY names a proxy, HF_ENDPOINT a mirror; finetune models lists what is here already")
}

// refused says what a code means.
func (h *hub) refused(r repository, code int) error {
	token := "HF_TOKEN in the environment is a token of an account that may"
	if h.store.Token != "" {
		token = "HF_TOKEN is set: is it of an account that may?"
	}
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return hint.With(fmt.Errorf("models: %q: %s refuses it: there is none, or not everybody may read it", r.String(), h.host()), token)
	case http.StatusNotFound:
		return hint.With(fmt.Errorf("models: %q: %s has none", r.String(), h.host()), "is the name spelt right? "+token+" read a private one")
	}
	return fmt.Errorf("models: %q: %s answers %d %s", r.String(), h.host(), code, strings.ToLower(http.StatusText(code)))
}

// withLocal adds to an error what is in the caches of a repository that could not be listed.
func (s *Store) withLocal(err error, r repository) error {
	for _, f := range s.foldersOf(r) {
		if all := variantsOf(f.files()); len(all) > 0 && f.dir != "" {
			return hint.With(err, "in the caches "+listed(r, all))
		}
	}
	return err
}
