package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/internal/hint"
	"finetune/internal/setting"
	"finetune/trainer"
)

// testUI returns a ui and its two streams.
func testUI() (u *ui, stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	return newUI(stdout, stderr), stdout, stderr
}

func TestMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "such.gguf")
	_, notThere := os.Open(path)
	for _, tt := range []struct {
		name string
		tell func(*ui)
		want string
	}{
		{"plain", func(u *ui) { u.say("step %d", 3) }, "finetune: step 3\n"},
		{"warning", func(u *ui) { u.warn("slow build") }, "finetune: warning: slow build\n"},
		{"warning with hint", func(u *ui) { u.warn("slow build", "make build") }, "finetune: warning: slow build\nfinetune: hint: make build\n"},
		{"the same warning twice", func(u *ui) { u.warn("slow", "a"); u.warn("slow", "a"); u.warn("other") }, "finetune: warning: slow\nfinetune: hint: a\nfinetune: warning: other\n"},
		{"error", func(u *ui) { u.fail(errors.New("gguf: bad magic")) }, "finetune: gguf: bad magic\n"},
		{"error with hints", func(u *ui) { u.fail(fmt.Errorf("outer: %w", hint.With(fs.ErrExist, "one", "two"))) },
			"finetune: outer: file already exists\nfinetune: hint: one\nfinetune: hint: two\n"},
		{"error of the file system", func(u *ui) { u.fail(notThere) }, fmt.Sprintf("finetune: %q: no such file or directory\n", path)},
		{"wrapped error of the file system", func(u *ui) { u.fail(fmt.Errorf("trainer: %w", notThere)) }, "finetune: trainer: open " + path + ": no such file or directory\n"},
		{"joined errors stay on a line", func(u *ui) { u.fail(errors.Join(fs.ErrExist, fs.ErrClosed)) }, "finetune: file already exists; file already closed\n"},
	} {
		u, stdout, stderr := testUI()
		tt.tell(u)
		if stderr.String() != tt.want || stdout.Len() != 0 {
			t.Errorf("%s: stderr = %q, stdout = %q, want %q and nothing", tt.name, stderr, stdout, tt.want)
		}
	}
}

func TestPrintJSONIsOneLineAtOnce(t *testing.T) {
	u, stdout, stderr := testUI()
	if err := u.printJSON(map[string]string{"a": "x\ny"}); err != nil {
		t.Fatal(err)
	}
	if got, want := stdout.String(), `{"a":"x\ny"}`+"\n"; got != want || stderr.Len() != 0 {
		t.Errorf("stdout = %q, stderr = %q, want %q and nothing", got, stderr, want)
	}
}

func TestExitCode(t *testing.T) {
	background := context.Background()
	stopped := func(by *stopRequest) context.Context {
		ctx, cancel := context.WithCancelCause(background)
		cancel(by)
		return ctx
	}
	cancelled := stopped(stopInterrupt)
	for _, tt := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
	}{
		{"done", background, nil, 0},
		{"done in spite of Ctrl-C", cancelled, nil, 0},
		{"failed", background, fs.ErrNotExist, 1},
		{"failed while stopping", cancelled, fs.ErrNotExist, 1},
		{"wrong command line", background, hint.With(&usageError{"no command given"}, "try"), 2},
		{"wrong setting", background, fmt.Errorf("run.yaml: %w", &setting.Error{Key: "rank"}), 2},
		{"interrupted training", cancelled, fmt.Errorf("trainer: %w after step 3", trainer.ErrInterrupted), 130},
		{"interrupted before it", cancelled, context.Canceled, 130},
		{"a closed terminal", stopped(stopHangup), fmt.Errorf("trainer: %w after step 3", trainer.ErrInterrupted), 129},
		{"a closed pipe", stopped(stopPipe), fmt.Errorf("trainer: %w after step 3", trainer.ErrInterrupted), 141},
		{"a cancellation nobody asked for", background, context.Canceled, 1},
	} {
		if got := exitCode(tt.ctx, tt.err); got != tt.want {
			t.Errorf("%s: exitCode(%v) = %d, want %d", tt.name, tt.err, got, tt.want)
		}
	}
}

func TestRunReportsResultsThatCannotBeWritten(t *testing.T) {
	var stderr bytes.Buffer
	if got := execute([]string{"version"}, strings.NewReader(""), brokenPipe{}, &stderr); got != exitFailed {
		t.Errorf("run = %d, want %d", got, exitFailed)
	}
	if !strings.HasSuffix(stderr.String(), "finetune: io: read/write on closed pipe\n") {
		t.Errorf("stderr = %q, want the error of the write", stderr.String())
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestLineLogJoinsPieces(t *testing.T) {
	var got []string
	log := &lineLog{say: func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }}
	for _, piece := range []string{"load", "ing ", "model\n", "\n", "a\nb\nc", "", "\n", "unfinished"} {
		log.add(piece)
	}
	want := "llama.cpp: loading model|llama.cpp: a|llama.cpp: b|llama.cpp: c"
	if strings.Join(got, "|") != want {
		t.Errorf("lines = %q, want %q", strings.Join(got, "|"), want)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 292800: "292,800", -1234567: "-1,234,567", -100: "-100"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %q, want %q", n, got, want)
		}
	}
}
