package data

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"finetune/chat"
)

// chatRecord reads a conversation from a field that lists its messages.
func chatRecord(o object, list string) (record, error) {
	raw, err := o.list(list)
	if err != nil {
		return record{}, badf("the messages are %s, want an array of objects with %q and %q", jsonKind(o[list]), "role", "content")
	}
	if raw == nil {
		return record{}, badf("no messages, want at least one")
	}
	messages, err := parseMessages(raw, list)
	if err != nil {
		return record{}, err
	}
	return chatOf(o, messages)
}

// chatOf adds what a record gives beside its messages: a system text, and tools.
func chatOf(o object, messages []chat.Message) (record, error) {
	system, err := o.system()
	if err != nil {
		return record{}, err
	}
	if system != "" {
		switch first := messages[0]; {
		case first.Role != "system":
			messages = append([]chat.Message{{Role: "system", Content: system}}, messages...)
		case strings.TrimSpace(first.Content) != strings.TrimSpace(system):
			return record{}, badf(`"system" is another text than that of the first message, want one of them`)
		}
	}
	rec := record{Kind: kindChat, Messages: messages}
	tools, err := o.tools()
	if err == nil {
		inner, e := toolsOfMessages(o)
		switch err = e; {
		case tools == nil:
			tools = inner
		case inner != nil && !sameJSON(tools, inner):
			err = badf("a message lists other tools than the record, want them once")
		}
	}
	if err != nil || tools == nil {
		return rec, err
	}
	rec.Tools, rec.ToolNames, err = chat.ParseTools(tools)
	return rec, err
}

// toolFields are where tools are described: in OpenAI's form, and in its older one.
var toolFields = []string{"tools", "functions"}

// tools returns a record's list of tools.
func (o object) tools() (found json.RawMessage, err error) {
	for _, name := range toolFields {
		raw, err := o.list(name)
		switch {
		case err != nil:
			return nil, err
		case raw == nil || string(bytes.TrimSpace(raw)) == "[]":
		case found != nil:
			return nil, badf("both %q and %q list tools, want one of them", toolFields[0], toolFields[1])
		default:
			found = raw
		}
	}
	return found, nil
}

// toolsOfMessages returns the tools that a system message has.
func toolsOfMessages(o object) (json.RawMessage, error) {
	for _, name := range []string{"messages", "conversations", "conversation", "prompt", "chosen"} {
		raw, _ := o.list(name) // which was read before
		if raw == nil {
			continue
		}
		var list []object
		if json.Unmarshal(raw, &list) != nil {
			return nil, nil
		}
		return toolsAmong(list)
	}
	return nil, nil
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// toolsAmong returns the tools of the one message that has some.
func toolsAmong(list []object) (found json.RawMessage, err error) {
	for i, m := range list {
		raw, err := m.tools()
		switch {
		case err != nil:
			return nil, inMessage(i+1, err)
		case raw != nil && found != nil:
			return nil, badf("message %d has tools, and so has an earlier one, want them once", i+1)
		case raw != nil:
			found = raw
		}
	}
	return found, nil
}

// ParseMessages reads a JSON array of messages as those of a record are read: {role, content, …} in OpenAI's form, or {from, value}
// in ShareGPT's. Errors are *FormatError or *UnsupportedError.
func ParseMessages(array []byte) ([]chat.Message, error) { return parseMessages(array, "messages") }

func parseMessages(raw []byte, field string) ([]chat.Message, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, badf("%q is %s, want an array of objects with %q and %q", field, jsonKind(raw), "role", "content")
	}
	if len(list) == 0 {
		return nil, badf("no messages, want at least one")
	}
	messages := make([]chat.Message, 0, len(list))
	for i, raw := range list {
		m, err := parseMessage(raw)
		if err != nil {
			return nil, inMessage(i+1, err)
		}
		messages = append(messages, m)
	}
	return messages, nil
}

func inMessage(i int, err error) error {
	switch e := err.(type) {
	case *FormatError:
		return &FormatError{Msg: badf("message %d: %s", i, e.Msg).(*FormatError).Msg, Err: e.Err}
	case *UnsupportedError:
		return unsupportedf("message %d: %s", i, e.Msg)
	case *chat.Error:
		return badf("message %d: %s", i, e.Msg)
	}
	return badf("message %d: %v", i, err)
}

// Names of a message's fields in OpenAI's form and in ShareGPT's.
var (
	roleFields    = []string{"role", "from"}
	contentFields = []string{"content", "value"}
	thoughtFields = []string{"reasoning_content", "reasoning", "thinking", "thought", "thoughts"}
	weightFields  = []string{"loss_weight", "weight", "train", "trainable", "loss"}
	callFields    = []string{"tool_calls", "function_call", "tool_call", "function_calls"}
)

// one returns the first of the names under which the object has something, else the first that it has at all, "" if it has
// none.
func (o object) one(names []string) string {
	found := ""
	for _, n := range names {
		raw, ok := o[n]
		switch {
		case ok && !hollow(raw):
			return n
		case ok && (found == "" || jsonKind(o[found]) == "null"): // an empty text says more than null
			found = n
		}
	}
	return found
}

// agree refuses an object that says different things under names of the same meaning.
func (o object) agree(names []string, read func(string) (string, error)) error {
	first, text := o.one(names), ""
	for _, n := range names {
		raw, ok := o[n]
		if !ok || jsonKind(raw) == "null" {
			continue
		}
		s, err := read(n)
		switch {
		case err != nil:
			return err
		case strings.TrimSpace(s) == "":
		case text == "":
			first, text = n, s
		case s != text:
			return badf("%q is another text than %q, want one of them", n, first)
		}
	}
	return nil
}

