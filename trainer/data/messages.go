package data

import (
	"bytes"
	"encoding/json"
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
	if err == nil && tools == nil {
		tools, err = toolsOfMessages(o)
	}
	if err != nil || tools == nil {
		return rec, err
	}
	rec.Tools, rec.ToolNames, err = chat.ParseTools(tools)
	return rec, err
}

// tools returns a record's list of tools: of "tools", or of OpenAI's older "functions".
func (o object) tools() (json.RawMessage, error) {
	for _, name := range []string{"tools", "functions"} {
		if raw, err := o.list(name); err != nil || raw != nil && string(bytes.TrimSpace(raw)) != "[]" {
			return raw, err
		}
	}
	return nil, nil
}

// toolsOfMessages returns the tools that a system message has.
func toolsOfMessages(o object) (json.RawMessage, error) {
	for _, name := range []string{"messages", "conversations", "conversation"} {
		var list []object
		if raw, ok := o[name]; ok && jsonKind(raw) == "an array" && decodeFirst(raw, &list) {
			return list[0].tools()
		}
	}
	return nil, nil
}

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
	thoughtFields = []string{"reasoning_content", "reasoning", "thinking", "thought"}
	weightFields  = []string{"loss_weight", "weight", "train"}
)

// one returns the first of the names that the object has, "" if it has none.
func (o object) one(names []string) string {
	for _, n := range names {
		if _, ok := o[n]; ok {
			return n
		}
	}
	return ""
}

// parseMessage reads {role, content, …} or {from, value, …}. The template sees other fields too, as they are.
func parseMessage(raw []byte) (chat.Message, error) {
	var o object
	if err := json.Unmarshal(raw, &o); err != nil || o == nil {
		return chat.Message{}, badf("is %s, want an object with %q and %q", jsonKind(raw), "role", "content")
	}
	role, content := o.one(roleFields), o.one(contentFields)
	if role == "" || content == "" && !o.has("tool_calls") && !o.has("function_call") {
		return chat.Message{}, badf("has the fields %s, want %q and %q", fieldNames(o), "role", "content")
	}
	var m chat.Message
	var err error
	if m.Role, err = o.text(role); err != nil {
		return m, err
	}
	if m.Parts, m.Thought, err = contentParts(o[content], content); err != nil {
		return m, err
	}
	m.Content = strings.Join(m.Parts, "\n")
	if len(m.Parts) < 2 {
		m.Parts = nil
	}
	m.Null = content == "" || jsonKind(o[content]) == "null"
	if thought := o.one(thoughtFields); thought != "" && jsonKind(o[thought]) == "a string" && m.Thought == "" {
		if m.Thought, err = o.text(thought); err != nil {
			return m, err
		}
	}
	if m.Calls, err = o.calls(); err != nil {
		return m, err
	}
	if m.NoLoss, err = o.noLoss(); err != nil {
		return m, err
	}
	if m, err = withRole(m); err != nil {
		return m, err
	}
	return m.WithFields(raw, slicesOf(roleFields, contentFields, thoughtFields, weightFields, []string{"tool_calls", "function_call"})...)
}

