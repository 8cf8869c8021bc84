package data

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/chat"

	"github.com/parquet-go/parquet-go"
)

// Templates that write the same things in other clothes.
const (
	// llamaLike names a call's arguments "parameters", trims contents and puts tools into the first user's turn.
	llamaLike = `{% for m in messages %}<|im_start|>[{{ m['role'] }}]
{% if loop.first and tools %}Functions: {{ tools | tojson }}
{% endif %}{% if 'tool_calls' in m and m['tool_calls'] %}{% for c in m['tool_calls'] %}{"name": "{{ c['function']['name'] }}", "parameters": {{ c['function']['arguments'] | tojson }}}{% endfor %}{% else %}{{ m['content'] | trim }}{% endif %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>[assistant]
{% endif %}`
	// thinks prints thoughts of a field of its own between tags, in the last answer.
	thinks = `{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' and m.reasoning_content and loop.last %}<think>
{{ m.reasoning_content | trim }}
</think>

{% endif %}{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`
	// noSystem refuses a system text wherever it stands.
	noSystem = `{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system here') }}{% endif %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`
)

const (
	skyAsked   = `<|im_start|>user\nsky?<|im_end|>\n<|im_start|>assistant\n`
	skyBlue    = `{"prompt": "` + skyAsked + `", "completion": "Blue.<|im_end|>"}`
	userSky    = `{"role": "user", "content": "sky?"}`
	userLight  = `{"role": "user", "content": "Light, please."}`
	skyThought = `{"prompt": "` + skyAsked + `", "completion": "<think>\nit is day\n</think>\n\nBlue.<|im_end|>"}`
	lampCall   = `{"prompt": "` + lampAsked + `", "completion": "` + lampCalled + `"}`
)

// sky is a conversation whose answer has these fields.
func sky(answer string) string {
	return `{"messages": [` + userSky + `, {"role": "assistant", ` + answer + `}]}`
}

// light is a conversation whose answer calls the lamp in these fields.
func light(answer string) string {
	return `{"messages": [` + userLight + `, {"role": "assistant", ` + answer + `}]}`
}

