package page

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"finetune/run"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/systeminfo"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Bounds for what is mended when it is exceeded. What is wanted is a second and 2 % of a core, which the test prints beside what it
// finds; a machine that does ten other things at the same time takes ten times as long, but hardly more of its processors' time.
const (
	mostToDraw = 30 * time.Second
	mostWork   = 2 * time.Second // of the browser's processes, until the curves are there
	mostShare  = 0.10
)

// A log of 10,000 steps is on the screen soon, and a page that watches it grow takes next to nothing.
func TestPageDrawsTenThousandSteps(t *testing.T) {
	const steps = 10000
	folder := madeRun(t, "long", steps, "text")
	p := started(t, "ui", folder)
	b := opened(t)
	empty := b.processorTime()
	b.do(chromedp.Navigate(p.url))
	b.wait(`performance.getEntriesByName('drawn').length > 0`)
	took := time.Duration(value[float64](b, `performance.getEntriesByName('drawn')[0].startTime`) * float64(time.Millisecond))
	work := b.processorTime() - empty
	t.Logf("a log of %d steps is drawn %v after the address was entered, with %v of the browser's processor time", steps, took.Round(time.Millisecond), work.Round(time.Millisecond))
	if took > mostToDraw || work > mostWork {
		t.Errorf("a log of %d steps took %v and %v of processor time, want at most %v and %v", steps, took, work, mostToDraw, mostWork)
	}
	if got := value[int](b, `page.runs.get(0).steps.loss.length`); got != steps {
		t.Errorf("the page has %d steps, want %d", got, steps)
	}
	inked := value[int](b, `(() => { const c = plots.loss.canvas, d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
		let columns = new Set(); for (let i = 3; i < d.length; i += 4) if (d[i]) columns.add((i >> 2) % c.width); return columns.size })()`)
	if width := value[int](b, `plots.loss.canvas.width`); inked < width/2 {
		t.Errorf("the curve of the loss has ink in %d of %d columns of pixels", inked, width)
	}
	b.do(chromedp.SendKeys("#plots canvas[tabindex]", kb.ArrowLeft)) // by the keyboard alone
	b.wait(`cursor.step !== null && document.querySelector('.readout').textContent.includes('long')`)
	if label := value[string](b, `plots.loss.canvas.getAttribute('aria-label')`); !strings.Contains(label, "Training loss nats a token: long from") {
		t.Errorf("who does not see the curve hears %q", label)
	}
	b.shot("long")

	log, err := os.OpenFile(filepath.Join(folder, "long", run.LogFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	const watched, every = 20 * time.Second, 500 * time.Millisecond
	before, began := b.processorTime(), time.Now()
	for i := 1; time.Since(began) < watched; i++ {
		line, err := json.Marshal(stepLine(steps+i, 2*steps))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := log.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
		time.Sleep(every)
	}
	share := (b.processorTime() - before).Seconds() / time.Since(began).Seconds()
	t.Logf("while a step comes every %v, all processes of the browser take %.1f %% of a core", every, 100*share)
	if share > mostShare {
		t.Errorf("the page takes %.1f %% of a core, want at most %.0f %%", 100*share, 100*mostShare)
	}
	if got := value[int](b, `page.runs.get(0).step`); got <= steps {
		t.Errorf("the page is at step %d and has seen nothing come", got)
	}
	b.check(p.origin)
}

// processorTime is what all processes of the browser have taken so far.
func (b *browser) processorTime() time.Duration {
	b.t.Helper()
	r, err := chromedp.CallBrowser(b.ctx, systeminfo.GetProcessInfo, cdp.Empty{})
	if err != nil {
		b.t.Fatal(err)
	}
	var sum float64
	for _, p := range r.ProcessInfo {
		sum += p.CPUTime
	}
	return time.Duration(sum * float64(time.Second))
}

// hostile is a text that does what a page must not let it do, if it ever becomes markup or script.
const hostile = `</script></style><img src="http://192.0.2.1/x" onerror="window.hacked=1"><script>window.hacked=1</script><b>`

// Texts of a run, its name among them, stay texts, on the page and in a report, which asks for nothing at all.
func TestTextsStayTexts(t *testing.T) {
	name := `<img src=x onerror="window.hacked=1">`
	folder := madeRun(t, name, 30, hostile)
	p := started(t, "ui", folder)
	b := opened(t)
	look := func(tabs ...string) {
		t.Helper()
		for _, tab := range tabs {
			b.do(chromedp.Click(chromedp.ID("tab-" + tab)))
			if !value[bool](b, fmt.Sprintf(`byID('panel').textContent.includes(%q)`, hostile)) {
				t.Errorf("%s does not show the text: %s", tab, value[string](b, `byID('panel').textContent`))
			}
		}
		if value[bool](b, `window.hacked !== undefined || document.querySelector('img, b:not(figcaption b), a, iframe, main script') !== null`) {
			t.Errorf("a text has become markup: %s", value[string](b, `document.body.innerHTML`))
		}
		if got := value[string](b, `byID('one-title').textContent`); got != name {
			t.Errorf("the run is called %q, want %q", got, name)
		}
	}
	b.do(chromedp.Navigate(p.url))
	b.wait(`page.runs.size === 1 && page.runs.get(0).details !== null`)
	look("Samples", "Data", "Settings", "Export")
	b.shot("hostile")
	b.check(p.origin)

	file := filepath.Join(t.TempDir(), "report.html")
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command(path, "ui", folder, "--report", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	b.forget()
	b.do(chromedp.Navigate((&url.URL{Scheme: "file", Path: file}).String()))
	b.wait(`page.runs.size === 1`)
	look("Samples", "Data", "Settings", "Export")
	b.shot("report")
	b.check("file://" + file)
	if len(b.asked) != 1 {
		t.Errorf("the report asks for %q, want itself only", b.asked)
	}
}

// Without the token nothing is told; a page elsewhere gets nothing even with it.
func TestPageNeedsItsToken(t *testing.T) {
	p := started(t, "ui", madeRun(t, "run", 3, "a text of the run"))
	b := opened(t)
	b.do(chromedp.Navigate(p.origin + "#wrong"))
	b.wait(`byID('status').textContent.includes('lacks its token')`)
	if value[bool](b, `document.body.textContent.includes('a text of the run') || page.runs.size > 0`) {
		t.Error("without the token the page shows the run")
	}
	_, token, _ := strings.Cut(p.url, "#")
	b.do(chromedp.Navigate("about:blank"))
	got := value[string](b, fmt.Sprintf(`fetch(%q, {headers: {Authorization: 'Bearer ' + %q}}).then(r => r.text(), e => 'refused')`, p.origin+"api/state", token))
	if got != "refused" {
		t.Errorf("a page elsewhere reads %q", got)
	}
}
