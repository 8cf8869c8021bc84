package chat_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"finetune/chat"
	"finetune/internal/llamachat"
	"finetune/internal/need"
)

const weatherTools = `[{"type": "function", "function": {"name": "get_temp", "description": "temperature of a city", "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "its name"}, "days": {"type": "integer"}}, "required": ["city"]}}}]`

// conversations as an app sends them; those with "tools" have the ones above.
var conversations = []struct{ name, messages string }{
	{"one turn", `[{"role": "user", "content": "Hi there"}]`},
	{"a whole turn", `[{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello, you."}]`},
	{"system", `[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello, you."}, {"role": "user", "content": "And now?"}]`},
	{"several turns", `[{"role": "user", "content": "One"}, {"role": "assistant", "content": "1"}, {"role": "user", "content": " Two \n"}, {"role": "assistant", "content": " 2 \n"}, {"role": "user", "content": "Three \"é\" <b>"}]`},
	{"thoughts", `[{"role": "user", "content": "Is 3 even?"}, {"role": "assistant", "content": "No.", "reasoning_content": "3 / 2 is 1.5"}]`},
	{"thoughts of earlier turns", `[{"role": "user", "content": "Is 3 even?"}, {"role": "assistant", "content": "No.", "reasoning_content": "3 / 2 is 1.5"}, {"role": "user", "content": "And 4?"}, {"role": "assistant", "content": "Yes.", "reasoning_content": "4 / 2 is 2"}]`},
	{"thoughts in the content", `[{"role": "user", "content": "Is 3 even?"}, {"role": "assistant", "content": "<think>\n3 / 2 is 1.5\n</think>\n\nNo."}, {"role": "user", "content": "And 4?"}]`},
	{"tools listed", `[{"role": "user", "content": "How warm is it in Oslo?"}]`},
	{"tools called", `[{"role": "user", "content": "How warm is it in Oslo?"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdef123", "type": "function", "function": {"name": "get_temp", "arguments": "{\"city\": \"Oslo\", \"days\": 2}"}}]}, {"role": "tool", "tool_call_id": "abcdef123", "name": "get_temp", "content": "{\"celsius\": 4}"}, {"role": "assistant", "content": "It is 4 degrees."}]`},
	{"tools called as the last turn", `[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How warm is it in Oslo?"}, {"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": "abcdef123", "type": "function", "function": {"name": "get_temp", "arguments": "{\"city\": \"Oslo\"}"}}]}]`},
	{"tools called twice with thoughts", `[{"role": "user", "content": "Oslo and Rome?"}, {"role": "assistant", "content": "", "reasoning_content": "two calls", "tool_calls": [{"id": "abcdef123", "type": "function", "function": {"name": "get_temp", "arguments": "{\"city\": \"Oslo\"}"}}, {"id": "abcdef124", "type": "function", "function": {"name": "get_temp", "arguments": "{\"city\": \"Rome\"}"}}]}, {"role": "tool", "tool_call_id": "abcdef123", "name": "get_temp", "content": "4"}, {"role": "tool", "tool_call_id": "abcdef124", "name": "get_temp", "content": "14"}]`},
}

// TestTemplatesAsLlamaServer: every template of llama.cpp's source package renders to the text that llama-server sends.
func TestTemplatesAsLlamaServer(t *testing.T) {
	need.Long(t, "llama.cpp analyses each template for every text")
	o := llamachat.New(t)
	same, both, refused, known := 0, 0, 0, 0
	for _, path := range o.Templates {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		tmpl, err := chat.ParseTemplate(string(source), names{}, time.Now())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, c := range conversations {
			var messages []any
			if err := json.Unmarshal([]byte(c.messages), &messages); err != nil {
				t.Fatal(err)
			}
			for _, generate := range []bool{false, true} {
				q := map[string]any{"template": string(source), "messages": messages, "generate": generate, "bos": "<s>", "eos": "</s>"}
				var tools any
				if strings.HasPrefix(c.name, "tools") {
					q["tools"] = json.RawMessage(weatherTools)
					tools, _, _ = chat.ParseTools([]byte(weatherTools))
				}
				want := o.Ask(q)
				got, err := tmpl.Render(openAI(t, c.messages), tools, generate)
				switch {
				case want.Error != "" && err != nil:
					refused++
				case want.Error != "" || err != nil:
					t.Errorf("%s, %s, generation prompt %v\n got %.300q, %v\nwant %.300q, %s", name, c.name, generate, got, err, want.Text, want.Error)
				case got == want.Text:
					same++
					both++
				case otherThanLlamaServer(name, c.name, c.messages, want.Text):
					both++
					known++
				default:
					both++
					t.Errorf("%s, %s, generation prompt %v: %s", name, c.name, generate, difference(got, want.Text))
				}
			}
		}
	}
	if known != 16 {
		t.Errorf("%d texts are others for reasons that are known, want 16", known)
	}
	t.Logf("%d templates: %d of %d texts are the same, %d others for reasons that are known, %d refused by both", len(o.Templates), same, both, known, refused)
}

