package data

import (
	"encoding/json"
	"slices"

	"finetune/chat"
)

// content is what a message says, in parts.
type content struct {
	texts   []string
	thought string
	calls   []chat.Call
}

// contentParts reads a string, null, or a list of parts {type: "text", text} (or value in place of text), among which may
// be thoughts, {type: "thinking", thinking}, in front of the texts, and calls, {type: "tool_use", name, input}, behind them.
func contentParts(raw []byte, name string) (c content, err error) {
	if raw == nil {
		return c, nil
	}
	switch jsonKind(raw) {
	case "null":
		return c, nil
	case "an array":
	case "an object":
		return c, badf("%q is an object, want a string or a list of text parts", name)
	default:
		s, err := object{name: raw}.text(name)
		return content{texts: []string{s}}, err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return c, badf("%q: %v", name, err)
	}
	for i, raw := range list {
		if err := c.add(raw); err != nil {
			return c, inPart(i+1, err)
		}
	}
	return c, nil
}

// Types of parts.
var (
	textTypes    = []string{"", "text", "input_text", "output_text"}
	thoughtTypes = []string{"thinking", "reasoning", "thought"}
	callTypes    = []string{"tool_use", "tool_call", "function_call"}
)

// add reads one part.
func (c *content) add(raw []byte) error {
	if jsonKind(raw) == "a string" {
		return c.addText(object{"text": raw}, "text")
	}
	var o object
	if err := json.Unmarshal(raw, &o); err != nil || o == nil {
		return badf(`is %s, want {"type": "text", "text": …}`, jsonKind(raw))
	}
	kind, err := o.text("type")
	if err != nil {
		return err
	}
	if no, err := o.noLoss(); err != nil || no {
		return unsupportedf("has a weight of its own, only whole messages can be taken out of the loss")
	}
	switch {
	case slices.Contains(textTypes, kind):
		return c.addText(o, "text", "value", "content")
	case slices.Contains(thoughtTypes, kind):
		return c.addThought(o, kind)
	case slices.Contains(callTypes, kind):
		return c.addCall(o)
	}
	return unsupportedf("is of type %.40q, only text can be trained on", kind)
}

func (c *content) addText(o object, names ...string) error {
	name := o.one(names)
	if name == "" {
		return badf(`has the fields %s, want "type" and "text"`, fieldNames(o))
	}
	if err := o.noOther(name); err != nil {
		return err
	}
	if len(c.calls) > 0 {
		return unsupportedf("is a text behind a tool call, which templates put at the end")
	}
	text, err := o.text(name)
	c.texts = append(c.texts, text)
	return err
}

// saying are the fields in which a part says something.
var saying = []string{"text", "value", "content", "thinking", "reasoning", "thought", "input", "arguments"}

// noOther refuses a part that says something in another field than the one that is read.
func (o object) noOther(name string) error {
	for _, other := range saying {
		raw, ok := o[other]
		if ok && other != name && !hollow(raw) && !sameJSON(raw, o[name]) {
			return badf("says something in both %q and %q, want one of them", name, other)
		}
	}
	return nil
}

func (c *content) addThought(o object, kind string) error {
	name := o.one([]string{kind, "thinking", "reasoning", "text", "value", "content"})
	if name == "" {
		return badf("has the fields %s, want %q and %q", fieldNames(o), "type", kind)
	}
	if err := o.noOther(name); err != nil {
		return err
	}
	if len(c.texts)+len(c.calls) > 0 {
		return unsupportedf("is a thought behind a text or a tool call, which templates put in front")
	}
	text, err := o.text(name)
	c.thought += text
	return err
}

// addCall reads {type, name, input}, or {type, value} with the call as JSON.
func (c *content) addCall(o object) error {
	raw, isValue := o["value"]
	if !isValue {
		var err error
		if raw, err = json.Marshal(o); err != nil {
			return badf("%v", err)
		}
	}
	calls, err := callsOf("value", raw)
	c.calls = append(c.calls, calls...)
	return err
}

func inPart(i int, err error) error {
	switch e := err.(type) {
	case *UnsupportedError:
		return unsupportedf("part %d %s", i, e.Msg)
	case *FormatError:
		return badf("part %d %s", i, e.Msg)
	case *chat.Error:
		return badf("part %d: %s", i, e.Msg)
	}
	return err
}
