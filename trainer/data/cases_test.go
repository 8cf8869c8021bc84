package data

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"finetune/chat"
	"finetune/internal/need"

	"github.com/klauspost/compress/zstd"
)

// learnt lists the examples of a file with their learned parts in «», without what stands behind the last of them.
func learnt(t *testing.T, path string, o options) []string {
	t.Helper()
	o.NCtx, o.Tokenizer = 4000, byteTokenizer{}
	var all []string
	for _, e := range examples(mustLoad(t, path, o).Train) {
		text := marked(e, o.Tokenizer)
		all = append(all, text[:strings.LastIndex(text, "»")+len("»")])
	}
	slices.Sort(all)
	return all
}

// sameLearnt holds that files are learned alike.
func sameLearnt(t *testing.T, o options, want string, files ...string) {
	t.Helper()
	wanted := learnt(t, want, options{})
	for _, f := range files {
		if got := learnt(t, f, o); !slices.Equal(got, wanted) {
			t.Errorf("%s\n got %q\nwant %q", filepath.Base(f), got, wanted)
		}
	}
}

// toolChat prints tools, calls and their results, and takes arguments as objects.
const toolChat = `{% if tools %}<|im_start|>system
{% for t in tools %}{{ t | tojson }}
{% endfor %}<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.tool_calls %}{% for c in m.tool_calls %}<call>{{ c.function.name }} {{ c.function.arguments | tojson }}</call>{% endfor %}{% else %}{{ m.content }}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`

const (
	lampTool   = `{"name": "lamp", "description": "switch a lamp", "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}}}`
	lampTools  = `[{"type": "function", "function": ` + lampTool + `}]`
	lampHead   = `<|im_start|>system\n{\"type\": \"function\", \"function\": {\"name\": \"lamp\", \"description\": \"switch a lamp\", \"parameters\": {\"type\": \"object\", \"properties\": {\"on\": {\"type\": \"boolean\"}}}}}\n<|im_end|>\n`
	lampAsked  = `<|im_start|>user\nLight, please.<|im_end|>\n<|im_start|>assistant\n`
	lampCalled = `<call>lamp {\"on\": true}</call><|im_end|>`
)

func quoted(s string) string { b, _ := json.Marshal(s); return string(b) }

