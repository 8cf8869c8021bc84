package chat

import (
	"strings"

	"finetune/chat/jinja"
)

// caps are what a template takes, found out by rendering small conversations, as llama.cpp does (common/jinja/caps.cpp):
// messages are given to a template in the form that it prints.
type caps struct {
	system  bool   // a system message; else it is merged into the first user's
	texts   bool   // content as a text
	typed   bool   // content as a list of parts
	objects bool   // arguments of calls as objects; else as JSON texts
	null    bool   // content that is null beside calls; else it is empty
	thought string // field that an assistant's thoughts are printed from; reasoning_content, which llama-server sends, if none is
	blocks  bool   // thoughts as a part of the content
}

// Words that stand in no template.
const (
	markText  = "Ft0Text"
	markOther = "Ft1Other"
	markTool  = "ft_probe"
	markKey   = "ft_key"
)

var thoughtFields = []string{"reasoning_content", "thinking", "reasoning"}

// prober renders conversations of a template to see what becomes of them.
type prober struct {
	render func(messages []any, tools any) (string, error)
}

func probe(render func(messages []any, tools any) (string, error)) caps {
	p := prober{render}
	c := caps{texts: true, thought: thoughtFields[0]}
	c.texts, c.typed = p.contents()
	c.system = p.prints(caps{texts: c.texts, typed: c.typed}, Message{Role: "system", Content: markText}, Message{Role: "user", Content: markOther})
	c.objects = p.objects(c)
	c.null = p.null(c)
	c.thought, c.blocks = p.thought(c)
	return c
}

// thought finds out where a template prints thoughts from.
func (p prober) thought(c caps) (field string, blocks bool) {
	said := []Message{{Role: "user", Content: markOther}, {Role: "assistant", Content: markOther, Thought: markText}}
	for _, c.thought = range thoughtFields {
		if p.prints(c, said...) {
			return c.thought, false
		}
	}
	c.blocks = true
	out, _ := p.try(c, nil, said...)
	return thoughtFields[0], strings.Contains(out, markText) && !strings.Contains(out, "'type'") && !strings.Contains(out, `"type"`)
}

func (p prober) try(c caps, tools any, messages ...Message) (string, bool) {
	list := make([]any, len(messages))
	for i, m := range messages {
		list[i] = m.value(c)
	}
	text, err := p.render(list, tools)
	return text, err == nil
}

// prints reports whether markText of the messages comes out.
func (p prober) prints(c caps, messages ...Message) bool {
	text, ok := p.try(c, nil, messages...)
	return ok && strings.Contains(text, markText)
}

func (p prober) contents() (texts, typed bool) {
	m := Message{Role: "user", Content: markText}
	texts = p.prints(caps{texts: true}, m)
	out, ok := p.try(caps{typed: true}, nil, m)
	typed = ok && strings.Contains(out, markText) && !strings.Contains(out, "'type'") && !strings.Contains(out, `"type"`)
	return texts || !typed, typed
}

// called is a conversation with a call.
func called(null bool) []Message {
	value := new(jinja.Dict)
	value.Set(markKey, markText)
	call := Call{ID: "call00001", Name: markTool, value: value, text: `{"` + markKey + `":"` + markText + `"}`}
	return []Message{
		{Role: "user", Content: markOther},
		{Role: "assistant", Null: null, Calls: []Call{call}},
		{Role: "tool", Content: markOther, extra: callID()},
		{Role: "assistant", Content: markOther},
		{Role: "user", Content: markOther},
	}
}

func callID() *jinja.Dict {
	d := new(jinja.Dict)
	d.Set("tool_call_id", "call00001")
	d.Set("name", markTool)
	return d
}

func probeTools() any {
	tools, _, err := ParseTools([]byte(`[{"type": "function", "function": {"name": "` + markTool + `", "description": "d", "parameters": {"type": "object", ` +
		`"properties": {"` + markKey + `": {"type": "string", "description": "k"}}, "required": ["` + markKey + `"]}}}]`))
	if err != nil {
		panic("chat: internal error: " + err.Error())
	}
	return tools
}

// objects reports whether arguments that are an object come out, and not as Python writes a dict.
func (p prober) objects(c caps) bool {
	c.objects, c.null = true, true
	out, ok := p.try(c, probeTools(), called(false)...)
	if !ok || !strings.Contains(out, markTool) { // printed only where there is no content
		out, ok = p.try(c, probeTools(), called(true)...)
	}
	return ok && strings.Contains(out, markText) && !strings.Contains(out, "{'"+markKey+"': '"+markText)
}

// null reports whether a call comes out whose message has null as its content, without the word None.
func (p prober) null(c caps) bool {
	c.null = true
	empty, _ := p.try(c, probeTools(), called(false)...)
	out, ok := p.try(c, probeTools(), called(true)...)
	return ok && strings.Contains(out, markTool) && strings.Count(out, "None") <= strings.Count(empty, "None")
}
