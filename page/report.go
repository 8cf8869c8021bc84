package page

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrNoRun is that folders hold no run.
var ErrNoRun = errors.New("no run in it")

// reported is the data of a report.
type reported struct {
	Made time.Time     `json:"made"`
	Runs []reportedRun `json:"runs"`
}

type reportedRun struct {
	ID      int      `json:"id"`
	Name    string   `json:"name"`
	Log     *chunk   `json:"log"`
	Details *details `json:"details"`
}

// Report writes the page for the runs in folders, with all that it shows, as one HTML file that loads and asks for nothing. It
// holds the settings, samples and the beginning of the data, and no token. Without a run the error is ErrNoRun by errors.Is.
func Report(w io.Writer, folders []string) error {
	all := newRuns(folders, nil).list()
	if len(all) == 0 {
		return fmt.Errorf("%q: %w", folders, ErrNoRun)
	}
	return writeReport(w, all, time.Now())
}

func writeReport(w io.Writer, all []run, made time.Time) error {
	r := reported{Made: made.UTC().Truncate(time.Second)}
	for _, of := range all {
		log, err := readLog(of.logFile(), 0, mostReported)
		if err != nil {
			return err
		}
		d := detailsOf(of)
		if log.More {
			d.Notes = append(d.Notes, fmt.Sprintf("the log has more than %d bytes, of which this report has the first", mostReported))
		}
		r.Runs = append(r.Runs, reportedRun{of.ID, of.Name, log, d})
	}
	data, err := json.Marshal(r) // with <, > and & escaped: nothing in it ends the element that holds it
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	style, script := assets["/style.css"].body, assets["/page.js"].body
	page := assets["/"].body
	for _, put := range []struct {
		place string
		text  []byte
	}{
		{`<link rel="stylesheet" href="/style.css">`, wrapped(`<style>`, style, `</style>`)},
		{`<script src="/page.js" defer></script>`, nil},
		{`<meta name="policy">`, fmt.Appendf(nil, `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src '%s'; style-src '%s'; img-src data:; base-uri 'none'; form-action 'none'">`, hashOf(script), hashOf(style))},
		{`</body>`, append(wrapped(`<script type="application/json" id="report">`, data, `</script>`+"\n"), wrapped(`<script>`, script, `</script>`+"\n</body>")...)},
	} {
		before, after, ok := bytes.Cut(page, []byte(put.place))
		if !ok {
			panic("page: internal error: the page has no " + put.place)
		}
		page = bytes.Join([][]byte{before, put.text, after}, nil)
	}
	_, err = w.Write(page)
	return err
}

// mostReported is how much of a log a report takes, in bytes: some 800,000 steps.
const mostReported = 256 << 20

func wrapped(open string, text []byte, shut string) []byte {
	return bytes.Join([][]byte{[]byte(open), text, []byte(shut)}, nil)
}

// hashOf returns what a policy allows an inline script or style by.
func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