// TestConversationsMeanTheSame: the forms that a conversation comes in are learned alike.
func TestConversationsMeanTheSame(t *testing.T) {
	call := `{"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "lamp", "arguments": ` + "%" + `}}]}`
	withCall := func(arguments string) string { return strings.Replace(call, "%", arguments, 1) }
	asked := `{"role": "user", "content": "Light, please."}`
	for _, c := range []struct {
		name string
		o    options
		want string // as prompt and completion
		same []string
	}{
		{"a call of a tool", options{Template: chat.Source{Default: toolChat}},
			`{"prompt": "` + lampHead + lampAsked + `", "completion": "` + lampCalled + `"}`,
			[]string{
				`{"messages": [` + asked + `, ` + withCall(`{"on": true}`) + `], "tools": ` + lampTools + `}`,
				`{"messages": [` + asked + `, ` + withCall(`"{\"on\": true}"`) + `], "tools": ` + lampTools + `}`,
				`{"messages": [` + asked + `, ` + withCall(`{"on": true}`) + `], "tools": ` + quoted(lampTools) + `}`,
				`{"messages": [` + asked + `, ` + withCall(`{"on": true}`) + `], "functions": [` + lampTool + `]}`,
				`{"messages": [` + asked + `, {"role": "assistant", "content": null, "function_call": {"name": "lamp", "arguments": "{\"on\":true}"}}], "functions": [` + lampTool + `]}`,
				`{"conversations": [{"from": "human", "value": "Light, please."}, {"from": "function_call", "value": "{\"name\": \"lamp\", \"arguments\": {\"on\": true}}"}], "tools": ` + quoted("["+lampTool+"]") + `}`,
				`{"messages": ` + quoted(`[`+asked+`, `+withCall(`{"on": true}`)+`]`) + `, "tools": ` + quoted(lampTools) + `}`,
			}},
		{"a call in the template of that name", options{Template: chat.Source{Default: chatML, ToolUse: toolChat}},
			`{"prompt": "` + lampHead + lampAsked + `", "completion": "` + lampCalled + `"}`,
			[]string{`{"messages": [` + asked + `, ` + withCall(`{"on": true}`) + `], "tools": ` + lampTools + `}`}},
		{"a result of a tool, a system text", options{Template: chat.Source{Default: toolChat}},
			`{"prompt": "` + `<|im_start|>system\nBe kind.<|im_end|>\n` + lampAsked + `", "completion": "` + lampCalled + `"}`,
			[]string{`{"conversations": [{"from": "human", "value": "Light, please."}, {"from": "function_call", "value": "{\"name\": \"lamp\", \"arguments\": {\"on\": true}}"}, {"from": "observation", "value": "done"}], "system": "Be kind."}`,
				`{"system": "Be kind.", "messages": [` + asked + `, ` + withCall(`{"on": true}`) + `]}`,
				`{"system": "Be kind.", "messages": [{"role": "system", "content": "Be kind."}, ` + asked + `, ` + withCall(`{"on": true}`) + `]}`}},
		{"earlier turns", options{Template: chat.Source{Default: chatML}},
			`{"prompt": "<|im_start|>system\nOne word.<|im_end|>\n<|im_start|>user\nsky?<|im_end|>\n<|im_start|>assistant\n", "completion": "Blue.<|im_end|>"}`,
			[]string{`{"instruction": "sky?", "input": "", "output": "Blue.", "system": "One word."}`, `{"instruction": "sky?", "output": "Blue.", "system": "One word.", "history": []}`,
				`{"system_prompt": "One word.", "question": "sky?", "response": "Blue."}`, `{"system": "One word.", "messages": [{"role": "user", "content": "sky?"}, {"role": "assistant", "content": "Blue."}]}`}},
		{"null and a template that asks for it", options{Template: chat.Source{Default: `{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.content is none %}{% for c in m.tool_calls %}<call>{{ c.function.name }} {{ c.function.arguments | tojson }}</call>{% endfor %}{% else %}{{ m.content }}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`}},
			`{"prompt": "` + lampAsked + `", "completion": "` + lampCalled + `"}`, []string{`{"messages": [` + asked + `, ` + withCall(`{"on": true}`) + `]}`}},
		{"null and a template that prints it as None", options{Template: chat.Source{Default: `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls or [] %}<call>{{ c.function.name }} {{ c.function.arguments | tojson }}</call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`}},
			`{"prompt": "` + lampAsked + `", "completion": "` + lampCalled + `"}`, []string{`{"messages": [` + asked + `, ` + withCall(`{"on": true}`) + `]}`}},
		{"a template that wants arguments as a text", options{Template: chat.Source{Default: `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls or [] %}{{ '<call>' + c.function.name + ' ' + c.function.arguments + '</call>' }}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`}},
			`{"prompt": "` + lampAsked + `", "completion": "<call>lamp {\"on\":true}</call><|im_end|>"}`,
			[]string{`{"messages": [` + asked + `, ` + withCall(`{"on": true}`) + `]}`, `{"messages": [` + asked + `, ` + withCall(`"{\"on\":true}"`) + `]}`}},
		{"a template without a place for a system text", options{Template: chat.Source{Default: `{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}` + chatML}},
			`{"prompt": "<|im_start|>user\nOne word.\nsky?<|im_end|>\n<|im_start|>assistant\n", "completion": "Blue.<|im_end|>"}`,
			[]string{`{"instruction": "sky?", "output": "Blue.", "system": "One word."}`}},
		{"a date", options{Now: time.Date(2031, 5, 4, 0, 0, 0, 0, time.UTC), Template: chat.Source{Default: `{{ strftime_now('%d %B %Y') }}
` + chatML}},
			`{"prompt": "04 May 2031\n<|im_start|>user\nsky?<|im_end|>\n<|im_start|>assistant\n", "completion": "Blue.<|im_end|>"}`,
			[]string{`{"prompt": "sky?", "response": "Blue."}`}},
		{"an argument", options{Args: chat.Args{"mood": "dark"}, Template: chat.Source{Default: `{{ mood }}` + chatML}},
			`{"prompt": "dark<|im_start|>user\nsky?<|im_end|>\n<|im_start|>assistant\n", "completion": "Blue.<|im_end|>"}`,
			[]string{`{"query": "sky?", "response": "Blue."}`, `{"Question": "sky?", "Answer": "Blue."}`, `{"input": "sky?", "output": "Blue."}`}},
		{"numbers and truth", options{Template: chat.Source{Default: chatML}},
			`{"prompt": "<|im_start|>user\n7<|im_end|>\n<|im_start|>assistant\n", "completion": "true<|im_end|>"}`,
			[]string{`{"question": 7, "answer": true}`, `{"instruction": "7", "response": "true"}`}},
		{"the better of two answers", options{Template: chat.Source{Default: chatML}},
			`{"prompt": "<|im_start|>user\nsky?<|im_end|>\n<|im_start|>assistant\n", "completion": "Blue.<|im_end|>"}`,
			[]string{`{"prompt": "sky?", "chosen": "Blue.", "rejected": "Red."}`,
				`{"chosen": [{"role": "user", "content": "sky?"}, {"role": "assistant", "content": "Blue."}], "rejected": [{"role": "user", "content": "sky?"}, {"role": "assistant", "content": "Red."}]}`,
				`{"prompt": [{"role": "user", "content": "sky?"}], "chosen": [{"role": "assistant", "content": "Blue."}], "rejected": [{"role": "assistant", "content": "Red."}]}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, record := range c.same {
				sameLearnt(t, c.o, write(t, "want.jsonl", c.want), write(t, "a.jsonl", record))
			}
		})
	}
}

// cutsThoughts drops the thoughts of answers and begins new ones with a tag of its own.
const cutsThoughts = `{% for m in messages %}<|im_start|>{{ m.role }}
{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
<think>
{% endif %}`

func TestThoughtsAreLearnedAsGiven(t *testing.T) {
	o := options{Template: chat.Source{Default: cutsThoughts}}
	want := write(t, "want.jsonl", `{"prompt": "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n<think>\n", "completion": "two and two\n</think>\n\n4<|im_end|>"}`)
	for _, answer := range []string{
		`"content": "<think>\ntwo and two\n</think>\n\n4"`, `"content": "<think>two and two\n</think>\n\n4"`, `"content": "two and two\n</think>\n\n4"`,
		`"content": [{"type": "thinking", "thinking": "two and two"}, {"type": "text", "text": "4"}]`,
		`"reasoning_content": "two and two", "content": "4"`, `"thinking": "two and two\n", "content": "4"`,
	} {
		path := write(t, "a.jsonl", `{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", `+answer+`}]}`)
		sameLearnt(t, o, want, path)
		o := o
		o.NCtx, o.Tokenizer = 500, byteTokenizer{}
		if s := mustLoad(t, path, o).Train.Stats(); s.Given != 1 || s.Inexact != 0 {
			t.Errorf("%s: %+v, want one answer as given", answer, s)
		}
	}
}

// What a template loses is refused with the line and what to do, or told, or left out; it is never learned as an empty answer.
func TestLossesAreNeverSilent(t *testing.T) {
	good := `{"messages": [{"role": "user", "content": "sky?"}, {"role": "assistant", "content": "Blue."}]}` + "\n"
	for _, c := range []struct{ name, template, record, lost string }{
		{"a call", chatML, `{"messages": [{"role": "user", "content": "Light!"}, {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "lamp", "arguments": {"on": true}}}]}]}`, "tool call of message 2, arguments of a tool call of message 2"},
		{"the arguments of a call", strings.Replace(chatML, "{{ m.content }}", "{{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}", 1),
			`{"messages": [{"role": "user", "content": "Light!"}, {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "lamp", "arguments": {"room": "hall"}}}]}]}`, "arguments of a tool call of message 2"},
		{"the tools", chatML, `{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}], "tools": ` + lampTools + `}`, "list of tools"},
		{"thoughts in a field", chatML, `{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo", "reasoning_content": "a greeting"}]}`, "thoughts of message 2"},
		{"a system text in the middle", strings.Replace(chatML, "{{ m.content }}", "{% if m.role != 'system' or loop.first %}{{ m.content }}{% endif %}", 1),
			`{"messages": [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Now in verse."}, {"role": "assistant", "content": "Yo"}]}`, "system text of message 2"},
		{"a result of a tool", strings.Replace(chatML, "{{ m.content }}", "{% if m.role != 'tool' %}{{ m.content }}{% endif %}", 1),
			`{"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "four degrees"}, {"role": "assistant", "content": "Yo"}]}`, "content of a tool's message of message 2"},
		{"an answer", strings.Replace(chatML, "{{ m.content }}", "{{ m.content[:12] }}", 1), `{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A long answer."}]}`, "content of message 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, "a.jsonl", good+c.record)
			o := options{NCtx: 500, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: c.template}}
			_, err := loadFile(path, o)
			if want := "line 2: the chat template loses the " + c.lost; !errors.Is(err, errLost) || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("refused as %v, want …%s", err, want)
			}
			o.OnLost = "skip"
			if s := mustLoad(t, path, o).Train.Stats(); s.LostSkipped != 1 || s.Examples != 1 || !strings.HasSuffix(s.LostFirst, "line 2: the "+c.lost) {
				t.Errorf("skipped: %+v, want one record left out", s)
			}
			o.OnLost = "warn"
			set := mustLoad(t, path, o)
			if s := set.Train.Stats(); s.LostRecords != 1 || len(s.Notes(500)) == 0 {
				t.Errorf("warned: %+v, want one record that loses something", s)
			}
			for _, e := range examples(set.Train) {
				if strings.Contains(marked(e, o.Tokenizer), "«<|im_end|>»") {
					t.Errorf("learned as an empty answer: %s", marked(e, o.Tokenizer))
				}
			}
		})
	}
}

func TestEmptyAnswersAreLeftOut(t *testing.T) {
	for _, c := range []struct {
		name, records  string
		empty, trained int
	}{
		{"chat", `{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " \n"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "B"}]}
{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null}]}`, 2, 1},
		{"alpaca", `{"instruction": "a", "output": ""}` + "\n" + `{"instruction": "a", "output": null}` + "\n" + `{"instruction": "b", "output": "B"}`, 2, 1},
		{"completion", `{"prompt": "a", "completion": "\n"}` + "\n" + `{"prompt": "b", "completion": "B"}`, 1, 1},
		{"text", `{"text": " "}` + "\n" + `{"text": "B"}`, 1, 1},
	} {
		for _, template := range []string{chatML, ""} {
			if template == "" && c.name == "chat" {
				continue
			}
			set := mustLoad(t, write(t, "a.jsonl", c.records), options{NCtx: 500, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: template}})
			if s := set.Train.Stats(); s.Empty != c.empty || s.Examples != c.trained || s.NoLoss != 0 {
				t.Errorf("%s: %+v, want %d empty answers, %d examples", c.name, s, c.empty, c.trained)
			}
		}
	}
	_, err := loadFile(write(t, "a.jsonl", `{"instruction": "a", "output": ""}`), options{NCtx: 50, Tokenizer: byteTokenizer{}})
	if !errors.Is(err, ErrNoTrained) || !strings.Contains(err.Error(), "no trained token in 1 records: 1 with an empty answer") {
		t.Errorf("nothing but empty answers: %v", err)
	}
}

