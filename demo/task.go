package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// The task: a sentence is answered with who is in it and how many of what, as one JSON object. What is asked before and after is
// in neither the training nor the validation data.

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

// records returns the lines of JSON that teach examples.
func records(all []example) (lines []byte) {
	for _, x := range all {
		lines = fmt.Appendf(lines, `{"messages": [{"role": "user", "content": %q}, {"role": "assistant", "content": %q}]}`+"\n", x.sentence, x.answer)
	}
	return lines
}
