package demo

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"io"
	"strings"
)

// The task, made for this project: a sentence is answered with who is in it and how many of what, as one JSON object. The
// held-out sentences are in neither the training nor the validation data.
var (
	//go:embed task.jsonl
	task []byte
	//go:embed held-out.jsonl
	heldOut []byte
)

// content is what the taught form holds.
type content struct {
	Who   string `json:"who"`
	Count int    `json:"count"`
	What  string `json:"what"`
}

// example is a sentence and what is in it.
type example struct {
	sentence string
	want     content
	answer   string // want in the taught form
}

// inForm reads an answer; ok tells whether it is in the taught form: one object with the three fields, and nothing else.
func inForm(answer string) (c content, ok bool) {
	d := json.NewDecoder(strings.NewReader(answer))
	d.DisallowUnknownFields()
	if d.Decode(&c) != nil {
		return content{}, false
	}
	if _, err := d.Token(); err != io.EOF {
		return content{}, false
	}
	return c, c.Who != "" && c.Count > 0 && c.What != ""
}

// examples reads the held-out records.
func examples() (all []example) {
	for line := range bytes.Lines(heldOut) {
		var record struct {
			Messages []struct{ Content string }
		}
		if err := json.Unmarshal(line, &record); err != nil || len(record.Messages) != 2 {
			panic("internal error: demo: a held-out record that is none")
		}
		want, ok := inForm(record.Messages[1].Content)
		if !ok {
			panic("internal error: demo: a held-out answer that is not in the form")
		}
		all = append(all, example{record.Messages[0].Content, want, record.Messages[1].Content})
	}
	return all
}