func TestStopTokensInsideAnAnswerAreTold(t *testing.T) {
	for _, record := range []string{`{"question": "a", "answer": "one<|im_end|>two"}`, `{"prompt": "a", "completion": "one</s>two"}`} {
		set := mustLoad(t, write(t, "a.jsonl", record), options{NCtx: 500, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: chatML}})
		if s := set.Train.Stats(); s.StopsInside != 1 {
			t.Errorf("%s: %+v, want one stop inside an answer", record, s)
		}
	}
}

// TestSharedCases: inputs that people had, see ../shared/data/cases.
func TestSharedCases(t *testing.T) {
	t.Run("our own", func(t *testing.T) {
		sameLearnt(t, options{}, write(t, "a.jsonl", `{"prompt": "a", "completion": "b"}`), write(t, "b.csv", "prompt,completion\na,b\n"))
	})
	path := func(t *testing.T, name string) string { return need.Shared(t, "cases/"+name) }
	source := func(t *testing.T, name string) options {
		b, err := os.ReadFile(path(t, name))
		if err != nil {
			t.Fatal(err)
		}
		return options{Template: chat.Source{Default: string(b)}, Now: time.Now()}
	}
	t.Run("01", func(t *testing.T) {
		o := source(t, "03-tool-arguments-as-string/template.jinja")
		for _, file := range []string{"train.jsonl", "four.jsonl", "callonly.jsonl"} {
			for _, text := range learnt(t, path(t, "01-sharegpt-tools/"+file), o) {
				if !strings.Contains(text, "You can call:\n") || !strings.Contains(text, "You are a weather helper.") || !strings.Contains(text, "«<tool_call>\n{\"name\": \"get_temp\", \"arguments\": {\"city\": ") &&
					!strings.Contains(text, "«\n<tool_call>") && !strings.Contains(text, "<tool_call>") {
					t.Errorf("%s: %s", file, text)
				}
			}
		}
		mark := options{NCtx: 4000, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: chatML}}
		if _, err := loadFile(path(t, "01-sharegpt-tools/train.jsonl"), mark); !errors.Is(err, errLost) {
			t.Errorf("a template without tools: %v, want a refusal", err)
		}
	})
	t.Run("02", func(t *testing.T) {
		o := options{Template: chat.Source{Default: chatML}}
		want := learnt(t, path(t, "02-alpaca-system-history/what-it-means.jsonl"), o)
		for _, file := range []string{"train.jsonl", "train.json"} {
			if got := learnt(t, path(t, "02-alpaca-system-history/"+file), o); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", file, got, want)
			}
		}
		if got := learnt(t, path(t, "02-alpaca-system-history/messages-with-system.jsonl"), o); !strings.Contains(got[0], "system\nAnswer with one word.<|im_end|>") {
			t.Errorf("messages-with-system: %q", got)
		}
	})
	t.Run("03", func(t *testing.T) {
		sameLearnt(t, source(t, "03-tool-arguments-as-string/template.jinja"), path(t, "03-tool-arguments-as-string/expected-object.jsonl"),
			path(t, "03-tool-arguments-as-string/object.jsonl"), path(t, "03-tool-arguments-as-string/string.jsonl"))
	})
	t.Run("14", func(t *testing.T) {
		var list []struct{ Name, Template string }
		b, err := os.ReadFile(path(t, "14-named-templates/templates.json"))
		if err != nil || json.Unmarshal(b, &list) != nil {
			t.Fatal(err)
		}
		both := chat.Source{Default: list[0].Template, ToolUse: list[1].Template}
		sameLearnt(t, options{Template: both}, path(t, "14-named-templates/as-tool_use.jsonl"), path(t, "14-named-templates/train.jsonl"))
		for _, file := range []string{"chatml-tool_calls.jsonl", "chatml-function_call.jsonl"} {
			o := options{NCtx: 500, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: chatML}}
			if _, err := loadFile(path(t, "14-named-templates/"+file), o); !errors.Is(err, errLost) {
				t.Errorf("%s: %v, want a refusal", file, err)
			}
			if o.OnLost = "warn"; true {
				if _, err := loadFile(path(t, "14-named-templates/"+file), o); !errors.Is(err, ErrNoTrained) {
					t.Errorf("%s, warned: %v, want nothing learned", file, err)
				}
			}
		}
	})
	t.Run("15", func(t *testing.T) {
		sharedOddValues(t, func(name string) string { return path(t, "15-empty-and-odd-values/"+name) })
	})
	t.Run("21", func(t *testing.T) {
		for _, text := range learnt(t, path(t, "21-unguarded-date/train.jsonl"), source(t, "21-unguarded-date/template.jinja")) {
			if !strings.Contains(text, "Today is "+time.Now().Format("02 January 2006")) {
				t.Errorf("%s", text)
			}
		}
	})
	t.Run("28", func(t *testing.T) {
		sameLearnt(t, source(t, "28-r1-template/template.jinja"), path(t, "28-r1-template/what-an-app-needs.jsonl"),
			path(t, "28-r1-template/inline.jsonl"), path(t, "28-r1-template/close-only.jsonl"))
	})
	t.Run("30", func(t *testing.T) {
		o := source(t, "03-tool-arguments-as-string/template.jinja")
		want := learnt(t, path(t, "30-tools-as-string/list.jsonl"), o)
		for _, file := range []string{"string.jsonl", "functions.jsonl"} {
			if got := learnt(t, path(t, "30-tools-as-string/"+file), o); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", file, got, want)
			}
		}
	})
	t.Run("36", func(t *testing.T) {
		sameLearnt(t, source(t, "36-null-content/template.jinja"), path(t, "36-null-content/expected.jsonl"), path(t, "36-null-content/null.jsonl"))
	})
}

