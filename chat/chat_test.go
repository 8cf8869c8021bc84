package chat_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"finetune/chat"
)

// names is a vocabulary of which templates need the names of BOS and EOS alone.
type names struct{ addBOS bool }

func (names) Tokenize(text string, _, _ bool) ([]int32, error) { return []int32(nil), nil }
func (names) Piece(id int32, special bool) string {
	return map[int32]string{0: "<s>", 1: "</s>"}[id]
}
func (names) BOS() int32         { return 0 }
func (names) EOS() int32         { return 1 }
func (n names) AddBOS() bool     { return n.addBOS }
func (names) IsEOG(t int32) bool { return t == 1 }

const plain = `{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{% if m.tool_calls %} {{ m.tool_calls[0].name }}{% endif %}{{ "\n" }}{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}`

func TestPromptIsForAVocabularyThatAddsBOS(t *testing.T) {
	messages := []chat.Message{{Role: "user", Content: "hi"}}
	for addBOS, want := range map[bool]string{true: "[user] hi\n[assistant] ", false: "<s>[user] hi\n[assistant] "} {
		got, err := chat.Prompt(plain, names{addBOS}, messages)
		if err != nil || got != want {
			t.Errorf("Prompt, vocabulary adds BOS %v: %q, %v, want %q", addBOS, got, err, want)
		}
	}
	if _, err := chat.Prompt("", names{}, messages); !errors.Is(err, chat.ErrNoTemplate) {
		t.Errorf("Prompt without a template = %v, want ErrNoTemplate", err)
	}
}

func TestMessageWithFields(t *testing.T) {
	m, err := chat.Message{Role: "assistant", Content: "c"}.WithFields([]byte(`{"role": "x", "content": "y", "weight": 0, "tool_calls": [{"name": "f"}]}`), "role", "content", "weight")
	if err != nil {
		t.Fatal(err)
	}
	got := render(t, plain, []chat.Message{m})
	if want := "<s>[assistant] c f\n"; got != want {
		t.Errorf("rendered %q, want %q", got, want)
	}
	if _, err := (chat.Message{}).WithFields([]byte(`{"a": `)); err == nil {
		t.Error("half a JSON object is no error")
	}
}

func render(t *testing.T, source string, messages []chat.Message) string {
	t.Helper()
	text, err := parse(t, source).Render(messages, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func parse(t *testing.T, source string) *chat.Template {
	t.Helper()
	tmpl, err := chat.ParseTemplate(source, names{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

// Every answer that counts stands once, behind the text that an app has in its context.
func TestSequences(t *testing.T) {
	messages := []chat.Message{{Role: "user", Content: "1?"}, {Role: "assistant", Content: "1!"}, {Role: "user", Content: "2?"},
		{Role: "assistant", Content: "2!", NoLoss: true}, {Role: "user", Content: "3?"}, {Role: "assistant", Content: "3!"}}
	r, err := parse(t, plain).Sequences(messages, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := r.Sequences
	if len(all) != 1 {
		t.Fatalf("%d sequences, want 1", len(all))
	}
	var text, answers strings.Builder
	for _, p := range all[0] {
		text.WriteString(p.Text)
		if p.Answer {
			answers.WriteString(p.Text)
		}
		if p.Inexact {
			t.Errorf("%q is inexact", p.Text)
		}
	}
	if want := render(t, plain, messages); text.String() != want {
		t.Errorf("pieces together %q, want %q", text.String(), want)
	}
	if want := "1!\n3!\n"; answers.String() != want {
		t.Errorf("answers %q, want %q", answers.String(), want)
	}
}

func TestErrorsOfTemplates(t *testing.T) {
	_, err := chat.ParseTemplate("{% for %}", names{}, time.Time{})
	if e, ok := errors.AsType[*chat.Error](err); !ok || e.Unsupported || !strings.Contains(err.Error(), "chat template, line 1") {
		t.Errorf("broken template: %v", err)
	}
	_, err = chat.ParseTemplate(`{% include "x" %}`, names{}, time.Time{})
	if e, ok := errors.AsType[*chat.Error](err); !ok || !e.Unsupported {
		t.Errorf("include: %v, want it unsupported", err)
	}
	_, err = parse(t, `{{ raise_exception("no system role") }}`).Sequences([]chat.Message{{Role: "user"}, {Role: "assistant", Content: "x"}}, nil, nil)
	if !errors.Is(err, chat.ErrRefused) || !strings.Contains(err.Error(), "message 2: chat template refuses the messages: no system role") {
		t.Errorf("refusal: %v", err)
	}
}
