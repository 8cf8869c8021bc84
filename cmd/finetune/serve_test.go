package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/internal/testrun/trained"
)

// asksRun is a request, and the command that answers the same.
type asksRun struct {
	path, body string
	args       []string
	stdin      string
}

// served starts finetune serve and returns it with what it printed once it listened.
func served(t *testing.T, args ...string) (*exec.Cmd, serveReport, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command("finetune", append([]string{"serve", "--addr", "127.0.0.1:0", "--threads", "1", "--json"}, args...)...)
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	var r serveReport
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatal(err)
	}
	return cmd, r, stderr
}

// 100 requests of 8 clients are answered as run and chat answer the same prompt with the same adapter and seed; then the server stops
// in good order, with code 0.
func TestServeAnswersAsRunAndChatDo(t *testing.T) {
	const requests, clients = 100, 8
	c := testrun.Tiny(t)
	c.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 128, ChatTemplate: testmodel.ChatML})
	c.Method, c.Steps, c.LR = "lora", 20, 5e-2
	trained.Run(t, c)
	cmd, listens, stderr := served(t, "--model", c.Model, "--adapter", "poet="+c.Out)
	if got := strings.Join(listens.Models, " "); got != "model poet" {
		t.Errorf("models %q, want the base by its file and the adapter", got)
	}

	var all []asksRun
	for name, adapter := range map[string][]string{"model": nil, "poet": {"--adapter", c.Out}, "poet:0.5": {"--adapter", c.Out + ":0.5"}} {
		for _, drawn := range []struct{ temp, seed string }{{"0", "1"}, {"0.8", "5"}} {
			common := fmt.Sprintf(`"model": %q, "max_tokens": 12, "temperature": %s, "seed": %s`, name, drawn.temp, drawn.seed)
			args := append([]string{"--model", c.Model, "--n", "12", "--temp", drawn.temp, "--seed", drawn.seed, "--threads", "1", "--json"}, adapter...)
			all = append(all, asksRun{"/completions", `{"prompt": "once upon a time", ` + common + `}`, append([]string{"run", "--prompt", "once upon a time"}, args...), ""},
				asksRun{"/chat/completions", `{"messages": [{"role": "user", "content": "who is she"}], ` + common + `}`, append([]string{"chat"}, args...), "who is she\n"})
		}
	}
	want := make([]string, len(all))
	for i, a := range all {
		command := exec.Command("finetune", a.args...)
		command.Stdin = strings.NewReader(a.stdin)
		out, err := command.Output()
		var r runReport
		if json.Unmarshal(out, &r) != nil || r.Text == "" {
			t.Fatalf("%v: %v, %s", a.args, err, out)
		}
		want[i] = r.Text
	}

	var done sync.WaitGroup
	for client := range clients {
		done.Go(func() {
			for i := client; i < requests; i += clients {
				a := all[i%len(all)]
				if got, err := answerOf(listens.URL+a.path, a.body); err != nil || got != want[i%len(all)] {
					t.Errorf("%s: %q, %v, want %q as %v", a.body, got, err, want[i%len(all)], a.args)
				}
			}
		})
	}
	done.Wait()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server ends with %v", err)
	}
	if got := stderr.String(); got != "finetune: stopping in good order, a second Ctrl-C stops at once\n" {
		t.Errorf("the server says %q", got)
	}
}

// answerOf asks and returns the text of the answer.
func answerOf(url, body string) (string, error) {
	client := http.Client{Timeout: time.Minute}
	got, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		return "", err
	}
	var o struct {
		Choices []struct {
			Text    string
			Message struct{ Content string }
		}
	}
	if err := json.Unmarshal(text, &o); err != nil || len(o.Choices) != 1 {
		return "", fmt.Errorf("%s: %v", text, err)
	}
	return o.Choices[0].Text + o.Choices[0].Message.Content, nil
}

func TestParseNamed(t *testing.T) {
	for spec, want := range map[string]string{
		"poet=run": "poet run 1", "poet=a.gguf:0.5": "poet a.gguf 0.5", "dir/poet.gguf": "poet dir/poet.gguf 1", "runs/a/:2": "a runs/a/ 2",
		"dir=x/poet.gguf": "dir x/poet.gguf 1", "./dir=x/poet.gguf": "poet ./dir=x/poet.gguf 1", "poet=": "error", "": "error", "a=b:1e9": "error",
	} {
		name, s, err := parseNamed(spec)
		got := fmt.Sprintf("%s %s %g", name, s.path, s.scale)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("parseNamed(%q) = %s, want %s", spec, got, want)
		}
	}
}
