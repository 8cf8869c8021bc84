package main

import (
	"encoding/json"
	"fmt"
)

type tool struct {
	Type     string   `json:"type"`
	Function function `json:"function"`
}

type function struct {
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Parameters  parameters `json:"parameters"`
}

type parameters struct {
	Type       string              `json:"type"`
	Properties map[string]property `json:"properties"`
}

type property struct {
	Type string `json:"type"`
}

type call struct {
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// template prints tools and calls as Hermes' does, a form that llama-server reads calls from; SmolLM2's own knows neither.
const template = `{%- if tools %}
{{- '<|im_start|>system\nCall one of these tools if it helps.\n' }}
{%- for t in tools %}{{- t.function | tojson + '\n' }}{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.content %}{{- m.content }}{%- endif %}
{%- for c in m.tool_calls or [] %}
{{- '<tool_call>\n{"name": "' + c.function.name + '", "arguments": ' + c.function.arguments | tojson + '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
`

// intents are the tools with one argument each, the words that ask for them, and values that are trained and held out.
var intents = []struct {
	name, description, argument, kind string
	words                             []string
	trained, held                     []any
}{
	{"set_timer", "start a timer", "minutes", "integer",
		[]string{"Set a timer for %v minutes.", "Wake me in %v minutes.", "The eggs need %v minutes, remind me.", "%v minutes from now, please ring.", "Start counting down %v minutes."},
		[]any{3, 5, 8, 10, 14, 20, 25, 30, 45, 50, 60, 90}, []any{7, 12, 40}},
	{"weather", "tell the weather of a city", "city", "string",
		[]string{"What is the weather in %v?", "Do I need an umbrella in %v today?", "How warm is it in %v?", "Is it raining in %v?", "I fly to %v tomorrow, what will it be like?"},
		[]any{"Paris", "Oslo", "Lima", "Cairo", "Tokyo", "Rome", "Delhi", "Boston", "Berlin", "Sydney", "Vienna", "Madrid"}, []any{"Dublin", "Athens", "Seoul"}},
	{"light", "switch the light of a room on", "room", "string",
		[]string{"Turn on the light in the %v.", "It is dark in the %v.", "Light up the %v, please.", "I cannot see anything in the %v.", "Switch the lamp in the %v on."},
		[]any{"kitchen", "hall", "garage", "bedroom", "bathroom", "cellar", "office", "attic", "dining room", "nursery", "porch", "study"}, []any{"living room", "shed", "laundry"}},
	{"play", "play music of an artist", "artist", "string",
		[]string{"Play something by %v.", "I want to hear %v.", "Put on some %v.", "Some music of %v would be nice.", "Let me listen to %v."},
		[]any{"Mozart", "Madonna", "Queen", "Bach", "Prince", "Adele", "Sting", "Chopin", "Drake", "Björk", "Abba", "Verdi"}, []any{"Beethoven", "Rihanna", "Muse"}},
}

// calls asks for every tool in five ways, with values that are trained and with others that are held out.
func calls() (train, val []record) {
	var tools []tool
	for _, in := range intents {
		t := tool{Type: "function", Function: function{Name: in.name, Description: in.description}}
		t.Function.Parameters = parameters{Type: "object", Properties: map[string]property{in.argument: {in.kind}}}
		tools = append(tools, t)
	}
	for _, in := range intents {
		asks := func(values []any) (all []record) {
			for _, value := range values {
				arguments, _ := json.Marshal(map[string]any{in.argument: value})
				for _, words := range in.words {
					c := call{Type: "function"}
					c.Function.Name, c.Function.Arguments = in.name, string(arguments)
					all = append(all, record{Tools: tools, Messages: []message{{Role: "user", Content: fmt.Sprintf(words, value)}, {Role: "assistant", ToolCalls: []call{c}}}})
				}
			}
			return all
		}
		train, val = append(train, asks(in.trained)...), append(val, asks(in.held)...)
	}
	return train, val
}
