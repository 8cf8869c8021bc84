// Package llamachat asks llama.cpp's own chat code what it makes of a template, and what it reads in an answer, for tests:
// see chat/testdata/llama.
package llamachat

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"finetune/internal/need"
)

// Oracle is llama.cpp's own chat code, see testdata/llama.
type Oracle struct {
	t         *testing.T
	in        *json.Encoder
	out       *bufio.Reader
	Templates []string // paths of those that come with llama.cpp
}

// New starts it, or skips the test where it is not built.
func New(t *testing.T) *Oracle {
	t.Helper()
	where, err := exec.Command("bash", need.Own(t, "third_party/llama.sh"), "chat", "where").Output()
	folder := strings.TrimSpace(string(where))
	if _, e := os.Stat(filepath.Join(folder, "oracle")); err != nil || e != nil {
		need.Skip(t, need.App, "llama.cpp's chat code is not built: make test-chat")
	}
	cmd := exec.Command(filepath.Join(folder, "oracle"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	o := &Oracle{t: t, in: json.NewEncoder(in), out: bufio.NewReader(out)}
	if o.Templates, err = filepath.Glob(filepath.Join(folder, "templates", "*.jinja")); err != nil || len(o.Templates) == 0 {
		t.Fatalf("no templates in %q: %v", folder, err)
	}
	return o
}

// Reply is what the oracle says to a question.
type Reply struct {
	Text    string
	Caps    map[string]bool
	Message json.RawMessage
	Error   string
}

// Ask puts a question, see oracle.cpp for their forms.
func (o *Oracle) Ask(question map[string]any) (r Reply) {
	o.t.Helper()
	if err := o.in.Encode(question); err != nil {
		o.t.Fatal(err)
	}
	line, err := o.out.ReadBytes('\n')
	if err != nil {
		o.t.Fatalf("the oracle ended: %v", err)
	}
	if err := json.Unmarshal(line, &r); err != nil {
		o.t.Fatal(err)
	}
	return r
}
