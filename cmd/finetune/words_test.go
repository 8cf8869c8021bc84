package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "''",
		"run/adapter-1.5.gguf": "run/adapter-1.5.gguf",
		"a:0.5,b=C@%+_":        "a:0.5,b=C@%+_",
		"two words":            "'two words'",
		"$HOME":                "'$HOME'",
		"it's":                 `'it'\''s'`,
		"über":                 "'über'",
		"~/x":                  "'~/x'",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", in, got, want)
		}
	}
}

// What files and templates say reaches the terminal as text, whatever is in it, and on one line that ends.
func TestAsText(t *testing.T) {
	for text, want := range map[string]string{
		"model \"a.gguf\": loss 1.5 → 2, ‖ΔW‖":       "model \"a.gguf\": loss 1.5 → 2, ‖ΔW‖",
		"\x1b]0;owned\a\x1b[2Jgone\r\nnext\u202etxt": `\x1b]0;owned\a\x1b[2Jgone\r\nnext\u202etxt`,
		"\u009b31m\x7f\xff":                          `\u009b31m\x7f�`,
		strings.Repeat("é", 5000):                    strings.Repeat("é", maxLine) + " …",
	} {
		if got := asText(text); got != want {
			t.Errorf("asText(%.40q…) = %.80q, want %.80q", text, got, want)
		}
	}
}

func TestSystemHints(t *testing.T) {
	missing := &fs.PathError{Op: "open", Path: "base.gguf", Err: syscall.ENOENT}
	for _, tt := range []struct {
		err  error
		args []string
		want string // part of the hint, "" for none
	}{
		{fmt.Errorf("trainer: %w", missing), []string{"finetune", "train", "--resume", "--out", "run"}, "start at the folder"},
		{missing, []string{"finetune", "eval", "--model=base.gguf"}, "finetune models lists"},
		{&fs.PathError{Op: "open", Path: "/base.gguf", Err: syscall.ENOENT}, nil, ""},
		{&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, nil, "the disk is full"},
		{&fs.PathError{Op: "write", Path: "x", Err: syscall.EFBIG}, nil, "no larger here"},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}, nil, "ulimit -n"},
		{errors.New("other"), nil, ""},
	} {
		got := strings.Join(systemHints(tt.err, tt.args), " ")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("hints of %v for %q = %q, want %q in them", tt.err, tt.args, got, tt.want)
		}
	}
}
