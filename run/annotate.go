package run

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Note is what Annotated says of a setting.
type Note struct {
	Text string // behind its value or above it
	Set  bool   // it is in force; otherwise it is there to be taken up, behind a #
}

// Annotated returns the settings as a YAML file with words: head above all of it, and of each setting in the order of the fields
// what note says; one without a text is left out. [LoadConfig] reads it.
func (c Config) Annotated(head string, note func(key string) Note) ([]byte, error) {
	var b bytes.Buffer
	for line := range strings.Lines(head) {
		b.WriteString(strings.TrimRight("# "+line, " \n") + "\n")
	}
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("yaml")
		n := note(key)
		if n.Text == "" {
			continue
		}
		entry, err := yaml.Marshal(map[string]any{key: v.Field(i).Interface()})
		if err != nil {
			return nil, fmt.Errorf("setting %q: %w", key, err)
		}
		b.WriteString("\n")
		comment(&b, n.Text)
		if n.Set {
			b.Write(entry)
			continue
		}
		for line := range strings.Lines(string(entry)) {
			b.WriteString("#" + line)
		}
	}
	return b.Bytes(), nil
}

// comment writes a text as lines of comments.
func comment(b *bytes.Buffer, text string) {
	const columns = 110
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > columns && line != "#" {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