// TestSameKindsInOtherClothes: what people have is learned as it is meant, whatever the names and the nesting.
func TestSameKindsInOtherClothes(t *testing.T) {
	for _, c := range []struct {
		name, template, want string
		same                 []string
	}{
		{"calls", toolChat, lampCall, []string{
			light(`"content": "", "tool_calls": [{"function": {"name": "lamp", "arguments": {"on": true}}}]`),
			light(`"content": null, "tool_calls": "[{\"type\": \"function\", \"function\": {\"name\": \"lamp\", \"arguments\": \"{\\\"on\\\": true}\"}}]"`),
			light(`"tool_calls": [{"name": "lamp", "arguments": "{\"on\": true}", "id": "7", "type": "tool_call"}]`),
			light(`"tool_calls": [{"name": "lamp", "args": {"on": true}}]`),
			light(`"tool_calls": [{"function": "lamp", "parameters": {"on": true}}]`),
			light(`"tool_calls": [{"tool_name": "lamp", "tool_input": {"on": true}}]`),
			light(`"tool_calls": {"function": {"name": "lamp", "arguments": {"on": true}}}`),
			light(`"tool_call": {"name": "lamp", "arguments": {"on": true}}`),
			light(`"content": null, "function_call": {"name": "lamp", "arguments": "{\"on\":true}"}`),
			light(`"content": null, "function_call": "{\"name\": \"lamp\", \"arguments\": {\"on\": true}}"`),
			light(`"content": null, "tool_calls": null, "function_call": {"name": "lamp", "arguments": {"on": true}}`),
			light(`"content": [{"type": "tool_use", "id": "t1", "name": "lamp", "input": {"on": true}}]`),
			light(`"content": [{"type": "tool_call", "value": "{\"name\": \"lamp\", \"arguments\": {\"on\": true}}"}]`),
			`{"messages": [` + userLight + `, {"role": "tool_call", "content": "{\"name\": \"lamp\", \"arguments\": {\"on\": true}}"}]}`,
			`{"messages": [` + userLight + `, {"role": "tool-call", "content": "[{\"name\": \"lamp\", \"arguments\": {\"on\": true}}]"}]}`,
			`{"conversation": [{"from": "Human", "value": "Light, please."}, {"from": "function_call", "value": {"name": "lamp", "arguments": {"on": true}}}]}`,
		}},
		{"calls by another template", llamaLike,
			`{"prompt": "<|im_start|>[user]\nFunctions: ` + strings.ReplaceAll(lampTools, `"`, `\"`) + `\nLight, please.<|im_end|><|im_start|>[assistant]\n", "completion": "{\"name\": \"lamp\", \"parameters\": {\"on\": true}}<|im_end|>"}`,
			[]string{
				`{"messages": [` + userLight + `, {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "lamp", "arguments": "{\"on\": true}"}}]}], "tools": [` + lampTool + `]}`,
				`{"messages": [` + userLight + `, {"role": "assistant", "content": null, "function_call": {"name": "lamp", "arguments": "{\"on\": true}"}}], "functions": ` + quoted("["+lampTool+"]") + `}`,
				`{"messages": [{"role": "user", "content": "Light, please.", "tools": ` + lampTools + `}, {"role": "assistant", "tool_calls": [{"function": {"name": "lamp", "arguments": {"on": true}}}]}]}`,
			}},
		{"thoughts", thinks, skyThought, []string{
			sky(`"content": "Blue.", "reasoning_content": "it is day"`), sky(`"content": "Blue.", "reasoning": "it is day"`), sky(`"content": "Blue.", "thinking": "it is day"`),
			sky(`"content": "Blue.", "thought": "it is day"`), sky(`"content": "Blue.", "thoughts": "it is day"`),
			sky(`"content": "Blue.", "reasoning_content": null, "thinking": "it is day"`), sky(`"content": "Blue.", "reasoning_content": "", "reasoning": "it is day"`),
			sky(`"content": "Blue.", "reasoning": "it is day", "thinking": "it is day"`),
			sky(`"content": [{"type": "reasoning", "value": "it is day"}, {"type": "text", "value": "Blue."}]`),
			sky(`"content": [{"type": "thinking", "thinking": "it is day", "signature": "x"}, {"type": "text", "text": "Blue."}]`),
			sky(`"content": "Blue.", "reasoning": [{"type": "text", "text": "it is day"}]`),
			sky(`"content": "<think>\nit is day\n</think>\n\nBlue."`),
		}},
		{"roles", chatML, skyBlue, []string{
			`{"messages": [{"role": "User", "content": "sky?"}, {"role": "ASSISTANT", "content": "Blue."}]}`,
			`{"messages": [{"role": " human ", "content": "sky?"}, {"role": "Bot", "content": "Blue."}]}`,
			`{"messages": [{"from": "prompter", "content": "sky?"}, {"from": "model", "content": "Blue."}]}`,
			`{"messages": [{"role": "user", "content": "", "value": "sky?"}, {"role": "assistant", "content": "Blue.", "value": null}]}`,
			`{"messages": [{"role": null, "from": "human", "content": null, "value": "sky?"}, {"role": null, "from": "gpt", "value": "Blue."}]}`,
		}},
		{"parts", chatML, skyBlue, []string{
			`{"messages": [{"role": "user", "content": [{"type": "input_text", "text": "sky?"}]}, {"role": "assistant", "content": [{"type": "output_text", "text": "Blue."}]}]}`,
			`{"messages": [{"role": "user", "content": ["sky?"]}, {"role": "assistant", "content": [{"text": "Blue."}]}]}`,
			`{"messages": [{"role": "user", "content": [{"type": "text", "text": null, "content": "sky?"}]}, {"role": "assistant", "content": "Blue."}]}`,
		}},
		{"wrapped", chatML, skyBlue, []string{
			`{"data": [{"instruction": "sky?", "output": "Blue."}]}`, `{"version": 3, "examples": [{"question": "sky?", "answer": "Blue."}]}`,
			`{"rows": [{"row_idx": 0, "row": {"prompt": "sky?", "response": "Blue."}}]}`, `{"data": {"train": [{"query": "sky?", "response": "Blue."}]}}`,
			`{"record": {"messages": [` + userSky + `, {"role": "assistant", "content": "Blue."}]}, "id": 7}`,
		}},
		{"preferences", chatML, skyBlue, []string{
			`{"prompt": "sky?", "chosen": [{"role": "assistant", "content": "Blue."}], "rejected": [{"role": "assistant", "content": "Red."}]}`,
			`{"prompt": "sky?", "chosen": [` + userSky + `, {"role": "assistant", "content": "Blue."}], "rejected": []}`,
			`{"conversations": [{"from": "human", "value": "sky?"}], "chosen": {"from": "gpt", "value": "Blue."}, "rejected": {"from": "gpt", "value": "Red."}}`,
			`{"messages": [` + userSky + `], "chosen": {"role": "assistant", "content": "Blue."}, "rejected": {"role": "assistant", "content": "Red."}}`,
			`{"question": [` + userSky + `], "chosen": [{"role": "assistant", "content": "Blue."}], "rejected": []}`,
			`{"question": "sky?", "chosen": "Blue.", "rejected": "Red."}`, `{"instruction": "sky?", "input": "", "chosen": "Blue.", "rejected": "Red."}`,
		}},
		{"systems", chatML, `{"prompt": "<|im_start|>system\nSei freundlich, größer 🙂.<|im_end|>\n` + skyAsked + `", "completion": "Blue.<|im_end|>"}`, []string{
			`{"system": "Sei freundlich, größer 🙂.", "conversations": [{"from": "human", "value": "sky?"}, {"from": "gpt", "value": "Blue."}]}`,
			`{"system_prompt": "Sei freundlich, größer 🙂.", "system": "", "instruction": "sky?", "output": "Blue."}`,
			`{"system": "Sei freundlich, größer 🙂.", "system_prompt": "Sei freundlich, größer 🙂.", "question": "sky?", "response": "Blue."}`,
			`{"messages": [{"role": "developer", "content": "Sei freundlich, größer 🙂."}, ` + userSky + `, {"role": "assistant", "content": "Blue."}]}`,
			`{"system": "Sei freundlich, größer 🙂.", "prompt": "sky?", "chosen": "Blue.", "rejected": "Red."}`,
		}},
		{"what an instruction is about", chatML, `{"prompt": "<|im_start|>user\nName it.\n\nThe sky at noon.<|im_end|>\n<|im_start|>assistant\n", "completion": "Blue.<|im_end|>"}`, []string{
			`{"instruction": "Name it.", "input": "The sky at noon.", "output": "Blue."}`, `{"instruction": "Name it.", "context": "The sky at noon.", "response": "Blue.", "category": "qa"}`,
			`{"Instruction": "Name it.", "Input": "The sky at noon.", "Output": "Blue."}`,
		}},
		{"the tools of a question", toolChat, `{"prompt": "` + lampHead + `<|im_start|>user\nsky?<|im_end|>\n<|im_start|>assistant\n", "completion": "Blue.<|im_end|>"}`, []string{
			`{"query": "sky?", "response": "Blue.", "tools": ` + quoted(lampTools) + `}`, `{"instruction": "sky?", "output": "Blue.", "functions": [` + lampTool + `]}`,
		}},
		{"a system text without a place", noSystem, `{"prompt": "<|im_start|>user\nBe kind.\nsky?<|im_end|>\n<|im_start|>assistant\n", "completion": "Blue.<|im_end|>"}`, []string{
			`{"system": "Be kind.", "messages": [` + userSky + `, {"role": "assistant", "content": "Blue."}]}`, `{"messages": [{"role": "developer", "content": "Be kind."}, ` + userSky + `, {"role": "assistant", "content": "Blue."}]}`,
		}},
		{"null of a user", `{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.content is none %}NULL{% else %}{{ m.content }}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`, `{"prompt": "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n", "completion": "Blue.<|im_end|>"}`, []string{
			`{"messages": [{"role": "user", "content": null}, {"role": "assistant", "content": "Blue."}]}`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, record := range c.same {
				sameLearnt(t, options{Template: chat.Source{Default: c.template}}, write(t, "want.jsonl", c.want), write(t, "a.jsonl", record))
			}
		})
	}
}