// sharedOddValues: each file is read as a person would, or refused in a line.
func sharedOddValues(t *testing.T, path func(string) string) {
	for file, want := range map[string]string{
		"blank-answer.jsonl": "6 with an empty answer", "empty-output.jsonl": "6 with an empty answer", "null-output.jsonl": "6 with an empty answer",
		"bom-crlf.jsonl": "yes", "bool-answer.jsonl": "true", "capital-keys.jsonl": "yes", "chosen-rejected.jsonl": "yes", "data-wrapper.jsonl": "yes",
		"input-output.jsonl": "yes", "number-output.jsonl": "0", "one-empty-output.jsonl": "yes", "one-object.json": "yes", "pretty.jsonl": "yes",
		"prompt-response.jsonl": "yes", "records.txt": "yes", "utf16.jsonl": "yes",
		"jsonl-commas.jsonl": "line 1: comma behind the object", "latin1.jsonl": "line 1: byte 13 of the line is 0xF9, not UTF-8 (in Latin-1 it is \"ù\")",
		"list-output.jsonl": "line 1: \"output\" is an array", "object-output.jsonl": "line 1: \"output\" is an object", "mixed-text-and-qa.jsonl": "line 2: record is of the format text",
		"nan.jsonl": "line 4: NaN is no JSON value", "single-quotes.jsonl": "line 1: single quotes", "surrogate.jsonl": "line 1: \\ud83d is half of a character",
		"trailing-comma.json": "line 7: comma behind the last element",
	} {
		set, err := loadFile(path(file), options{NCtx: 500, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: chatML}})
		switch {
		case err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: %v, want %s", file, err, want)
		case err == nil && !slices.ContainsFunc(examples(set.Train), func(e example) bool { return strings.Contains(marked(e, byteTokenizer{}), "«"+want) }):
			t.Errorf("%s: %s, want %s learned", file, marked(examples(set.Train)[0], byteTokenizer{}), want)
		case err == nil && len(examples(set.Train)) < 5:
			t.Errorf("%s: %d examples", file, len(examples(set.Train)))
		}
	}
}

