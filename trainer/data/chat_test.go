package data

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"finetune/chat"
	"finetune/internal/need"
)

// think is a template that drops the thoughts of earlier turns and begins an answer itself.
const think = `{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant
{% if loop.last %}<think>
{% endif %}{{ m.content }}<|im_end|>
{% else %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
<think>
{% endif %}`

// forced begins an answer in the prompt but not in a finished message.
const forced = `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
<think>
{% endif %}`

// bare prints no token that ends a turn.
const bare = `{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }}
A: {% else %}{{ m.content }}
{% endif %}{% endfor %}`

func TestChatLearnsTheAnswersOnly(t *testing.T) {
	const twoTurns = `{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}, {"role": "user", "content": "q2"}, {"role": "assistant", "content": "a2"}]}`
	for _, c := range []struct {
		name, template, record string
		tok                    byteTokenizer
		want                   []string
	}{
		{"two turns", chatML, twoTurns, byteTokenizer{},
			[]string{"<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\n«a1<|im_end|>»\n<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n«a2<|im_end|>»\n"}},
		{"weight 0", chatML, strings.Replace(twoTurns, `"a1"`, `"a1", "weight": 0`, 1), byteTokenizer{},
			[]string{"<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\na1<|im_end|>\n<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n«a2<|im_end|>»\n"}},
		{"one BOS, from the vocabulary", chatML, `{"question": "q", "answer": "a"}`, byteTokenizer{addBOS: true},
			[]string{"<s><|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n«a<|im_end|>»\n"}},
		{"one BOS, from the template", "{{ bos_token }}" + chatML, `{"question": "q", "answer": "a"}`, byteTokenizer{addBOS: true},
			[]string{"<s><|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n«a<|im_end|>»\n"}},
		{"thoughts of earlier turns dropped", think, `{"messages": [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}, {"role": "user", "content": "q2"}, {"role": "assistant", "content": "a2"}]}`, byteTokenizer{},
			[]string{
				"<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\n<think>\n«a1<|im_end|>»\n",
				"<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\na1<|im_end|>\n<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n<think>\n«a2<|im_end|>»\n",
			}},
		{"answer begun by the prompt only", forced, `{"question": "q", "answer": "<b>a"}`, byteTokenizer{},
			[]string{"<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n«<b>a<|im_end|>»\n"}},
		{"no end of turn in the template", bare, `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]}`, byteTokenizer{addBOS: true},
			[]string{"<s>Q: q\nA: «a\n»Q: r\nA: «b\n</s>»"}},
		{"no space where the text has none", bare, `{"question": "q", "answer": "a"}`, byteTokenizer{addBOS: true, space: true},
			[]string{"<s> Q: q\nA: «a\n</s>»"}},
		{"completion behind a prompt", "", `{"prompt": "p:", "completion": " c"}`, byteTokenizer{addBOS: true, space: true},
			[]string{"<s> p:« c</s>»"}},
		{"completion that ends itself", "", `{"prompt": "p", "completion": "c</s>"}`, byteTokenizer{},
			[]string{"p«c</s>»"}},
		{"text", "", `{"text": "<|im_start|>x<|im_end|>"}`, byteTokenizer{addBOS: true},
			[]string{"<s>«<|im_start|>x<|im_end|>»"}},
		{"question without a template", "", `{"question": "q", "answer": "a"}`, byteTokenizer{addBOS: true},
			[]string{"<s>Question: q\nAnswer: «a</s>»"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := mustLoad(t, write(t, "a.jsonl", c.record), options{NCtx: 500, Tokenizer: c.tok, Template: chat.Source{Default: c.template}})
			checkPacking(t, set.Train)
			got := map[string]bool{}
			for _, e := range examples(set.Train) {
				got[marked(e, c.tok)] = true
			}
			for _, want := range c.want {
				if !got[want] || len(got) != len(c.want) {
					t.Errorf("got  %q\nwant %q", fmt.Sprint(got), c.want)
				}
			}
		})
	}
}