// TestNothingIsLeftOutWithoutAWord: what is not learned as it is meant is refused in a line, or named in a note.
func TestNothingIsLeftOutWithoutAWord(t *testing.T) {
	answer := `{"role": "assistant", "content": "Blue."}`
	for _, c := range []struct{ name, template, record, want string }{
		{"arguments of another name", toolChat, light(`"tool_calls": [{"name": "lamp", "values": {"on": true}}]`), `tool call has the fields "name", "values"`},
		{"the result inside a call", toolChat, light(`"tool_calls": [{"name": "lamp", "arguments": {"on": true}, "result": "done"}]`), `tool call has the fields "arguments", "name", "result"`},
		{"arguments beside a function", toolChat, light(`"tool_calls": [{"function": {"name": "lamp"}, "arguments": {"on": true}}]`), `tool call has the fields "arguments", "function"`},
		{"a call in two fields", toolChat, light(`"tool_calls": [{"name": "lamp", "arguments": {}}], "function_call": {"name": "lamp", "arguments": {}}`), `both "tool_calls" and "function_call" have calls`},
		{"a call of the user", toolChat, `{"messages": [{"role": "user", "content": "x", "tool_calls": [{"name": "lamp", "arguments": {}}]}, ` + answer + `]}`, `a message of the role "user" calls tools`},
		{"a call that is no JSON", toolChat, light(`"content": null, "function_call": "lamp(on=True)"`), `function call "lamp(on=True)", want JSON`},
		{"two contents", chatML, sky(`"content": "Blue.", "value": "Red."`), `"value" is another text than "content"`},
		{"two roles", chatML, `{"messages": [{"role": "user", "from": "gpt", "content": "sky?"}, ` + answer + `]}`, `"from" is another text than "role"`},
		{"no role", chatML, `{"messages": [{"role": "", "content": "sky?"}, ` + answer + `]}`, `"role" is empty`},
		{"two thoughts", thinks, sky(`"content": "Blue.", "reasoning": "it is day", "thinking": "no clouds"`), `is another text than the thoughts before it`},
		{"thoughts behind the answer", thinks, sky(`"content": [{"type": "text", "text": "Blue."}, {"type": "thinking", "thinking": "it is day"}]`), `part 2 is a thought behind a text`},
		{"thoughts of the user", thinks, `{"messages": [{"role": "user", "content": "sky?", "thinking": "hm"}, ` + answer + `]}`, `a message of the role "user" has thoughts`},
		{"an image", chatML, `{"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "sky?"}]}, ` + answer + `]}`, `message 1: part 1 is of type "image"`},
		{"an image by its address", chatML, `{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/a.png"}}]}, ` + answer + `]}`, `is of type "image_url"`},
		{"images beside", chatML, `{"messages": [` + userSky + `, ` + answer + `], "images": ["a.png"]}`, `not used: "images" (1)`},
		{"a tool's result as a part", chatML, `{"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "4"}]}, ` + answer + `]}`, `is of type "tool_result"`},
		{"a part that says two things", chatML, sky(`"content": [{"type": "text", "text": "Blue.", "thinking": "it is day"}]`), `part 1 says something in both "text" and "thinking"`},
		{"an object for a role", chatML, `{"messages": [{"role": "user", "from": {"name": "Ann"}, "content": "sky?"}, ` + answer + `]}`, `"from" is an object, want a string`},
		{"the name of a speaker, which the template reads of calls only", llamaLike, `{"messages": [{"role": "user", "name": "Ann", "content": "sky?"}, ` + answer + `]}`, `not used: "messages: name" (1)`},
		{"the weight of a part", chatML, sky(`"content": [{"type": "text", "text": "Blue.", "weight": 0}]`), `has a weight of its own`},
		{"half a weight", chatML, sky(`"content": "Blue.", "weight": 0.5`), `"weight" is 0.5, want 0 or 1`},
		{"a weight beside", chatML, `{"messages": [` + userSky + `, ` + answer + `], "weight": 0.1}`, `not used: "weight" (1)`},
		{"a field of a message", chatML, sky(`"content": "Blue.", "analysis": "it is day"`), `not used: "messages: analysis" (1)`},
		{"the name of a speaker", chatML, `{"messages": [{"role": "user", "name": "Ann", "content": "sky?"}, ` + answer + `]}`, `not used: "messages: name" (1)`},
		{"a role nobody knows", chatML, `{"messages": [{"role": "narrator", "content": "Night."}, ` + userSky + `, ` + answer + `, {"role": "narrator", "content": "Day."}]}`, `roles that are not known are read and not learned: "narrator" (2)`},
		{"tools of two kinds", toolChat, `{"messages": [` + userSky + `, ` + answer + `], "tools": ` + lampTools + `, "functions": [` + lampTool + `]}`, `both "tools" and "functions" list tools`},
		{"tools in a later message", toolChat, `{"messages": [` + userSky + `, ` + answer + `, {"role": "user", "content": "x", "tools": ` + strings.Replace(lampTools, `"lamp"`, `"horn"`, 1) + `}], "tools": ` + lampTools + `}`, `a message lists other tools than the record`},
		{"tools beside a text", toolChat, `{"prompt": "sky?", "completion": "Blue.", "tools": ` + lampTools + `}`, `tools beside a prompt that is a text`},
		{"tools beside two texts", toolChat, `{"chosen": "Blue.", "rejected": "Red.", "tools": ` + lampTools + `}`, `"tools" beside answers that are whole texts`},
		{"tools that no template prints", chatML, `{"query": "sky?", "response": "Blue.", "tools": ` + lampTools + `}`, `loses the list of tools`},
		{"two systems", chatML, `{"system": "A.", "system_prompt": "B.", "question": "sky?", "answer": "Blue."}`, `"system_prompt" is another text than "system"`},
		{"a system text in the middle", noSystem, `{"messages": [` + userSky + `, ` + answer + `, {"role": "system", "content": "Be brief."}, ` + userSky + `, ` + answer + `]}`, `chat template refuses the messages: no system here`},
		{"a second system text", strings.Replace(noSystem, "m.role == 'system'", "m.role == 'system' and not loop.first", 1), `{"messages": [{"role": "system", "content": "A."}, {"role": "system", "content": "B."}, ` + userSky + `, ` + answer + `]}`, `chat template refuses the messages: no system here`},
		{"a system text in front of an answer", noSystem, `{"messages": [{"role": "system", "content": "Be kind."}, ` + answer + `, ` + userSky + `, ` + answer + `]}`, `no place for a system text, and no message of the user follows`},
		{"a question that is not in the answers", chatML, `{"prompt": "sea?", "chosen": [` + userSky + `, ` + answer + `], "rejected": []}`, `"prompt" is not among the messages of "chosen"`},
		{"input beside a question", chatML, `{"question": "sky?", "input": "at noon", "answer": "Blue."}`, `not used: "input" (1)`},
		{"two inputs", chatML, `{"instruction": "sky?", "input": "at noon", "context": "at night", "output": "Blue."}`, `"context" is another text than "input"`},
		{"what stands beside the records", chatML, `{"system": "Be kind.", "data": [{"question": "sky?", "answer": "Blue."}], "test": [{"question": "sea?", "answer": "Green."}]}`, `not used: "system (beside data)" (1), "test (beside data)" (1)`},
		{"a half turn of history", chatML, `{"instruction": "sky?", "output": "Blue.", "history": [["a"]]}`, `turn 1 has 1 texts`},
		{"history in the wrong order", chatML, `{"instruction": "sky?", "output": "Blue.", "history": [{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]}`, `"history" has 2 messages`},
		{"a choice beside a conversation", chatML, `{"messages": [` + userSky + `, ` + answer + `], "chosen": "Blue.", "rejected": "Red."}`, `not used: "chosen" (1), "rejected" (1)`},
		{"no answer, and tools", toolChat, `{"messages": [` + userSky + `, ` + answer + `]}` + "\n" + `{"messages": [` + userSky + `], "tools": ` + lampTools + `}`, `1 of 2 records have nothing to learn`},
		{"a prompt as it stands", chatML, `{"prompt": "sky?", "completion": " Blue."}`, `1 of 1 records are prompt and completion, learned as they stand`},
		{"a message behind the last answer", chatML, `{"messages": [` + userSky + `, ` + answer + `, {"role": "user", "content": "thanks"}]}`, `1 messages stand behind the last answer`},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := loadFile(write(t, "a.jsonl", c.record), options{NCtx: 4000, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: c.template}})
			said := ""
			if err != nil {
				said = err.Error()
			} else {
				said = strings.Join(set.Train.Stats().Notes(4000), "\n")
			}
			if !strings.Contains(said, c.want) || err != nil && strings.Contains(said, "\n") {
				t.Errorf("said %q, want …%s", said, c.want)
			}
		})
	}
}

