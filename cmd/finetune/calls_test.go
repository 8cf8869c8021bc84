//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"finetune/internal/need"
)

var (
	opened   = regexp.MustCompile(`open(?:at)?\((?:[^,]*, )?"([^"]*)", ([A-Z_|]+).* = \d`)
	executed = regexp.MustCompile(`execve\("([^"]*)".* = 0`)
	network  = regexp.MustCompile(`(?:socket|connect|bind|listen|sendto)\(.*`)
)

// What SECURITY.md says of the program's calls of the system: no socket, no program but itself, and no file is written but below
// the folders of the results and for temporary files.
func TestCallsOfTheSystem(t *testing.T) {
	f := newFaults(t)
	strace, err := exec.LookPath("strace")
	if err != nil {
		need.Skip(t, need.App, "no strace")
	}
	if text, err := exec.Command(strace, "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		need.Skip(t, need.App, "strace may not trace here: "+string(text))
	}
	path, err := exec.LookPath("finetune")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(f.dir, "out")
	if err := os.Mkdir(out, 0o777); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(out, name) }
	for _, args := range [][]string{
		f.train(in("run"), "--steps", "3"),
		{"export", "--run", in("run"), "--out", in("adapter.gguf"), "--ollama", "me/model", "--threads", "1"},
		{"merge", "--model", f.base, "--adapter", in("run"), "--out", in("merged.gguf")},
		{"convert", "--from", in("adapter.gguf"), "--to", "peft", "--model", f.base, "--out", in("peft")},
		{"train", "--init-from", in("peft"), "--model", f.base, "--data", f.text, "--out", in("second"), "--ctx", "32", "--steps", "1", "--threads", "1"},
		{"adapter", "rerank", "--in", in("adapter.gguf"), "--rank", "2", "--out", in("small.gguf")},
		{"eval", "--model", f.base, "--adapter", in("run"), "--data", f.text, "--ctx", "32", "--threads", "1"},
		{"run", "--model", f.base, "--prompt", "once", "--n", "2", "--threads", "1"},
		{"data", "preview", "--model", f.base, "--data", f.text},
		{"inspect", in("run")},
		{"models"},
		{"version"},
	} {
		trace := filepath.Join(f.dir, "trace")
		cmd := exec.Command(strace, append([]string{"-f", "-s", "4096", "-e", "trace=open,openat,execve,socket,connect,bind,listen,sendto", "-o", trace, "finetune"}, args...)...)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, text)
		}
		text, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		if calls := network.FindAllString(string(text), -1); len(calls) > 0 {
			t.Errorf("%v: uses the network: %q", args, calls)
		}
		for _, call := range executed.FindAllStringSubmatch(string(text), -1) {
			if program, err := os.Stat(call[1]); err != nil || !os.SameFile(program, self) {
				t.Errorf("%v: starts %q, want no program but itself", args, call[1])
			}
		}
		reads := false
		for _, call := range opened.FindAllStringSubmatch(string(text), -1) {
			path, write := call[1], strings.Contains(call[2], "O_WRONLY") || strings.Contains(call[2], "O_RDWR") || strings.Contains(call[2], "O_CREAT")
			reads = true
			if write && !strings.HasPrefix(path, out+"/") && !strings.HasPrefix(path, f.temp+"/") {
				t.Errorf("%v: writes %q", args, path)
			}
		}
		if !reads {
			t.Errorf("%v: the trace has no file in it: %.300s", args, text)
		}
	}
}
