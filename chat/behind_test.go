package chat_test

import (
	"strings"
	"testing"
	"time"

	"finetune/chat"
)

// Templates that write what stands before an answer otherwise once there is one.
const (
	// A line end behind the last result of a tool, as in the Hermes templates.
	endsResults = `{% for m in messages %}{% if m.role == 'tool' %}<|tool|>{{ m.content }}{% if not loop.last %}
{% endif %}<|end|>{% else %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}`
	// The system text in the user's last message, if that is the last, as in Mistral's; and no generation prompt.
	systemLast = `{% set s = namespace(text='') %}{% if messages[0].role == 'system' %}{% set s.text = messages[0].content %}{% set messages = messages[1:] %}{% endif %}` +
		`{% for m in messages %}{% if m.role == 'user' %}[INST]{% if loop.last and s.text %}{{ s.text }}

{% endif %}{{ m.content }}[/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}`
	// The number of messages in front.
	counts = `{{ messages | length }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}`
	// Nothing that an answer could be told by.
	shuffles = `{{ messages | length }}{% for m in messages | reverse %}{{ m.content | upper }}{% endfor %}`
)

// TestAnswersBehindThePromptThatAnAppSends: where a template changes its mind about earlier messages, the answer is learned behind
// what an app has in front of it.
func TestAnswersBehindThePromptThatAnAppSends(t *testing.T) {
	user, answer := chat.Message{Role: "user", Content: "sky?"}, chat.Message{Role: "assistant", Content: "Blue."}
	for _, c := range []struct {
		name, template string
		messages       []chat.Message
		want           []string // sequences, learned parts in «»
	}{
		{"results of tools", endsResults, []chat.Message{user, {Role: "assistant", Content: "look", NoLoss: true}, {Role: "tool", Content: "blue"}, answer},
			[]string{"<|user|>sky?<|end|><|assistant|>look<|end|><|tool|>blue<|end|><|assistant|>«Blue.<|end|>»"}},
		{"system in the last question", systemLast, []chat.Message{{Role: "system", Content: "Be brief."}, user, answer, {Role: "user", Content: "sea?"}, {Role: "assistant", Content: "Green."}},
			[]string{"[INST]Be brief.\n\nsky?[/INST]« Blue.</s>»", "[INST]sky?[/INST] Blue.</s>[INST]Be brief.\n\nsea?[/INST]« Green.</s>»"}},
		{"a count in front", counts, []chat.Message{user, answer}, []string{"1<|user|>sky?<|end|><|assistant|>«Blue.<|end|>»"}},
		{"a generation prompt unless it is not wanted", `{% if add_generation_prompt is not defined %}{% set add_generation_prompt = true %}{% endif %}` + plainChat, []chat.Message{user, answer}, []string{"<|user|>sky?<|end|><|assistant|>«Blue.<|end|>»"}},
		{"an answer of the prompt's own words", counts, []chat.Message{user, {Role: "assistant", Content: "sky?"}}, []string{"1<|user|>sky?<|end|><|assistant|>«sky?<|end|>»"}},
	} {
		tmpl, err := chat.ParseTemplate(c.template, names{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		r, err := tmpl.Sequences(c.messages, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, s := range r.Sequences {
			text := ""
			for _, p := range s {
				if p.Answer {
					text += "«" + p.Text + "»"
				} else {
					text += p.Text
				}
			}
			got = append(got, text)
		}
		if strings.Join(got, "\n--\n") != strings.Join(c.want, "\n--\n") || len(r.Lost) > 0 {
			t.Errorf("%s:\n got %q, lost %v\nwant %q", c.name, got, r.Lost, c.want)
		}
		for i, m := range c.messages {
			if m.Role != "assistant" || m.NoLoss {
				continue
			}
			prompt, err := tmpl.Render(c.messages[:i], nil, true)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.NewReplacer("«", "", "»", "").Replace(strings.Join(got, "\n")), prompt) {
				t.Errorf("%s: an app's prompt %q stands in front of no answer", c.name, prompt)
			}
		}
	}
	gathering(t)
	tmpl, err := chat.ParseTemplate(shuffles, names{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tmpl.Sequences([]chat.Message{user, answer}, nil, nil); err == nil || !strings.Contains(err.Error(), "cannot be told apart") {
		t.Errorf("an answer in front of the question: %v, want a refusal", err)
	}
}

// gathering holds that results of tools stand in the message that called them where a template of Gemma 4's first wants them
// there, and that nothing counts as lost for its form of them.
func gathering(t *testing.T) {
	t.Helper()
	const source = `{% for m in messages %}<|turn>{{ 'model' if m.role == 'assistant' else m.role }}
{% for c in m.tool_calls or [] %}{{ '<|tool_call>call:' + c.function.name + '{}<tool_call|>' }}{% endfor %}{% for r in m.tool_responses or [] %}<|tool_response>{{ r.name }}{% for k, v in r.response | dictsort %} {{ k }}:{{ v }}{% endfor %}<tool_response|>{% endfor %}{{ m.content or '' }}{% if not m.tool_responses or m.content %}<turn|>
{% endif %}{% endfor %}{% if add_generation_prompt and not messages[-1].tool_responses %}<|turn>model
{% endif %}`
	tmpl, err := chat.ParseTemplate(source, names{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	call, err := chat.NewCall("1", "look", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := tmpl.Sequences([]chat.Message{{Role: "user", Content: "sky?"}, {Role: "assistant", Calls: []chat.Call{call}, Null: true},
		{Role: "tool", Content: `{"colour": "blue", "share": 4}`}, {Role: "assistant", Content: "Blue."}}, nil, nil)
	if err != nil || len(r.Lost) > 0 || len(r.Sequences) != 2 {
		t.Fatalf("%v, lost %v, %d sequences, want 2", err, r.Lost, len(r.Sequences))
	}
	last := r.Sequences[1]
	if want := "<|turn>user\nsky?<turn|>\n<|turn>model\n<|tool_call>call:look{}<tool_call|><|tool_response>look colour:blue share:4<tool_response|>"; last[0].Text != want || last[1].Text != "Blue.<turn|>\n" {
		t.Errorf("read %q, learned %q, want %q, \"Blue.\"", last[0].Text, last[1].Text, want)
	}
}