func slicesOf(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// roles maps the names of speakers, ShareGPT's above all, to those that templates know.
var roles = map[string]string{
	"human": "user", "prompter": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bot": "assistant", "ai": "assistant", "model": "assistant",
	"observation": "tool", "function_response": "tool", "function": "tool", "tool_response": "tool", "ipython": "tool",
}

// withRole gives a message the role that templates know. A turn of ShareGPT's that is a call becomes the assistant's.
func withRole(m chat.Message) (chat.Message, error) {
	if role, ok := roles[m.Role]; ok {
		m.Role = role
	}
	if m.Role != "function_call" && m.Role != "tool_call" {
		return m, nil
	}
	calls, err := callsOfText(m.Content)
	m.Role, m.Calls, m.Content, m.Parts, m.Null = "assistant", append(m.Calls, calls...), "", nil, true
	return m, err
}

// callsOfText reads {"name", "arguments"} or a list of them.
func callsOfText(text string) ([]chat.Call, error) {
	raw := []byte(strings.TrimSpace(text))
	if len(raw) == 0 || !json.Valid(raw) {
		return nil, badf("function call %.60q, want JSON with %q and %q", text, "name", "arguments")
	}
	if jsonKind(raw) != "an array" {
		raw = append(append([]byte("["), raw...), ']')
	}
	return parseCalls(raw)
}

// calls reads OpenAI's tool_calls, and its older function_call.
func (o object) calls() ([]chat.Call, error) {
	raw, err := o.list("tool_calls")
	if err != nil {
		return nil, err
	}
	var calls []chat.Call
	if raw != nil {
		if calls, err = parseCalls(raw); err != nil {
			return nil, err
		}
	}
	if old, ok := o["function_call"]; ok && jsonKind(old) == "an object" {
		one, err := parseCalls(append(append([]byte("["), old...), ']'))
		return append(calls, one...), err
	}
	return calls, nil
}

// parseCalls reads a list of {"id", "function": {"name", "arguments"}} or {"name", "arguments"}.
func parseCalls(raw []byte) ([]chat.Call, error) {
	var list []object
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, badf("the tool calls are %.60q, want objects with %q and %q", raw, "name", "arguments")
	}
	var calls []chat.Call
	for _, o := range list {
		id, err := o.text("id")
		if err != nil {
			return nil, err
		}
		if inner, ok := o["function"]; ok {
			o = nil
			json.Unmarshal(inner, &o) // raw is a value of a document that parsed
		}
		name, err := o.text("name")
		if err != nil {
			return nil, err
		}
		arguments := o[o.one([]string{"arguments", "parameters", "input"})]
		call, err := chat.NewCall(id, name, arguments)
		if err != nil {
			return nil, err
		}
		calls = append(calls, call)
	}
	return calls, nil
}

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

// contentParts reads a string, null, or a list of parts {type: "text", text} (or value in place of text), among which may
// be thoughts, {type: "thinking", thinking}.
func contentParts(raw []byte, name string) (parts []string, thought string, err error) {
	if raw == nil {
		return nil, "", nil
	}
	switch jsonKind(raw) {
	case "null":
		return nil, "", nil
	case "an array":
	case "an object":
		return nil, "", badf("%q is an object, want a string or a list of text parts", name)
	default:
		s, err := object{name: raw}.text(name)
		return []string{s}, "", err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, "", badf("%q: %v", name, err)
	}
	for i, raw := range list {
		if t, ok := thinking(raw); ok {
			thought += t
			continue
		}
		text, err := partText(raw)
		if err != nil {
			return nil, "", inPart(i+1, err)
		}
		parts = append(parts, text)
	}
	return parts, thought, nil
}

// thinking returns the text of a part that is a thought.
func thinking(raw []byte) (string, bool) {
	var part struct{ Type, Thinking, Text string }
	if json.Unmarshal(raw, &part) != nil || part.Type != "thinking" && part.Type != "reasoning" {
		return "", false
	}
	return part.Thinking + part.Text, true
}

func inPart(i int, err error) error {
	if e, ok := err.(*UnsupportedError); ok {
		return unsupportedf("part %d %s", i, e.Msg)
	}
	return badf("part %d %s", i, err.(*FormatError).Msg)
}

func partText(raw []byte) (string, error) {
	if jsonKind(raw) == "a string" {
		return object{"text": raw}.text("text")
	}
	var o object
	if err := json.Unmarshal(raw, &o); err != nil || o == nil {
		return "", badf(`is %s, want {"type": "text", "text": …}`, jsonKind(raw))
	}
	kind, err := o.text("type")
	if err != nil {
		return "", err
	}
	switch {
	case kind != "" && kind != "text":
		return "", unsupportedf("is of type %.40q, only text can be trained on", kind)
	case o.has("text"):
		return o.text("text")
	case o.has("value"):
		return o.text("value")
	}
	return "", badf(`has the fields %s, want "type" and "text"`, fieldNames(o))
}
