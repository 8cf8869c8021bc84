package page

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/internal/testrun/trained"
	"finetune/run"

	"github.com/chromedp/chromedp"
)

// A page opened on a run grows with it, still has all of it after a reload, and its button stops the run as Ctrl-C does: with a
// checkpoint, from which it can be resumed.
func TestPageFollowsARunAndStopsIt(t *testing.T) {
	b := opened(t)
	c := testrun.Tiny(t)
	p := started(t, "train", "--model", c.Model, "--data", c.Data, "--out", c.Out, "--ctx", "16", "--batch", "2", "--rank", "4", "--steps", "1000000",
		"--eval-every", "50", "--samples", "2", "--threads", "1", "--ui", "127.0.0.1:0")
	b.do(chromedp.Navigate(p.url))
	b.wait(`page.runs.size === 1 && page.runs.get(0).step > 3`)
	first := value[int](b, `page.runs.get(0).step`)
	b.wait(fmt.Sprintf(`page.runs.get(0).step > %d && page.runs.get(0).evals.length > 1`, first))
	b.shot("live")
	b.do(chromedp.Reload())
	b.wait(fmt.Sprintf(`page.runs.get(0)?.step > %d`, first))
	if got := value[int](b, `page.runs.get(0).steps.step[0]`); got != 1 {
		t.Errorf("after a reload the curves begin at step %d, want 1", got)
	}
	b.wait(`byID('status').textContent.includes('of 1,000,000')`)
	b.do(chromedp.Click(chromedp.ID("stop")))
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	select {
	case err := <-ended:
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 130 {
			t.Errorf("the run ends with %v, want exit code 130: %s", err, p.text())
		}
	case <-time.After(patience):
		t.Fatalf("the run goes on: %s", p.text())
	}
	if said := p.text(); !strings.Contains(said, "stopping in good order, as the page asks") || !strings.Contains(said, "--resume continues where it stopped") {
		t.Errorf("the run says %s", said)
	}
	if steps, err := run.ListCheckpoints(c.Out); err != nil || len(steps) == 0 {
		t.Errorf("checkpoints %v, %v, want one", steps, err)
	}
	b.wait(`byID('status').textContent.includes('the program has ended')`)
	if value[bool](b, `!byID('stop').hidden`) {
		t.Error("the button to stop is there although nothing goes on")
	}
	b.check(p.origin, "ERR_CONNECTION_REFUSED", "Failed to fetch")
}

// What a run has made answers beside its base, in conversations, and the page of several runs has them side by side.
func TestPageTalksToARun(t *testing.T) {
	b := opened(t)
	c := testrun.Tiny(t)
	c.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 128, ChatTemplate: testmodel.ChatML})
	c.Method, c.Steps, c.LR = "lora", 20, 5e-2
	folder := t.TempDir()
	for _, name := range []string{"one", "two"} {
		c.Out = folder + "/" + name
		trained.Run(t, c)
		c.Rank = 2
	}
	p := started(t, "ui", folder, "--threads", "1")
	b.do(chromedp.Navigate(p.url))
	b.wait(`page.runs.size === 2 && [...page.runs.values()].every(r => r.done && r.details)`)
	b.do(chromedp.Click(chromedp.ID("tab-Settings")))
	if got := value[string](b, `[...document.querySelectorAll('#panel tbody tr')].map(tr => tr.firstChild.textContent).join(' ')`); !strings.Contains(got, "out rank") && !strings.Contains(got, "rank") || strings.Contains(got, "batch") {
		t.Errorf("settings that differ: %q, want the rank and not the batch", got)
	}
	b.do(chromedp.Click(chromedp.ID("tab-Export")))
	if err := run.AddExport(folder+"/"+value[string](b, `page.chosen.name`), map[string]any{"file": "later.gguf", "retention": 0.5}); err != nil {
		t.Fatal(err)
	}
	b.wait(`byID('panel').textContent.includes('later.gguf') && byID('runs').textContent.includes('50.0 %')`)
	b.do(chromedp.Click(chromedp.ID("tab-Adapter")), chromedp.Click("#panel button"))
	b.wait(`document.querySelectorAll('#panel tbody tr').length > 3`)
	b.do(chromedp.Click(chromedp.ID("tab-Chat")), chromedp.Click("#panel button"))
	b.wait(`document.getElementById('question') !== null`)
	b.do(chromedp.SendKeys(chromedp.ID("question"), "who is she\r"))
	b.wait(`page.talks.get(page.chosen).history.adapter.length === 2 && page.talks.get(page.chosen).history.base.length === 2`)
	answers := value[[]string](b, `[...document.querySelectorAll('.answers .text')].map(e => e.textContent)`)
	if len(answers) != 2 || answers[0] == "" || answers[1] == "" || answers[0] == answers[1] {
		t.Errorf("answers %q, want two that differ", answers)
	}
	b.shot("chat")
	b.check(p.origin)
}
