package data

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"finetune/chat"
)

// calls reads OpenAI's tool_calls, its older function_call, and what else they are called.
func (o object) calls() (all []chat.Call, err error) {
	from := ""
	for _, name := range callFields {
		raw, ok := o[name]
		if !ok || jsonKind(raw) == "null" {
			continue
		}
		calls, err := callsOf(name, raw)
		if err != nil {
			return nil, err
		}
		if len(calls) > 0 && from != "" {
			return nil, badf("both %q and %q have calls, want one of them", from, name)
		}
		if len(calls) > 0 {
			all, from = calls, name
		}
	}
	return all, nil
}

// callsOf reads {"name", "arguments"} or a list of them, or a text that holds either.
func callsOf(name string, raw []byte) ([]chat.Call, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) > 0 && jsonKind(raw) == "a string" {
		text, err := object{name: raw}.text(name)
		if err != nil {
			return nil, err
		}
		if text = strings.TrimSpace(text); text == "" && name != contentFields[0] && name != contentFields[1] {
			return nil, nil
		}
		raw = []byte(text)
		if !json.Valid(raw) {
			return nil, badf("function call %.60q, want JSON with %q and %q", text, "name", "arguments")
		}
	}
	switch jsonKind(raw) {
	case "an array":
	case "an object":
		raw = append(append([]byte("["), raw...), ']')
	default:
		return nil, badf("function call %.60q, want JSON with %q and %q", raw, "name", "arguments")
	}
	return parseCalls(raw)
}

// parseCalls reads a list of {"id", "function": {"name", "arguments"}} or {"name", "arguments"}.
func parseCalls(raw []byte) ([]chat.Call, error) {
	var list []object
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, badf("the tool calls are %.60q, want objects with %q and %q", raw, "name", "arguments")
	}
	var calls []chat.Call
	for i, o := range list {
		call, err := o.call()
		if err != nil {
			return nil, inCall(i+1, len(list), err)
		}
		calls = append(calls, call)
	}
	return calls, nil
}

func inCall(i, of int, err error) error {
	e, ok := err.(*FormatError)
	if !ok || of == 1 {
		return err
	}
	return &FormatError{Msg: badf("tool call %d: %s", i, e.Msg).(*FormatError).Msg, Err: e.Err}
}

// Names of a call's fields.
var (
	nameFields     = []string{"name", "tool_name", "function_name"}
	argumentFields = []string{"arguments", "parameters", "input", "args", "params", "kwargs", "tool_input"}
	idFields       = []string{"id", "type", "index", "tool_call_id", "call_id"}
)

// call reads one call. Nothing of it is left over, so that arguments of another name are not learned as none.
func (o object) call() (c chat.Call, err error) {
	id, err := o.text("id")
	if err != nil {
		return c, err
	}
	inner := o
	if raw, ok := o["function"]; ok && jsonKind(raw) == "an object" {
		inner = nil
		json.Unmarshal(raw, &inner) // raw is a value of a document that parsed
		if err := o.onlyFields("function"); err != nil {
			return c, err
		}
	} else if ok { // "function": "name"
		inner = object{"name": raw}
		for k, v := range o {
			if k != "function" {
				inner[k] = v
			}
		}
	}
	name, arguments := inner.one(nameFields), inner.one(argumentFields)
	if err := inner.onlyFields(name, arguments); err != nil {
		return c, err
	}
	text := ""
	if name != "" {
		if text, err = inner.text(name); err != nil {
			return c, err
		}
	}
	return chat.NewCall(id, text, inner[arguments])
}

// onlyFields refuses a call that has something in other fields than these.
func (o object) onlyFields(names ...string) error {
	for name, raw := range o {
		if !slices.Contains(names, name) && !slices.Contains(idFields, name) && !hollow(raw) {
			return badf("tool call has the fields %s, want %q and %q", fieldNames(o), "name", "arguments")
		}
	}
	return nil
}

// hollow reports whether a value holds nothing.
func hollow(raw []byte) bool {
	switch string(bytes.TrimSpace(raw)) {
	case "null", `""`, "[]", "{}":
		return true
	}
	return false
}