// TestTablesAsSpreadsheetsWriteThem: quotes, line ends in cells, a column of row numbers, names twice.
func TestTablesAsSpreadsheetsWriteThem(t *testing.T) {
	want := write(t, "want.jsonl", `{"prompt": "<|im_start|>user\nsay \"hi\",\nplease<|im_end|>\n<|im_start|>assistant\n", "completion": "hi;\nthere<|im_end|>"}`)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"quotes.csv":    "question,answer\n\"say \"\"hi\"\",\nplease\",\"hi;\nthere\"\n",
		"semicolon.csv": "\ufeffquestion;answer\r\n\"say \"\"hi\"\",\nplease\";\"hi;\nthere\"\r\n",
		"index.csv":     ",question,answer\n0,\"say \"\"hi\"\",\nplease\",\"hi;\nthere\"\n",
		"quotes.tsv":    "question\tanswer\n\"say \"\"hi\"\",\nplease\"\t\"hi;\nthere\"\n",
		"messages.csv":  "messages,id\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"say \\\"\"hi\\\"\",\\nplease\"\"}, {\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"hi;\\nthere\"\"}]\",3\n",
		"utf16.csv":     utf16Text("question,answer\n\"say \"\"hi\"\",\nplease\",\"hi;\nthere\"\n"),
		"packed.csv.gz": gzipped(t, "question,answer\n\"say \"\"hi\"\",\nplease\",\"hi;\nthere\"\n"),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		sameLearnt(t, options{Template: chat.Source{Default: chatML}}, want, path)
	}
	for text, want := range map[string]string{
		"question,answer,answer\na,1,2\n":       `line 1: column 3 is called "answer" like an earlier one`,
		"question,answer\na,1\nb\n":             `line 3: 1 cells, want 2`,
		"question,answer\na,\"1\nb,2\n":         `line 2`,
		"question,answer\na,1\n\"b\" x,2\n":     `line 3`,
		"one\na\nb\n":                           `record has the fields "one"`,
		"question,answer,source\na,1,here\n":    `not used: "source" (1)`,
		",question,answer\n0,a,1\nx,b,2,\n":     "line 3: 4 cells, want 3",
		"question,answer\n\"a\n\nb\",\"\"\n,\n": "empty answer",
	} {
		set, err := loadFile(write(t, "a.csv", text), options{NCtx: 100, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: chatML}})
		said := ""
		if err != nil {
			said = err.Error()
		} else {
			said = strings.Join(set.Train.Stats().Notes(100), "\n")
		}
		if !strings.Contains(said, want) {
			t.Errorf("%q: said %q, want …%s", text, said, want)
		}
	}
}

