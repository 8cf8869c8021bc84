package chat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"finetune/chat/jinja"
)

// Source is the Jinja source of a model's chat templates.
type Source struct {
	Default string // tokenizer.chat_template; "" if there is none
	ToolUse string // tokenizer.chat_template.tool_use, which is taken where there are tools; "" if there is none
	Rerank  string // tokenizer.chat_template.rerank, by which a reranker reads a query and a document; no Jinja; "" if there is none
	Path    string // of the file that they were read from, for errors; "" if they are the model's
}

// SourceOf reads the templates of a model, llama.cpp's for instance.
func SourceOf(m interface {
	ChatTemplate(name string) (string, bool)
}) (s Source) {
	s.Default, _ = m.ChatTemplate("")
	s.ToolUse, _ = m.ChatTemplate("tool_use")
	s.Rerank, _ = m.ChatTemplate("rerank")
	return s
}

// messageNames are what templates call a message.
var messageNames = regexp.MustCompile(`for\s+(\w+)\s+in\s+\w*messages`)

// Reads reports whether a template reads a field of this name of messages.
func (s Source) Reads(field string) bool {
	of := "message|msg|m"
	for _, m := range messageNames.FindAllStringSubmatch(s.Default+s.ToolUse, -1) {
		of += "|" + m[1]
	}
	name := regexp.QuoteMeta(field)
	reads := regexp.MustCompile(`\b(` + of + `)(\.` + name + `\b|\[['"]` + name + `['"]\]|\.get\(['"]` + name + `['"]|\s*\|\s*tojson)|['"]` + name + `['"]\s+in\s+(` + of + `)\b`)
	return reads.MatchString(s.Default) || reads.MatchString(s.ToolUse)
}

// None reports whether there is no template at all.
func (s Source) None() bool { return s.Default == "" && s.ToolUse == "" }

// Options are what a template is rendered with besides the messages.
type Options struct {
	// Now is the day that strftime_now and date_string tell. Zero hides the clock from templates, and they fall back to
	// the date that they were written with.
	Now time.Time
	// Args are arguments of the template, such as enable_thinking.
	Args Args
	// AsGiven leaves every message its role, for who wants to know what a template itself does with them.
	AsGiven bool
}

// Args are arguments of a template by their name, as template values.
type Args map[string]any

// ParseArgs reads key=value, each; a value is JSON, or else a text. Errors are *Error.
func ParseArgs(list []string) (Args, error) {
	args := Args{}
	for _, arg := range list {
		key, value, ok := strings.Cut(arg, "=")
		if key = strings.TrimSpace(key); !ok || key == "" {
			return nil, badf("template argument %.60q, want key=value", arg)
		}
		if key == "messages" || key == "tools" {
			return nil, badf("template argument %q is the data's, want another", key)
		}
		v, err := jinja.FromJSON([]byte(value))
		if err != nil || !json.Valid([]byte(value)) {
			v = value
		}
		args[key] = v
	}
	return args, nil
}

// ParseTools reads the JSON array of tools that a template describes to the model, for [Template.Render]. A tool without
// its wrapping, {"name", "parameters"}, gets that of OpenAI's form, {"type": "function", "function": …}. The second
// result are their names.
func ParseTools(array []byte) (any, []string, error) {
	v, err := jinja.FromJSON(array)
	if err != nil {
		return nil, nil, badf("tools: %v", err)
	}
	list, ok := v.([]any)
	if !ok {
		return nil, nil, badf("tools: want an array of objects")
	}
	var names []string
	for i, x := range list {
		tool, ok := x.(*jinja.Dict)
		if !ok {
			return nil, nil, badf("tool %d: want an object", i+1)
		}
		function, isWrapped := tool.Get("function")
		if !isWrapped {
			wrapped := new(jinja.Dict)
			wrapped.Set("type", "function")
			wrapped.Set("function", tool)
			list[i], function = wrapped, tool
		}
		if f, ok := function.(*jinja.Dict); ok {
			if name, ok := text(f, "name"); ok && name != "" {
				names = append(names, name)
				continue
			}
		}
		return nil, nil, badf("tool %d: no name", i+1)
	}
	return list, names, nil
}

func text(d *jinja.Dict, key string) (string, bool) {
	v, _ := d.Get(key)
	s, ok := v.(string)
	return s, ok
}

// NewCall makes a call of arguments as JSON: an object, or OpenAI's string that holds one. Errors are *Error.
func NewCall(id, name string, arguments []byte) (Call, error) {
	c := Call{ID: id, Name: name}
	if name == "" {
		return c, badf("tool call without a name")
	}
	if arguments = bytes.TrimSpace(arguments); len(arguments) == 0 || string(arguments) == "null" {
		arguments = []byte("{}")
	}
	v, err := jinja.FromJSON(arguments)
	if err != nil {
		return c, badf("arguments of %q: %v", name, err)
	}
	if c.text, c.isText = v.(string); !c.isText {
		c.value, c.text = v, compactJSON(arguments)
		return c, nil
	}
	if strings.TrimSpace(c.text) == "" {
		c.text = "{}"
	}
	if c.value, err = jinja.FromJSON([]byte(c.text)); err != nil || !json.Valid([]byte(c.text)) {
		return c, badf("arguments of %q are %.60q, want JSON", name, c.text)
	}
	return c, nil
}

func compactJSON(b []byte) string {
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return fmt.Sprint(string(b))
	}
	return out.String()
}