func TestParquetOfPyarrow(t *testing.T) {
	o := options{NCtx: 500, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: toolChat}}
	got := learnt(t, "testdata/chats.parquet", o)
	want := []string{"<|im_start|>user\nLight!<|im_end|>\n<|im_start|>assistant\n«<call>lamp {\"on\": true}</call><|im_end|>»", "<|im_start|>user\nsky?<|im_end|>\n<|im_start|>assistant\n«Blue.<|im_end|>»"}
	if !slices.Equal(got, want) {
		t.Errorf("chats: %q, want %q", got, want)
	}
	set := mustLoad(t, "testdata/pairs.parquet", o)
	if s := set.Train.Stats(); s.Records != 100 || s.Source.Format != "question-answer" {
		t.Errorf("pairs: %+v, want 100 questions", s)
	}
	// A byte that is another anywhere is an error or the same number of records, never a panic.
	whole, err := os.ReadFile("testdata/pairs.parquet")
	if err != nil {
		t.Fatal(err)
	}
	o.Template = chat.Source{}
	for i := 0; i < len(whole); i += 3 {
		b := slices.Clone(whole)
		b[i] ^= 0x55
		// A panic about pointers is none under the race detector, where it ends the process.
		if _, err := loadFile(write(t, "a.parquet", string(b)), o); err != nil && (strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "unsafe")) {
			t.Errorf("byte %d: %q, want one line of a file", i, err)
		}
	}
}

