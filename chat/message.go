package chat

import (
	"slices"

	"finetune/chat/jinja"
)

// Message is one turn of a chat.
type Message struct {
	Role    string // "system", "user", "assistant", "tool", or what else the template knows
	Content string
	NoLoss  bool // keeps an assistant's message out of the loss

	fields *jinja.Dict // the object as the template sees it; nil: role and content
}

// WithFields returns the message with the fields of a JSON object behind role and content, in their order and without
// those to omit: templates print tool calls, thoughts and names from them.
func (m Message) WithFields(object []byte, omit ...string) (Message, error) {
	all, err := jinja.FromJSON(object)
	if err != nil {
		return m, err
	}
	m.fields = m.plain()
	for _, k := range all.(*jinja.Dict).Keys() {
		if !slices.Contains(omit, k.(string)) {
			v, _ := all.(*jinja.Dict).Get(k)
			m.fields.Set(k, v)
		}
	}
	return m, nil
}

// ParseTools reads the JSON array of tools that a template describes to the model, for [Template.Render].
func ParseTools(array []byte) (any, error) { return jinja.FromJSON(array) }

// value returns the message as a template sees it.
func (m Message) value() any {
	if m.fields != nil {
		return m.fields
	}
	return m.plain()
}

// plain returns role and content alone.
func (m Message) plain() *jinja.Dict {
	d := new(jinja.Dict)
	d.Set("role", m.Role)
	d.Set("content", m.Content)
	return d
}
