package chat

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"finetune/chat/jinja"
)

// Template is a model's chat template: it writes a conversation as the text that the
// model was taught, and that llama-server sends. Goroutines may share it.
type Template struct {
	main, toolUse *form // toolUse is nil where the model has no such template
	vars          map[string]any
	budget        budget
}

// form is one of a model's templates.
type form struct {
	*jinja.Template
	caps
	source   string
	name     string // for errors
	channels bool   // gpt-oss's, which knows a developer beside the system
	trims    bool   // StepFun's, for which llama-server trims all content
	gathers  bool   // Gemma 4's first, see gathered
}

// ParseTemplate reads a template by its source alone, see [Parse].
func ParseTemplate(source string, tok Tokenizer, now time.Time) (*Template, error) {
	return Parse(Source{Default: source}, tok, Options{Now: now})
}

// Parse reads a model's templates. bos_token and eos_token of a template are
// the names of the vocabulary's tokens. The error is an *Error.
func Parse(s Source, tok Tokenizer, o Options) (*Template, error) {
	name := func(id int32) string {
		if id < 0 {
			return ""
		}
		return tok.Piece(id, true)
	}
	t := &Template{vars: map[string]any{"bos_token": name(tok.BOS()), "eos_token": name(tok.EOS())}}
	if !o.Now.IsZero() { // what llama-server gives a template besides the messages
		t.vars["strftime_now"] = jinja.Strftime(o.Now)
		t.vars["date_string"] = o.Now.Format("02 Jan 2006")
		t.vars["datetime"] = o.Now.Format("Jan 02 2006")
		t.vars["enable_thinking"] = true
	}
	for key, v := range o.Args {
		t.vars[key] = v
	}
	t.budget.left.Store(startWork)
	if o.AsGiven {
		t.budget.left.Store(lookWork)
	}
	var err error
	if s.Default != "" {
		if t.main, err = t.parse(s.Default, s.name("")); err != nil {
			return nil, err
		}
	}
	if s.ToolUse != "" {
		if t.toolUse, err = t.parse(s.ToolUse, s.name("tool_use")); err != nil {
			return nil, err
		}
	}
	if t.main == nil {
		t.main = t.toolUse
	}
	t.main.system = t.main.system || o.AsGiven
	return t, nil
}

// name is what errors call a template.
func (s Source) name(variant string) string {
	switch {
	case s.Path != "":
		return fmt.Sprintf("chat template %q", s.Path)
	case variant != "":
		return fmt.Sprintf("chat template %q", variant)
	}
	return "chat template"
}

func (t *Template) parse(source, name string) (*form, error) {
	parsed, err := jinja.Parse(source)
	if err != nil {
		return nil, templateError(name, err)
	}
	parsed.Loose = true
	f := &form{Template: parsed, source: source, name: name, channels: strings.Contains(source, "<|channel|>"),
		trims: strings.Contains(source, "You have access to the following functions in JSONSchema format")}
	left, over := int64(probeWork), error(nil)
	f.gathers = gathersResults(source)
	f.caps = probe(func(messages []any, tools any) (string, error) {
		text, used, err := f.RenderWithin(t.with(messages, tools, nil), left)
		left -= used
		if errors.Is(err, jinja.ErrLimit) {
			over = err
		}
		return text, err
	})
	if over != nil { // what it takes is not known then
		return nil, templateError(name, over)
	}
	return f, nil
}

// with returns the variables of one rendering. addGenerationPrompt is true, false, or nil to leave it undefined.
func (t *Template) with(messages []any, tools, addGenerationPrompt any) map[string]any {
	vars := map[string]any{"messages": messages}
	if addGenerationPrompt != nil {
		vars["add_generation_prompt"] = addGenerationPrompt
	}
	for k, v := range t.vars {
		vars[k] = v
	}
	if tools != nil {
		vars["tools"] = tools
	}
	return vars
}

// formOf picks the template for a conversation: that for the use of tools, where there is one, if there are tools.
func (t *Template) formOf(messages []Message, tools any) *form {
	if t.toolUse == nil {
		return t.main
	}
	for _, m := range messages {
		if len(m.Calls) > 0 {
			return t.toolUse
		}
	}
	if tools != nil {
		return t.toolUse
	}
	return t.main
}

// Render writes the messages. addGenerationPrompt ends the text with what stands in front
// of an assistant's answer. tools is nil or what [ParseTools] returned. The text begins with BOS's
// name if the template prints it. Errors are as ParseTemplate's.
//
// As in llama-server a developer is a system, and where the template has no place for a system message it is put in front
// of the message behind it.
func (t *Template) Render(messages []Message, tools any, addGenerationPrompt bool) (string, error) {
	var generate any // undefined, which templates have a default for, as llama-server leaves it
	if addGenerationPrompt {
		generate = true
	}
	return t.render(t.formOf(messages, tools), messages, tools, generate)
}

func (t *Template) render(f *form, messages []Message, tools, addGenerationPrompt any) (string, error) {
	var list []any
	work := t.budget.grant(messages, tools)
	if messages = f.roles(messages); f.gathers {
		messages = gathered(messages)
	}
	for _, m := range messages {
		list = append(list, m.value(f.caps))
	}
	text, used, err := f.RenderWithin(t.with(list, tools, addGenerationPrompt), work)
	if err = t.budget.spend(used, err); err != nil {
		return "", templateError(f.name, err)
	}
	if f.gathers && addGenerationPrompt == true {
		text = opened(text)
	}
	return text, nil
}

// roles gives the messages the roles that the template has.
func (f *form) roles(messages []Message) []Message {
	out := make([]Message, 0, len(messages))
	for i := 0; i < len(messages); i++ {
		m := messages[i]
		if m.Role == "developer" && !f.channels {
			m.Role = "system"
		}
		if i == 0 && f.merges(messages) {
			if len(messages) == 1 {
				return out
			}
			next := messages[1]
			next.Content, next.Parts, next.Null = m.Content+"\n"+next.Content, nil, false
			m, i = next, 1
		}
		if f.trims {
			m = m.trimmed()
		}
		out = append(out, m)
	}
	return out
}

// merges reports whether the first message is a system message for which the template has no place.
func (f *form) merges(messages []Message) bool {
	return !f.system && len(messages) > 0 && (messages[0].Role == "system" || messages[0].Role == "developer")
}

// MergesSystem reports whether the template has no place for the system message that the conversation begins with, so that
// it becomes a part of the message behind it.
func (t *Template) MergesSystem(messages []Message, tools any) bool {
	return t.formOf(messages, tools).merges(messages)
}
