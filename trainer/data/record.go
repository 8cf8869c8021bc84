package data

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"finetune/chat"
)

// recordKind is what a record is, which decides what of it is learned.
type recordKind uint8

const (
	kindText       recordKind = iota // {text}: one document, all of it learned
	kindCompletion                   // {prompt, completion}: the completion is learned
	kindChat                         // {messages}: the assistant's messages are learned
	// kindInstruction is a question and its answer, {instruction, input, output} or
	// {question, answer}: a chat of two messages where the model has a template, a prompt
	// and a completion where it has none. The prompt is then
	// "### Instruction:\n…\n\n### Input:\n…\n\n### Response:\n" (without an empty input) or "Question: …\nAnswer: ".
	kindInstruction
)

func (k recordKind) String() string {
	return [...]string{"text", "prompt and completion", "chat", "instruction"}[k]
}

// record is one record of a file. Which fields are set goes by Kind; when an object fits
// several kinds, the first of chat, completion, instruction, text counts, and fields that
// are not named here are ignored.
type record struct {
	Line       int // where it begins in the file, from 1
	Kind       recordKind
	Text       string         // kindText
	Prompt     string         // kindCompletion, and kindInstruction for a model without a template
	Completion string         // likewise
	Messages   []chat.Message // kindChat, and kindInstruction for a model with a template
	Tools      any            // kindChat: the "tools" field, for the template
}

const wantedFields = `want "text", "prompt" and "completion", "messages", "instruction" and "output", or "question" and "answer"`

// object is a JSON object, its values undecoded.
type object map[string]json.RawMessage

func (o object) has(names ...string) bool {
	for _, n := range names {
		if _, ok := o[n]; !ok {
			return false
		}
	}
	return true
}

// parseObject reads one JSON object. Its errors have no path and line yet.
func parseObject(b []byte) (object, error) {
	var o object
	if err := json.Unmarshal(b, &o); err != nil {
		if _, wrongKind := err.(*json.UnmarshalTypeError); wrongKind {
			return nil, badf("record is %s, want a JSON object", jsonKind(b))
		}
		return nil, badf("%s; want one JSON object a line", jsonProblem(err))
	}
	if o == nil {
		return nil, badf("record is null, want a JSON object")
	}
	return o, nil
}

// parseRecord tells what an object is. Its errors have no path and line yet.
func parseRecord(o object) (record, error) {
	switch {
	case o.has("messages"):
		return chatRecord(o, "messages", "role", "content")
	case o.has("conversations"):
		return chatRecord(o, "conversations", "from", "value")
	case o.has("prompt", "completion"):
		return completionRecord(o)
	case o.has("instruction", "output"):
		return instructionRecord(o)
	case o.has("question", "answer"):
		return questionRecord(o)
	case o.has("text"):
		text, err := o.text("text")
		return record{Kind: kindText, Text: text}, err
	}
	return record{}, badf("record has the fields %s; %s", fieldNames(o), wantedFields)
}

// fieldNames lists what a record has, cut after eight.
func fieldNames(o object) string {
	names := slices.Sorted(maps.Keys(o))
	if len(names) == 0 {
		return "none"
	}
	more := ""
	if len(names) > 8 {
		names, more = names[:8], ", …"
	}
	for i, n := range names {
		names[i] = fmt.Sprintf("%.40q", n)
	}
	return strings.Join(names, ", ") + more
}

// text returns a string field; a field that is missing or null is empty.
func (o object) text(name string) (string, error) {
	raw, ok := o[name]
	if !ok {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", badf("%q is %s, want a string", name, jsonKind(raw))
	}
	return s, nil
}