// parseMessage reads {role, content, …} or {from, value, …}. The template sees other fields too, as they are.
func parseMessage(raw []byte) (chat.Message, error) {
	var o object
	if err := json.Unmarshal(raw, &o); err != nil || o == nil {
		return chat.Message{}, badf("is %s, want an object with %q and %q", jsonKind(raw), "role", "content")
	}
	m, err := o.speaker()
	if err != nil {
		return m, err
	}
	if err := o.contentOf(&m); err != nil {
		return m, err
	}
	if err := o.thoughtOf(&m); err != nil {
		return m, err
	}
	calls, err := o.calls()
	if err != nil {
		return m, err
	}
	if m.Calls = append(m.Calls, calls...); len(m.Calls) > 0 && m.Role != "assistant" {
		return m, badf("a message of the role %q calls tools, want the role %q", m.Role, "assistant")
	}
	if m.NoLoss, err = o.noLoss(); err != nil {
		return m, err
	}
	return m.WithFields(raw, slicesOf(roleFields, contentFields, thoughtFields, weightFields, callFields)...)
}

// speaker reads whose a message is.
func (o object) speaker() (m chat.Message, err error) {
	role := func(name string) (string, error) {
		s, err := o.text(name)
		return roleOf(s), err
	}
	name := o.one(roleFields)
	if name == "" {
		return m, badf("has the fields %s, want %q and %q", fieldNames(o), "role", "content")
	}
	if m.Role, err = role(name); err != nil {
		return m, err
	}
	if m.Role == "" {
		return m, badf("%q is empty, want the role of who speaks", name)
	}
	return m, o.agree(roleFields, role)
}

// contentOf reads what a message says. A turn of ShareGPT's that is a call becomes the assistant's.
func (o object) contentOf(m *chat.Message) (err error) {
	name := o.one(contentFields)
	if m.Role == roleCall {
		if name == "" {
			return badf("has the fields %s, want %q and %q", fieldNames(o), "role", "content")
		}
		m.Role, m.Null = "assistant", true
		m.Calls, err = callsOf(name, o[name])
		return err
	}
	if name == "" && o.one(callFields) == "" {
		return badf("has the fields %s, want %q and %q", fieldNames(o), "role", "content")
	}
	if err := o.agree(contentFields, func(n string) (string, error) {
		p, err := contentParts(o[n], n)
		return strings.Join(p.texts, "\n"), err
	}); err != nil {
		return err
	}
	p, err := contentParts(o[name], name)
	if err != nil {
		return err
	}
	m.Content, m.Thought, m.Calls = strings.Join(p.texts, "\n"), p.thought, p.calls
	if len(p.texts) > 1 {
		m.Parts = p.texts
	}
	m.Null = name == "" || jsonKind(o[name]) == "null"
	return nil
}

// thoughtOf reads what stands in a field of its own of an assistant's thoughts.
func (o object) thoughtOf(m *chat.Message) error {
	read := func(name string) (string, error) {
		if jsonKind(o[name]) == "true or false" || jsonKind(o[name]) == "a number" {
			return "", nil // a switch, which is no thought
		}
		p, err := contentParts(o[name], name)
		if err == nil && len(p.calls) > 0 {
			err = badf("%q has tool calls, want a text", name)
		}
		return strings.TrimSpace(p.thought + strings.Join(p.texts, "\n")), err
	}
	for _, name := range thoughtFields {
		if _, ok := o[name]; !ok {
			continue
		}
		text, err := read(name)
		switch {
		case err != nil:
			return err
		case text == "" || text == strings.TrimSpace(m.Thought):
		case m.Thought != "":
			return badf("%q is another text than the thoughts before it, want one of them", name)
		default:
			m.Thought, _ = o.rawThought(name, text)
		}
	}
	if m.Thought != "" && m.Role != "assistant" {
		return badf("a message of the role %q has thoughts, want the role %q", m.Role, "assistant")
	}
	return nil
}

// rawThought is a thought as it stands in a field, with the white space around it.
func (o object) rawThought(name, trimmed string) (string, error) {
	if jsonKind(o[name]) != "a string" {
		return trimmed, nil
	}
	return o.text(name)
}

func slicesOf(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// roleCall is a turn that is a call of a tool.
const roleCall = "function_call"

// roles maps the names of speakers, ShareGPT's above all, to those that templates know.
var roles = map[string]string{
	"human": "user", "prompter": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bot": "assistant", "ai": "assistant", "model": "assistant",
	"observation": "tool", "function_response": "tool", "function": "tool", "tool_response": "tool", "ipython": "tool",
	"tool_result": "tool", "tool_results": "tool", "function_result": "tool", "tool_output": "tool",
	"tool_call": roleCall, "function_call": roleCall, "tool_calls": roleCall,
	"system": "system", "developer": "developer", "user": "user", "assistant": "assistant", "tool": "tool",
}

// roleOf gives a speaker the role that templates know, whatever its letters; one that is not known keeps its name.
func roleOf(name string) string {
	name = strings.TrimSpace(name)
	if role, ok := roles[strings.ReplaceAll(strings.ToLower(name), "-", "_")]; ok {
		return role
	}
	return name
}

// knownRole reports whether a role is one that most templates know.
func knownRole(role string) bool { _, ok := roles[role]; return ok }

// noLoss reads the fields that take a message out of the loss.
func (o object) noLoss() (bool, error) {
	for _, name := range weightFields {
		raw, ok := o[name]
		if !ok {
			continue
		}
		var v any
		json.Unmarshal(raw, &v) // raw is a value of a document that parsed
		switch v {
		case 0.0, false:
			return true, nil
		case 1.0, true, nil:
		default:
			return false, unsupportedf("%q is %.40s, want 0 or 1", name, raw)
		}
	}
	return false, nil
}
