package data

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

func TestTexts(t *testing.T) {
	for _, c := range []struct {
		name, file, content string
		want                []string
	}{
		{"plain text", "a.txt", "one\r\ntwo\n", []string{"one\r\ntwo\n"}},
		{"records of every kind", "a.jsonl", `{"text": "<|im_end|>"}
{"prompt": "p", "completion": ""}
{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]}

{"instruction": "i", "input": "x", "output": "o"}
{"question": "why", "answer": "so"}`,
			[]string{"<|im_end|>", "p", "q", "a", "i\n\nx", "o", "why", "so"}},
		{"an array", "a.json", `[{"text": "é"}, {"text": ""}]`, []string{"é"}},
	} {
		var got []string
		for text, err := range Texts(t.Context(), write(t, c.file, c.content)) {
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			got = append(got, text)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: Texts yields %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTextsStopsAtAnError(t *testing.T) {
	for _, c := range []struct {
		file, content, msg string
		texts              int
	}{
		{"a.jsonl", "{\"text\": \"x\"}\n{\"txt\": \"y\"}\n{\"text\": \"z\"}", "line 2: record has the fields", 1},
		{"a.txt", "a\xff", "byte 1 of the line is 0xFF, not UTF-8", 0},
		{"a.txt", "", "file is empty", 0},
		{"a.xlsx", "a,b", ".xlsx is not read", 0},
	} {
		texts, failed := 0, error(nil)
		for _, err := range Texts(t.Context(), write(t, c.file, c.content)) {
			if failed != nil {
				t.Fatalf("%q: Texts goes on behind %v", c.content, failed)
			}
			if failed = err; err == nil {
				texts++
			}
		}
		if failed == nil || !strings.Contains(failed.Error(), c.msg) || texts != c.texts {
			t.Errorf("%q: %d texts and %v, want %d and an error that says %q", c.content, texts, failed, c.texts, c.msg)
		}
	}
	for _, err := range Texts(t.Context(), "none.txt") {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Texts of no file yields %v", err)
		}
	}
}