func TestStatsTellWhatTheTemplateDid(t *testing.T) {
	load := func(template, record string) Stats {
		return mustLoad(t, write(t, "a.jsonl", record), options{NCtx: 500, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: template}}).Train.Stats()
	}
	const twoTurns = `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]}`
	if s := load(bare, twoTurns); s.StopsAdded != 1 || s.StopsMissing != 1 {
		t.Errorf("template without an end of turn: %+v, want one stop added and one missing", s)
	}
	if s := load(forced, twoTurns); s.Inexact != 2 {
		t.Errorf("template that begins answers: %+v, want 2 inexact", s)
	}
	if s := load(chatML, twoTurns+"\n"+`{"messages": [{"role": "user", "content": "alone"}]}`); s.NoLoss != 1 || s.StopsAdded+s.StopsMissing+s.Inexact != 0 {
		t.Errorf("chatML: %+v, want one untrained record and nothing else", s)
	}
}

func TestTemplateErrorsNameTheRecord(t *testing.T) {
	for _, c := range []struct{ name, template, want string }{
		{"refusal", `{% if messages|length > 2 %}{{ raise_exception('too many') }}{% endif %}` + chatML, `line 2: message 3: chat template refuses the messages: too many`},
		{"runaway", `{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}`, `chat template: template asks for too much work`},
		{"history rewritten", `{{ messages|length }}{% for m in messages|reverse %}{{ m.content|upper }}{% endfor %}`, `line 1: message 2: chat template writes the earlier messages differently`},
	} {
		path := write(t, "a.jsonl", `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}`)
		_, err := loadFile(path, options{NCtx: 100, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: c.template}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want …%s", c.name, err, c.want)
		}
	}
	_, err := chat.ParseTemplate(`{% include "/etc/hosts" %}`, byteTokenizer{}, time.Time{})
	if e, ok := errors.AsType[*chat.Error](err); !ok || !e.Unsupported {
		t.Errorf("include: got %v, want a *chat.Error, unsupported", err)
	}
	_, err = loadFile(write(t, "a.jsonl", `{"question": "q", "answer": "a"}`), options{NCtx: 100, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: `{% include "/etc/hosts" %}`}})
	if _, ok := errors.AsType[*UnsupportedError](err); !ok {
		t.Errorf("include: Load = %v, want an *UnsupportedError", err)
	}
}

func TestTheClockIsTheCallers(t *testing.T) {
	const source = `{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}none{% endif %}`
	for _, c := range []struct {
		now  time.Time
		want string
	}{{time.Time{}, "none"}, {time.Date(2024, 7, 26, 0, 0, 0, 0, time.UTC), "26 Jul 2024"}} {
		tmpl, err := chat.ParseTemplate(source, byteTokenizer{}, c.now)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tmpl.Render(nil, nil, false); err != nil || got != c.want {
			t.Errorf("Render at %v = %q, %v, want %q", c.now, got, err, c.want)
		}
	}
}

func TestRealInstructionSetsLoad(t *testing.T) {
	check := func(t *testing.T, path string, records int, template string) {
		tok := byteTokenizer{addBOS: true}
		set := mustLoad(t, path, options{NCtx: 4096, Tokenizer: tok, Template: chat.Source{Default: template}, ValFraction: 0.1, Seed: 1})
		s, v := set.Train.Stats(), set.Val.Stats()
		if n := s.Records + v.Records; records != 0 && n != records {
			t.Errorf("%d records, want %d", n, records)
		}
		if s.NoLoss+v.NoLoss+s.Skipped+s.StopsAdded+s.StopsMissing+s.Inexact != 0 || !(s.Padding <= 0.1) {
			t.Errorf("%+v, want every record trained, exact, and tightly packed", s)
		}
		for _, e := range examples(set.Train)[:10] {
			if template != "" && !strings.Contains(marked(e, tok), "<|im_start|>assistant\n«") {
				t.Errorf("%.200q, want the answer learned", marked(e, tok))
			}
		}
		checkPacking(t, set.Train)
	}
	t.Run("the demo's task", func(t *testing.T) { check(t, need.Own(t, "demo/task.jsonl"), 300, chatML) })
	for _, c := range []struct {
		file     string
		records  int
		template string
	}{
		{"instruct/alpaca_en_demo.json", 999, chatML},
		{"instruct/alpaca_en_demo.json", 999, ""},
		{"instruct/v1_sft_demo.jsonl", 500, chatML},
		{"instruct/biomedqa-train.jsonl", 0, ""},
		{"instruct/gsm8k-train.jsonl", 7473, ""},
		{"tasks/openbookqa-test.json", 500, ""},
	} {
		t.Run(c.file, func(t *testing.T) { check(t, need.Shared(t, c.file), c.records, c.template) })
	}
}