func TestFilesOfEveryKindReadAlike(t *testing.T) {
	lines := "{\"question\": \"a\", \"answer\": \"1\"}\n{\"question\": \"b\", \"answer\": \"2\"}\n"
	array := "[" + strings.ReplaceAll(strings.TrimSpace(lines), "\n", ",\n") + "]"
	want := learnt(t, write(t, "want.jsonl", lines), options{})
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.jsonl": lines, "a.ndjson": lines, "a.json": array, "lines.json": lines, "array.jsonl": array, "wrapped.json": `{"version": 2, "data": ` + array + `}`,
		"pretty.json": strings.NewReplacer("{", "{\n ", ",", ",\n").Replace(array), "stream.jsonl": strings.NewReplacer("{", "{\n ", ", ", ",\n").Replace(lines),
		"a.csv": "question,answer\na,1\nb,2\n", "b.csv": "\ufeffQuestion;Answer;id\r\na;1;7\r\n\"b\";2;8\r\n", "a.tsv": "question\tanswer\na\t1\nb\t2\n", "records.txt": lines, "names.jsonl": strings.ToUpper(lines)[:0] + strings.ReplaceAll(lines, "answer", "Answer"),
		"utf16.jsonl": utf16Text(lines), "a.jsonl.gz": gzipped(t, lines), "a.csv.gz": gzipped(t, "question,answer\na,1\nb,2\n"), "a.jsonl.zst": zstdText(t, lines),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		sameLearnt(t, options{}, write(t, "want.jsonl", lines), path)
	}
	renamed := filepath.Join(t.TempDir(), "a.csv")
	if err := os.WriteFile(renamed, []byte("asked,said\na,1\nb,2\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := learnt(t, renamed, options{Map: []string{"question=asked", "answer=said"}}); !slices.Equal(got, want) {
		t.Errorf("renamed columns: %q, want %q", got, want)
	}
	both := filepath.Join(dir, "a.jsonl") + "\n" + filepath.Join(dir, "a.tsv")
	if got := learnt(t, both, options{}); len(got) != 2*len(want) {
		t.Errorf("two files: %q, want each twice", got)
	}
	if got := learnt(t, filepath.Join(dir, "*.csv"), options{}); len(got) != 2*len(want) {
		t.Errorf("a glob: %q, want each twice", got)
	}
	if got := learnt(t, dir, options{}); len(got) != 17*len(want) {
		t.Errorf("a folder: %d examples, want those of 17 files", len(got))
	}
	if got := learnt(t, filepath.Join(dir, "records.txt"), options{Format: "text"}); len(got) != 1 || !strings.Contains(got[0], `{"question"`) {
		t.Errorf("as a text: %q", got)
	}
}