func (o object) texts(names ...string) ([]string, error) {
	out := make([]string, len(names))
	for i, n := range names {
		var err error
		if out[i], err = o.text(n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func jsonKind(raw []byte) string {
	switch c := bytes.TrimSpace(raw)[0]; c {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

// completionRecord reads a prompt and completion, which are strings or, both, lists of messages.
func completionRecord(o object) (record, error) {
	if jsonKind(o["prompt"]) == "an array" {
		return completionOfMessages(o)
	}
	s, err := o.texts("prompt", "completion")
	if err != nil {
		return record{}, err
	}
	return record{Kind: kindCompletion, Prompt: s[0], Completion: s[1]}, nil
}

func completionOfMessages(o object) (record, error) {
	prompt, err := parseMessages(o["prompt"], "role", "content")
	if err != nil {
		return record{}, err
	}
	for i := range prompt {
		prompt[i].NoLoss = true
	}
	completion, err := parseMessages(o["completion"], "role", "content")
	if err != nil {
		return record{}, err
	}
	tools, err := o.tools()
	return record{Kind: kindChat, Messages: append(prompt, completion...), Tools: tools}, err
}

func instructionRecord(o object) (record, error) {
	s, err := o.texts("instruction", "input", "output")
	if err != nil {
		return record{}, err
	}
	question := s[0]
	prompt := "### Instruction:\n" + s[0] + "\n\n"
	if s[1] != "" {
		question += "\n\n" + s[1]
		prompt += "### Input:\n" + s[1] + "\n\n"
	}
	return instruction(question, prompt+"### Response:\n", s[2]), nil
}

func questionRecord(o object) (record, error) {
	s, err := o.texts("question", "answer")
	if err != nil {
		return record{}, err
	}
	return instruction(s[0], "Question: "+s[0]+"\nAnswer: ", s[1]), nil
}

func instruction(question, prompt, answer string) record {
	return record{
		Kind: kindInstruction, Prompt: prompt, Completion: answer,
		Messages: []chat.Message{{Role: "user", Content: question}, {Role: "assistant", Content: answer}},
	}
}

func chatRecord(o object, list, role, content string) (record, error) {
	messages, err := parseMessages(o[list], role, content)
	if err != nil {
		return record{}, err
	}
	tools, err := o.tools()
	return record{Kind: kindChat, Messages: messages, Tools: tools}, err
}

func (o object) tools() (any, error) {
	raw, ok := o["tools"]
	if !ok || jsonKind(raw) != "an array" {
		return nil, nil
	}
	return chat.ParseTools(raw)
}

func parseMessages(raw []byte, role, content string) ([]chat.Message, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, badf("the messages are %s, want an array of objects with %q and %q", jsonKind(raw), role, content)
	}
	if len(list) == 0 {
		return nil, badf("no messages, want at least one")
	}
	messages := make([]chat.Message, 0, len(list))
	for i, raw := range list {
		m, err := parseMessage(raw, role, content)
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
		return badf("message %d: %s", i, e.Msg)
	case *UnsupportedError:
		return unsupportedf("message %d: %s", i, e.Msg)
	}
	return badf("message %d: %v", i, err)
}

// parseMessage reads {role, content, …}. The template sees all fields, in their order, with
// the content as one string and without the loss weight.
func parseMessage(raw []byte, role, content string) (chat.Message, error) {
	var o object
	if err := json.Unmarshal(raw, &o); err != nil || o == nil {
		return chat.Message{}, badf("is %s, want an object with %q and %q", jsonKind(raw), role, content)
	}
	if !o.has(role) || !o.has(content) && !o.has("tool_calls") {
		return chat.Message{}, badf("has the fields %s, want %q and %q", fieldNames(o), role, content)
	}
	var m chat.Message
	var err error
	if m.Role, err = o.text(role); err != nil {
		return m, err
	}
	m.Role = roleName(m.Role)
	if m.Content, err = contentText(o[content], content); err != nil {
		return m, err
	}
	if m.NoLoss, err = o.noLoss(); err != nil {
		return m, err
	}
	return m.WithFields(raw, append([]string{role, content}, weightFields...)...)
}

// roleName maps ShareGPT's names of the speakers to those of the templates.
func roleName(role string) string {
	switch role {
	case "human":
		return "user"
	case "gpt":
		return "assistant"
	case "observation":
		return "tool"
	}
	return role
}

var weightFields = []string{"loss_weight", "weight", "train"}

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

// contentText reads a string, null, or a list of parts {type: "text", text} (or value in
// place of text), whose texts are joined.
func contentText(raw []byte, name string) (string, error) {
	if raw == nil {
		return "", nil
	}
	switch jsonKind(raw) {
	case "a string", "null":
		return object{name: raw}.text(name)
	case "an array":
	default:
		return "", badf("%q is %s, want a string or a list of text parts", name, jsonKind(raw))
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", badf("%q: %s", name, jsonProblem(err))
	}
	var b strings.Builder
	for i, raw := range parts {
		s, err := partText(raw)
		if err != nil {
			return "", inPart(i+1, err)
		}
		b.WriteString(s)
	}
	return b.String(), nil
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
