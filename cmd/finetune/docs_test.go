package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/internal/version"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

var (
	update = flag.Bool("update", false, "write docs/cli anew: make docs")
	man    = flag.String("man", "", "write manual pages to a folder: make man")
)

// pages is where the reference of the commands lies.
const pages = "../../docs/cli"

// documented returns the commands as their reference tells of them.
func documented() *cobra.Command {
	root := newRoot(newUI(new(bytes.Buffer), new(bytes.Buffer)))
	root.DisableAutoGenTag = true // the day would be another each time
	root.InitDefaultCompletionCmd()
	asMarkdown(root)
	return root
}

// asMarkdown makes the long texts Markdown: what is indented is laid out as it is.
func asMarkdown(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		asMarkdown(sub)
	}
	paragraphs := strings.Split(cmd.Long, "\n\n")
	for i, p := range paragraphs {
		if strings.HasPrefix(p, "  ") {
			paragraphs[i] = "```\n" + p + "\n```"
		}
	}
	cmd.Long = strings.Join(paragraphs, "\n\n")
}

// The reference is what --help says, for those who read before they install.
func TestDocsAreUpToDate(t *testing.T) {
	dir := t.TempDir()
	if *update {
		dir = pages
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := doc.GenMarkdownTree(documented(), dir); err != nil {
		t.Fatal(err)
	}
	want, got := contents(t, dir), contents(t, pages)
	for name, text := range want {
		if got[name] != text {
			t.Errorf("docs/cli/%s is not what the commands say: run make docs", name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("docs/cli/%s is of no command: run make docs", name)
		}
	}
}

// contents returns the files of a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}

// Every command has a manual page, with its flags.
func TestManPages(t *testing.T) {
	dir := *man
	if dir == "" {
		dir = t.TempDir()
	}
	header := &doc.GenManHeader{Source: "finetune " + version.Version, Manual: "finetune"}
	if err := doc.GenManTree(documented(), header, dir); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "finetune-train.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`.TH "FINETUNE-TRAIN" "1"`, `\fB--max-memory\fP`, "finetune-train - train an adapter"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("finetune-train.1 has no %q", want)
		}
	}
}
