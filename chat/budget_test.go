package chat_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"finetune/chat"
	"finetune/chat/jinja"
)

// plainChat is a template of the plainest kind.
const plainChat = `{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}`

// A template that is slow for every conversation is stopped after some of them, and named: a data set of any size costs seconds.
func TestTemplateHasOneBudgetForAllConversations(t *testing.T) {
	slow := `{% if messages[0].content.startswith('Q') %}{% for i in range(250) %}{% for j in range(1000) %}{% endfor %}{% endfor %}{% endif %}` + plainChat
	for _, c := range []struct {
		name string
		o    chat.Options
		most int // conversations before it is stopped
	}{
		{"of a data set", chat.Options{}, 20},
		{"looked at", chat.Options{AsGiven: true}, 4},
	} {
		tmpl, err := chat.Parse(chat.Source{Default: slow, Path: "slow.jinja"}, names{}, c.o)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; n < 1000 && err == nil; n++ {
			_, err = tmpl.Render([]chat.Message{{Role: "user", Content: fmt.Sprintf("Q%d", n)}}, nil, true)
		}
		if !errors.Is(err, jinja.ErrLimit) || !strings.Contains(err.Error(), `chat template "slow.jinja"`) || !strings.Contains(err.Error(), "over all that it has rendered") {
			t.Errorf("%s: %v, want the budget, and the template named", c.name, err)
		}
		if n < 2 || n > c.most {
			t.Errorf("%s: stopped at conversation %d, want 2 to %d", c.name, n, c.most)
		}
	}
}

// Finding out what a template takes has a budget, past which the template is refused: its abilities would be guesses.
func TestTemplateThatIsSlowToLookAtIsRefused(t *testing.T) {
	for _, source := range []string{
		`{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}` + plainChat,
		`{% if tools %}{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}{% endif %}` + plainChat,
	} {
		began := time.Now()
		_, err := chat.Parse(chat.Source{Default: plainChat, ToolUse: source}, names{}, chat.Options{})
		if !errors.Is(err, jinja.ErrLimit) || !strings.HasPrefix(err.Error(), `chat: chat template "tool_use": `) {
			t.Errorf("%v, want the budget, and the template named", err)
		}
		if took := time.Since(began); took > 20*time.Second { // a hundred times what it takes
			t.Errorf("refused after %v", took)
		}
	}
}

// An ordinary template renders as many conversations as there are, long and short.
func TestBudgetGrowsWithTheData(t *testing.T) {
	tmpl, err := chat.ParseTemplate(plainChat, names{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	long := make([]chat.Message, 400)
	for i := range long {
		long[i] = chat.Message{Role: []string{"user", "assistant"}[i%2], Content: strings.Repeat("word ", 50)}
	}
	for n := range 20_000 {
		messages := long[:2]
		if n%200 == 0 {
			messages = long
		}
		if _, err := tmpl.Render(messages, nil, true); err != nil {
			t.Fatalf("conversation %d: %v", n+1, err)
		}
	}
}