func utf16Text(s string) string {
	b := []byte{0xfe, 0xff}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u>>8), byte(u))
	}
	return string(b)
}

func gzipped(t *testing.T, s string) string {
	var b strings.Builder
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(s)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zstdText(t *testing.T, s string) string {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(z.EncodeAll([]byte(s), nil))
}

func TestBadRecordsMayBeLeftOut(t *testing.T) {
	path := write(t, "a.jsonl", "{\"question\": \"a\", \"answer\": \"1\"}\n{'question'}\n{\"question\": \"b\", \"answer\": [2]}\n{\"q\": 1}\n{\"question\": \"c\", \"answer\": \"3\"}")
	o := options{NCtx: 100, Tokenizer: byteTokenizer{}, SkipBad: 3}
	s := mustLoad(t, path, o).Train.Stats()
	if s.Records != 2 || s.Source.Bad != 3 || !strings.Contains(strings.Join(s.Notes(100), "\n"), "3 bad records were left out: data: ") {
		t.Errorf("%+v, want three records left out and named", s)
	}
	o.SkipBad = 2
	if _, err := loadFile(path, o); err == nil || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("one more than may be: %v", err)
	}
}

// The split never fails by chance, and does not part near-duplicates.
func TestSplitsAlwaysHaveSomethingToLearn(t *testing.T) {
	var b strings.Builder
	for i := range 40 { // two of forty have an answer
		answer := ""
		if i == 7 || i == 31 {
			answer = "yes"
		}
		b.WriteString(`{"question": "number ` + strings.Repeat("x", i) + `?", "answer": "` + answer + `"}` + "\n")
	}
	path := write(t, "a.jsonl", b.String())
	for seed := range uint64(50) {
		set := mustLoad(t, path, options{NCtx: 100, Tokenizer: byteTokenizer{}, ValFraction: 0.05, Seed: seed})
		if set.Train.Stats().TrainedTokens == 0 || set.Val.Stats().TrainedTokens == 0 {
			t.Errorf("seed %d: nothing to learn on one side", seed)
		}
	}
	like := "The quick brown fox jumps over the lazy dog while seventeen other animals of the forest look on and wonder why he does %s today, and nobody knows."
	texts := ""
	for _, animal := range []string{"hen", "cow", "pig", "owl"} {
		for _, word := range []string{"that", "this"} {
			s, _ := json.Marshal(strings.ReplaceAll(strings.Replace(like, "%s", word, 1), "animals", animal+"s "+animal+" "+animal+" from "+animal+"town and "+animal+"ville near "+animal+"burg"))
			texts += `{"text": ` + string(s) + "}\n"
		}
	}
	for seed := range uint64(20) {
		set := mustLoad(t, write(t, "b.jsonl", texts), options{NCtx: 400, Tokenizer: byteTokenizer{}, ValFraction: 0.25, Seed: seed})
		if n := set.Val.Stats().Records; n != 2 {
			t.Errorf("seed %d: %d records held out, want two that are alike", seed, n)
		}
		for _, e := range examples(set.Val) {
			other := strings.NewReplacer("that", "this", "this", "that").Replace(marked(e, byteTokenizer{}))
			if !slices.ContainsFunc(examples(set.Val), func(e example) bool { return marked(e, byteTokenizer{}) == other }) {
				t.Errorf("seed %d: near-duplicates on both sides", seed)
			}
		}
	}
}