// otherThanLlamaServer reports whether a text is meant to be another than llama-server's.
func otherThanLlamaServer(template, conversation, messages, theirs string) bool {
	switch template {
	case "openai-gpt-oss-120b.jinja": // a finished answer ends with the token that the model ends with; llama-server puts that of history there
		return strings.Contains(theirs, "<|end|>")
	case "unsloth-mistral-Devstral-Small-2507.jinja": // llama-server gives thoughts as parts, which this template drops with the answer
		return strings.HasPrefix(conversation, "thoughts") && !strings.Contains(theirs, "No.")
	case "upstage-Solar-Open-100B.jinja": // prints thoughts of the field "reasoning", which llama-server does not send
		return strings.Contains(messages, "reasoning_content") && !strings.Contains(theirs, "3 / 2 is 1.5") && !strings.Contains(theirs, "two calls")
	case "google-gemma-4-31B-it-interleaved.jinja": // llama-server drops what is said beside a call, which is to be learned
		return conversation == "tools called as the last turn" && !strings.Contains(theirs, "Let me see.")
	}
	return false
}

// difference shows where two texts part.
func difference(got, want string) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	from := max(0, i-60)
	show := func(s string) string { return s[min(from, len(s)):min(i+120, len(s))] }
	a, _ := json.Marshal(show(got))
	b, _ := json.Marshal(show(want))
	return "\n got …" + string(a) + "\nwant …" + string(b)
}

// openAI reads messages of OpenAI's form.
func openAI(t *testing.T, array string) (messages []chat.Message) {
	t.Helper()
	var list []struct {
		Role, Content, Name string
		Thought             string `json:"reasoning_content"`
		ID                  string `json:"tool_call_id"`
		Calls               []struct {
			ID       string
			Function struct {
				Name      string
				Arguments json.RawMessage
			}
		} `json:"tool_calls"`
	}
	if err := json.Unmarshal([]byte(array), &list); err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		m := chat.Message{Role: x.Role, Content: x.Content, Thought: x.Thought}
		for _, c := range x.Calls {
			call, err := chat.NewCall(c.ID, c.Function.Name, c.Function.Arguments)
			if err != nil {
				t.Fatal(err)
			}
			m.Calls = append(m.Calls, call)
		}
		if x.ID != "" {
			extra, _ := json.Marshal(map[string]string{"tool_call_id": x.ID, "name": x.Name})
			var err error
			if m, err = m.WithFields(extra); err != nil {
				t.Fatal(err)
			}
		}
		messages = append(messages, m)
	}
	return messages
}

// constructsOfLlama are the constructs that llama.cpp's engine writes otherwise than Jinja2, and how, or "error" where it
// does not know them.
var constructsOfLlama = map[string]string{
	"for recursive":         "error",
	"loop variables":        "error",
	"loop cycle":            "error",
	"loop changed":          "error",
	"set block filtered":    "error",
	"macro attributes":      "error",
	"filter block":          "error",
	"with":                  "error",
	"block":                 "error",
	"raw":                   "error",
	"autoescape":            "error",
	"percent":               "error",
	"percent one":           "error",
	"percent named":         "error",
	"percent floats":        "error",
	"format method":         "error",
	"batch":                 "error",
	"slice":                 "error",
	"groupby":               "error",
	"map with arguments":    "error",
	"select with arguments": "error",
	"selectattr":            "error",
	"center":                "error",
	"truncate":              "error",
	"wordcount":             "error",
	"urlencode":             "error",
	"joiner":                "error",
	"cycler":                "error",
	"chained comparison":    "error",
	"tests":                 "error",
	"string methods":        "error",
	"dict methods":          "error",
	"list repeated":         "error",
	"macro varargs":         "1||",
	"comment":               "b",
	"format filter":         "%s, %s!%(x)s",
	"sort by attribute":     "baC",
	"dictsort items":        "a2b1b1",
	"slicing":               "234321abc13",
	"concatenation":         "a1True12ab",
}

// TestConstructsAsLlamaServer: where llama.cpp's engine knows a construct, it writes what ours writes, which is Jinja2's.
func TestConstructsAsLlamaServer(t *testing.T) {
	o := llamachat.New(t)
	b, err := os.ReadFile("jinja/testdata/jinja2.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Messages json.RawMessage
		Cases    []struct {
			Construct, Template string
			Text                string
		}
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	same, all := 0, 0
	for _, c := range golden.Cases {
		if c.Construct == "" {
			continue
		}
		all++
		r := o.Ask(map[string]any{"engine": true, "template": c.Template, "vars": map[string]any{"messages": golden.Messages}})
		known := constructsOfLlama[c.Construct]
		switch {
		case r.Error == "" && r.Text == c.Text:
			same++
			if known != "" {
				t.Errorf("%s: the engine writes it as Jinja2 does, want %s", c.Construct, known)
			}
		case r.Error != "" && known != "error", r.Error == "" && known != r.Text:
			t.Errorf("%q: %q, // %.150q", c.Construct, r.Text, r.Error)
		}
	}
	t.Logf("%d of %d constructs are the same in llama.cpp's engine", same, all)
}
