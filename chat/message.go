package chat

import (
	"slices"
	"strings"

	"finetune/chat/jinja"
)

// Message is one turn of a chat.
type Message struct {
	Role    string // "system", "user", "assistant", "tool", or what else the template knows
	Content string
	Parts   []string // the content where it came in several parts; Content is these with line ends between
	Null    bool     // there is no content: null, or left out
	Thought string   // what an assistant thought before the content
	Calls   []Call   // tools that an assistant calls
	NoLoss  bool     // keeps an assistant's message out of the loss

	extra *jinja.Dict // other fields, which templates may print
}

// Call is a call of a tool, see [NewCall].
type Call struct {
	ID, Name string

	text   string // the arguments as JSON
	value  any    // and as a template value
	isText bool   // they came as a string
}

// Arguments are those of the call, as JSON.
func (c Call) Arguments() string { return c.text }

// Empty reports whether the message says nothing: blank content, no thought, no call.
func (m Message) Empty() bool {
	return strings.TrimSpace(m.Content) == "" && strings.TrimSpace(m.Thought) == "" && len(m.Calls) == 0
}

// WithFields returns the message with the fields of a JSON object that are not named, for templates that print them.
func (m Message) WithFields(object []byte, omit ...string) (Message, error) {
	all, err := jinja.FromJSON(object)
	if err != nil {
		return m, err
	}
	m.extra = new(jinja.Dict)
	for _, k := range all.(*jinja.Dict).Keys() {
		if !slices.Contains(omit, k.(string)) {
			v, _ := all.(*jinja.Dict).Get(k)
			m.extra.Set(k, v)
		}
	}
	return m, nil
}

// Others lists the names of the other fields that hold something.
func (m Message) Others() (names []string) {
	if m.extra == nil {
		return nil
	}
	for _, k := range m.extra.Keys() {
		switch v, _ := m.extra.Get(k); v := v.(type) {
		case nil:
		case string:
			if v != "" {
				names = append(names, k.(string))
			}
		case []any:
			if len(v) > 0 {
				names = append(names, k.(string))
			}
		default:
			names = append(names, k.(string))
		}
	}
	return names
}

// trimmed is the message without white space around its texts.
func (m Message) trimmed() Message {
	m.Content, m.Thought = strings.TrimSpace(m.Content), strings.TrimSpace(m.Thought)
	m.Parts = slices.Clone(m.Parts)
	for i, p := range m.Parts {
		m.Parts[i] = strings.TrimSpace(p)
	}
	return m
}

// value returns the message as a template of these abilities sees it.
func (m Message) value(c caps) any {
	d := new(jinja.Dict)
	d.Set("role", m.Role)
	d.Set("content", m.content(c))
	if m.Thought != "" && !c.blocks {
		d.Set(c.thought, m.Thought)
	}
	if len(m.Calls) > 0 {
		calls := make([]any, len(m.Calls))
		for i, call := range m.Calls {
			calls[i] = call.dict(c)
		}
		d.Set("tool_calls", calls)
	}
	if m.extra != nil {
		for _, k := range m.extra.Keys() {
			if _, has := d.Get(k); !has {
				v, _ := m.extra.Get(k)
				d.Set(k, v)
			}
		}
	}
	return d
}

// content is null where the template takes that, else a text or, where the template takes no text or there are several
// parts, a list of parts.
func (m Message) content(c caps) any {
	switch {
	case m.Null && c.null && len(m.Calls) > 0: // elsewhere llama-server sends an empty text
		return nil
	case c.blocks && m.Thought != "":
		return append(blocks("thinking", m.Thought), blocks("text", m.Content)...)
	case !c.typed || c.texts && len(m.Parts) < 2:
		return m.Content
	}
	parts := m.Parts
	if len(parts) == 0 {
		parts = []string{m.Content}
	}
	return blocks("text", parts...)
}

// blocks are parts of a content, of one type.
func blocks(kind string, texts ...string) []any {
	list := make([]any, len(texts))
	for i, s := range texts {
		part := new(jinja.Dict)
		part.Set("type", kind)
		part.Set(kind, s)
		list[i] = part
	}
	return list
}

func (c Call) dict(able caps) *jinja.Dict {
	function := new(jinja.Dict)
	function.Set("name", c.Name)
	if able.objects {
		function.Set("arguments", c.value)
	} else {
		function.Set("arguments", c.text)
	}
	d := new(jinja.Dict)
	d.Set("type", "function")
	d.Set("function", function)
	if c.ID != "" {
		d.Set("id", c.ID)
	}
	return d
}