// TestColumnsOfAnyNameAreMapped: names with dots, and paths of names.
func TestColumnsOfAnyNameAreMapped(t *testing.T) {
	want := learnt(t, write(t, "want.jsonl", skyBlue), options{})
	for record, pairs := range map[string][]string{
		`{"meta.q": "sky?", "meta.a": "Blue."}`:                                                  {"question=meta.q", "answer=meta.a"},
		`{"meta": {"q": "sky?"}, "a": {"b": {"c": "Blue."}}}`:                                    {"question=meta.q", "answer=a.b.c"},
		`{"dialog.v2": {"turns": [` + userSky + `, {"role": "assistant", "content": "Blue."}]}}`: {"messages=dialog.v2.turns"},
	} {
		if got := learnt(t, write(t, "a.b.c.jsonl", record), options{Map: pairs, Template: chat.Source{Default: chatML}}); !slices.Equal(got, want) {
			t.Errorf("%s by %q: %q, want %q", record, pairs, got, want)
		}
	}
}

// TestFilesThatAreOthersThanTheirNames: what a download or another program left in the place of a text is told, not trained on.
func TestFilesThatAreOthersThanTheirNames(t *testing.T) {
	parquet, err := os.ReadFile("testdata/pairs.parquet")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n": "is a pointer of Git LFS", "PK\x03\x04rest": "is a zip archive",
		gzipped(t, skyBlue): "is packed by gzip, and its name does not say so", zstdText(t, skyBlue): "is packed by zstd", string(parquet): "is Parquet, and its name",
	} {
		for _, name := range []string{"a.txt", "a.jsonl", "a.json", "a.csv", "README"} {
			_, err := loadFile(write(t, name, text), options{NCtx: 100, Tokenizer: byteTokenizer{}})
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, want …%s", name, err, want)
			}
		}
	}
}

