package chat_test

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

// oracle is llama.cpp's own chat code, see testdata/llama.
type oracle struct {
	t         *testing.T
	folder    string
	in        *json.Encoder
	out       *bufio.Reader
	templates []string // paths of those that come with llama.cpp
}

// newOracle starts it, or skips the test where it is not built.
func newOracle(t *testing.T) *oracle {
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
	o := &oracle{t: t, folder: folder, in: json.NewEncoder(in), out: bufio.NewReader(out)}
	if o.templates, err = filepath.Glob(filepath.Join(folder, "templates", "*.jinja")); err != nil || len(o.templates) == 0 {
		t.Fatalf("no templates in %q: %v", folder, err)
	}
	return o
}

// reply is what the oracle says to a question.
type reply struct {
	Text    string
	Caps    map[string]bool
	Message json.RawMessage
	Error   string
}

func (o *oracle) ask(question map[string]any) (r reply) {
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
