package chat

import (
	"encoding/json"
	"strings"

	"finetune/chat/jinja"
)

// The first templates of Gemma 4, which many files have, print the results of tools as a part of the message that called them.
// llama-server recognizes them and moves the results there, and so does this.
const (
	gathersMark = "'<|tool_call>call:'"          // of Gemma 4's templates
	gathersNot  = "{#- OpenAI Chat Completions:" // of those that came later and take messages of tools
	turnEnd     = "<turn|>\n"
	turnBegin   = "<|turn>model\n"
)

// gathersResults reports whether a template wants the results of tools in the message that called them.
func gathersResults(source string) bool {
	return strings.Contains(source, gathersMark) && !strings.Contains(source, gathersNot)
}

// gathered makes one message of a call, the results behind it and the answer behind those.
func gathered(messages []Message) (out []Message) {
	for i := 0; i < len(messages); i++ {
		m := messages[i]
		if m.Role != "assistant" || len(m.Calls) == 0 {
			out = append(out, m)
			continue
		}
		var results []any
		for i+1 < len(messages) && messages[i+1].Role == "tool" {
			i++
			results = append(results, m.result(len(results), messages[i]))
		}
		if len(results) > 0 {
			m.Content, m.Parts, m.Null = "", nil, true
			m.extra = withField(m.extra, "tool_responses", results)
			if i+1 < len(messages) && messages[i+1].answers() {
				i++
				m.Content, m.Parts, m.Null = messages[i].Content, messages[i].Parts, false
			}
		}
		out = append(out, m)
	}
	return out
}

// withField is a copy of other fields of a message, with one more.
func withField(extra *jinja.Dict, name string, v any) *jinja.Dict {
	d := new(jinja.Dict)
	if extra != nil {
		for _, k := range extra.Keys() {
			x, _ := extra.Get(k)
			d.Set(k, x)
		}
	}
	d.Set(name, v)
	return d
}

// answers reports whether a message is an assistant's that says something and calls nothing.
func (m Message) answers() bool { return m.Role == "assistant" && len(m.Calls) == 0 && m.Content != "" }

// result is what the template sees of the n-th result of a message's calls, from 0.
func (m Message) result(n int, tool Message) any {
	var response any = tool.Content
	if json.Valid([]byte(tool.Content)) {
		if v, err := jinja.FromJSON([]byte(tool.Content)); err == nil {
			response = v
		}
	}
	name := ""
	if n < len(m.Calls) {
		name = m.Calls[n].Name
	} else if tool.extra != nil {
		name, _ = text(tool.extra, "tool_call_id")
	}
	d := new(jinja.Dict)
	d.Set("name", name)
	d.Set("response", response)
	return d
}

// opened ends a text that is to be answered with the beginning of the answer's turn, which the template leaves out behind an
// answer to the results of tools.
func opened(text string) string {
	if strings.HasSuffix(text, turnEnd) {
		text += turnBegin
	}
	return text
}