// TestParquetWithStructures: a conversation as a list of structures, of which all have the fields of all: a call is learned
// with its own arguments, and not with those that other calls have as null.
func TestParquetWithStructures(t *testing.T) {
	type arguments struct {
		On   *bool   `parquet:"on,optional"`
		Room *string `parquet:"room,optional"`
	}
	type function struct {
		Name      string    `parquet:"name"`
		Arguments arguments `parquet:"arguments"`
	}
	type call struct {
		Function function `parquet:"function"`
	}
	type message struct {
		Role    string  `parquet:"role"`
		Content *string `parquet:"content,optional"`
		Thought *string `parquet:"reasoning_content,optional"`
		Calls   []call  `parquet:"tool_calls,list"`
	}
	type chats struct {
		Messages []message `parquet:"messages,list"`
		Source   string    `parquet:"meta.source"`
	}
	on, hall, please, sky, blue := true, "hall", "Light, please.", "sky?", "Blue."
	path := filepath.Join(t.TempDir(), "a.parquet")
	if err := parquet.WriteFile(path, []chats{
		{Messages: []message{{Role: "user", Content: &please}, {Role: "assistant", Calls: []call{{function{"lamp", arguments{On: &on}}}}}}},
		{Messages: []message{{Role: "user", Content: &please}, {Role: "assistant", Calls: []call{{function{"lamp", arguments{Room: &hall}}}}}}, Source: "x"},
		{Messages: []message{{Role: "user", Content: &sky}, {Role: "assistant", Content: &blue}}},
		{Messages: []message{{Role: "user", Content: &sky}, {Role: "assistant"}}},
	}); err != nil {
		t.Fatal(err)
	}
	want := write(t, "want.jsonl", lampCall+"\n"+strings.Replace(lampCall, `{\"on\": true}`, `{\"room\": \"hall\"}`, 1)+"\n"+skyBlue)
	o := options{Template: chat.Source{Default: toolChat}}
	sameLearnt(t, o, want, path)
	o.NCtx, o.Tokenizer = 4000, byteTokenizer{}
	if s := mustLoad(t, path, o).Train.Stats(); s.EmptyRecords != 1 || !strings.Contains(strings.Join(s.Notes(4000), "\n"), `not used: "meta.source" (1)`) {
		t.Errorf("%+v, want an empty answer and an unused field named", s)
	}
}
