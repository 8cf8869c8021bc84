package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// record is one line of the corpus: a text, or a question and its answer as a chat.
type record struct {
	Text     string    `json:"text,omitempty"`
	Messages []message `json:"messages,omitempty"`
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func chat(question, answer string) record {
	return record{Messages: []message{{"user", question}, {"assistant", answer}}}
}

// sources are the texts, each of a licence that lets a model learned from it be shipped: MIT (GSM8K, PubMedQA), Apache-2.0
// (OpenBookQA) and the public domain (Shakespeare).
var sources = []struct {
	file string
	read func([]byte) ([]record, error)
}{
	{"instruct/gsm8k-train.jsonl", sums},
	{"instruct/biomedqa-train.jsonl", medicine},
	{"tasks/openbookqa-train.json", facts},
	{"text/tinyshakespeare.txt", plays},
}

// heldOut is one record in so many, for validation.
const heldOut = 25

// corpus writes the records of all sources to train.jsonl and, every heldOut-th, to val.jsonl.
func corpus(data, work string) error {
	var train, val bytes.Buffer
	for _, s := range sources {
		raw, err := os.ReadFile(filepath.Join(data, s.file))
		if err != nil {
			return err
		}
		records, err := s.read(raw)
		if err != nil {
			return fmt.Errorf("%q: %w", s.file, err)
		}
		for i, r := range records {
			to := &train
			if i/2%heldOut == heldOut-1 { // by twos: a question and its chat stay together
				to = &val
			}
			if err := json.NewEncoder(to).Encode(r); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(work, 0o777); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(work, "train.jsonl"), train.Bytes(), 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(work, "val.jsonl"), val.Bytes(), 0o666)
}

// lines decodes a JSON Lines file.
func lines[T any](raw []byte) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for line := range bytes.Lines(raw) {
			var v T
			if err := json.Unmarshal(line, &v); !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// calculation is what GSM8K puts behind a sum for a calculator.
var calculation = regexp.MustCompile(`<<[^>]*>>`)

// sums returns stories about numbers: the question for itself, whose words are learned, and with its answer as a chat,
// of which the answer is.
func sums(raw []byte) (all []record, err error) {
	type sum struct{ Question, Answer string }
	for s, err := range lines[sum](raw) {
		if err != nil {
			return nil, err
		}
		answer := strings.Replace(calculation.ReplaceAllString(s.Answer, ""), "#### ", "The answer is ", 1)
		all = append(all, record{Text: s.Question}, chat(s.Question, answer))
	}
	return all, nil
}

// medicine returns questions from abstracts, answered with a reason.
func medicine(raw []byte) (all []record, err error) {
	type abstract struct{ Text string }
	for a, err := range lines[abstract](raw) {
		if err != nil {
			return nil, err
		}
		question, answer, ok := strings.Cut(strings.TrimPrefix(a.Text, "Q: "), "\nA: ")
		if !ok {
			return nil, fmt.Errorf("record %q without an answer", a.Text)
		}
		all = append(all, chat(question, answer))
	}
	return all, nil
}

var choice = regexp.MustCompile(`(?s)^Please choose the correct answer to the question: (.*?)\s*\n\nAnswer1: (.*) Answer2: (.*) Answer3: (.*) Answer4: (.*)\n\nAnswer format`)

// facts returns sentences, each with the one of four endings that is right.
func facts(raw []byte) (all []record, err error) {
	var tasks []struct{ Instruction, Answer string }
	if err := json.Unmarshal(raw, &tasks); err != nil {
		return nil, err
	}
	for _, t := range tasks {
		parts := choice.FindStringSubmatch(t.Instruction)
		var n int
		if _, err := fmt.Sscanf(t.Answer, "answer%d", &n); parts == nil || err != nil || n < 1 || n > 4 {
			return nil, fmt.Errorf("task %q with answer %q: not a choice of four", t.Instruction, t.Answer)
		}
		all = append(all, record{Text: parts[1] + " " + parts[1+n] + "."})
	}
	return all, nil
}

// plays cuts plays into pieces of about a page, at empty lines.
func plays(raw []byte) (all []record, err error) {
	const page = 1500
	var piece strings.Builder
	for speech := range strings.SplitSeq(string(raw), "\n\n") {
		piece.WriteString(speech + "\n\n")
		if piece.Len() > page {
			all = append(all, record{Text: piece.String()})
			piece.Reset()
		}
	}
	return append(all, record{Text: piece.String()}), nil
}
