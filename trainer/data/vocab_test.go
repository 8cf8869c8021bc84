//go:build cgo

package data

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"finetune/chat"
	"finetune/internal/need"
	"finetune/internal/testmodel"

	"github.com/go-skynet/go-llama.cpp/llama"
)

var _ chat.Tokenizer = (*llama.Vocab)(nil)

func openVocab(t *testing.T, path string) *llama.Model {
	t.Helper()
	m, err := llama.LoadModel(path, llama.ModelParams{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Minimal forms of well-known templates, which llama.cpp knows by their marks.
var forms = []struct{ name, source string }{
	{"chatml", `{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`},
	{"llama 3", `{%- for m in messages %}
    {{- '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\n\n' }}
    {{- m.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}`},
	{"zephyr", `{% for m in messages %}
{# <|user|> and the others #}
{{ '<|' ~ m['role'] ~ '|>\n' ~ m['content'] ~ '<|endoftext|>' }}
{% if loop.last and add_generation_prompt %}
{{ '<|' ~ 'assistant' ~ '|>' }}
{% endif %}
{% endfor %}`},
	{"phi 3", `{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% endif %}`},
	{"gemma", `{% for m in messages if m.role != 'system' %}{% set role = 'model' if m.role == 'assistant' else m.role %}<start_of_turn>{{ role }}
{{ m.content | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}`},
}

// TestTemplatesAgreeWithLlama: the text of a chat is the one that llama.cpp's own renderer writes.
func TestTemplatesAgreeWithLlama(t *testing.T) {
	vocab := openVocab(t, need.Own(t, "demo/base.gguf")).Vocab()
	chats := map[string][]chat.Message{
		"a question":      {{Role: "user", Content: "Wie spät?"}},
		"two turns":       {{Role: "user", Content: "q1"}, {Role: "assistant", Content: "a1\nb"}, {Role: "user", Content: "q2"}},
		"a whole turn":    {{Role: "user", Content: "q"}, {Role: "assistant", Content: "{{ a }}"}},
		"a system prompt": {{Role: "system", Content: "s"}, {Role: "user", Content: "q"}},
	}
	for _, f := range forms {
		tmpl, err := chat.ParseTemplate(f.source, vocab, time.Time{})
		if err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		for name, messages := range chats {
			if f.name == "gemma" && messages[0].Role == "system" {
				continue // llama.cpp merges it into the user's turn, which the template cannot
			}
			var msgs []llama.ChatMessage
			for _, m := range messages {
				msgs = append(msgs, llama.ChatMessage{Role: m.Role, Content: m.Content})
			}
			for _, prompt := range []bool{false, true} {
				want, err := llama.ApplyChatTemplate(f.source, msgs, prompt)
				if err != nil {
					t.Fatalf("%s: %v", f.name, err)
				}
				got, err := tmpl.Render(messages, nil, prompt)
				if err != nil || got != want {
					t.Errorf("%s, %s, generation prompt %v\n got %q, %v\nwant %q", f.name, name, prompt, got, err, want)
				}
			}
		}
	}
}

// TestChatTokensAreWhatAnAppSends: with the GGUF's own template, the tokens of a training
// example are those of the whole chat as llama.cpp reads it, and learned are the ones behind
// the prompt that an app sends, up to a token it stops at.
func TestChatTokensAreWhatAnAppSends(t *testing.T) {
	need.Each(t, []string{"demo/base.gguf"}, []string{"tokenizers/ggml-vocab-phi-3.gguf"}, chatTokensAreSent)
}

func chatTokensAreSent(t *testing.T, model string) {
	m := openVocab(t, model)
	source, ok := m.ChatTemplate("")
	if !ok {
		t.Fatal("the vocabulary has no chat template")
	}
	v := m.Vocab()
	path := filepath.Join(t.TempDir(), "a.jsonl")
	if err := os.WriteFile(path, []byte(`{"messages": [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "Over there."}]}`), 0o666); err != nil {
		t.Fatal(err)
	}
	set, err := loadFile(path, options{NCtx: 64, Tokenizer: v, Template: chat.Source{Default: source}})
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := chat.ParseTemplate(source, v, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	messages := []chat.Message{{Role: "user", Content: "Where is it?"}, {Role: "assistant", Content: "Over there."}}
	tokens := func(messages []chat.Message, prompt bool) []int32 {
		text, err := tmpl.Render(messages, nil, prompt)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := v.Tokenize(strings.TrimPrefix(text, v.Piece(v.BOS(), true)), true, true)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	e := set.Train.Examples(0)[0]
	if whole := tokens(messages, false); !slices.Equal(e.Tokens, whole) {
		t.Errorf("tokens %v, want %v", e.Tokens, whole)
	}
	sent := len(tokens(messages[:1], true))
	end := sent + slices.IndexFunc(e.Tokens[sent:], v.IsEOG) // ChatML has a line end behind it, which phi-3's vocabulary strips
	for i, id := range e.Tokens {
		if learned := i >= sent && i <= end; e.LossMask[i] != learned {
			t.Errorf("token %d (%q), behind a prompt of %d: learned %v, want %v", i, v.Piece(id, true), sent, e.LossMask[i], learned)
		}
	}
	if end < sent {
		t.Errorf("tokens %v, want one that an app stops at behind the prompt", e.Tokens)
	}
}

// TestCompletionsContinueTheirPrompt: in every kind of vocabulary the tokens spell prompt and
// completion, nothing between them.
func TestCompletionsContinueTheirPrompt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	record := `{"prompt": "Once upon", "completion": " a time"}` + "\n" + `{"prompt": "Once upon ", "completion": "été\n 7"}`
	if err := os.WriteFile(path, []byte(record), 0o666); err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, model string) {
		v := openVocab(t, model).Vocab()
		set, err := loadFile(path, options{NCtx: 32, Tokenizer: v})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for i := range set.Train.Len() {
			for _, e := range set.Train.Examples(i) {
				s := ""
				for j, id := range e.Tokens {
					if j > 0 && e.LossMask[j] != e.LossMask[j-1] {
						s += "|"
					}
					s += v.Piece(id, false)
				}
				got[strings.TrimPrefix(s, " ")] = true
			}
		}
		for _, want := range []string{"Once upon| a time", "Once upon |été\n 7"} {
			if !got[want] {
				t.Errorf("%v, want %q", got, want)
			}
		}
	}
	t.Run("SentencePiece", func(t *testing.T) { check(t, testmodel.Path(t, testmodel.Spec{})) })
	need.Each(t, []string{"demo/base.gguf"}, []string{"models/stories260K-f32.gguf", "tokenizers/ggml-vocab-llama-spm.gguf",
		"tokenizers/ggml-vocab-gpt-2.gguf", "tokenizers/ggml-vocab-phi-3.gguf"}, check)
}

// TestTextIsPredictedWholeByARealVocabulary: every token of the text is a target once.
func TestTextIsPredictedWholeByARealVocabulary(t *testing.T) {
	t.Run("base", func(t *testing.T) {
		textIsPredictedWhole(t, need.Own(t, "demo/base.gguf"), need.Own(t, "trainer/testdata/reference.txt"))
	})
	t.Run("stories260K", func(t *testing.T) {
		textIsPredictedWhole(t, need.Shared(t, "models/stories260K-f32.gguf"), need.Shared(t, "text/tinystory.txt"))
	})
}

func textIsPredictedWhole(t *testing.T, model, path string) {
	v := openVocab(t, model).Vocab()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := v.Tokenize(string(text), false, false)
	if err != nil {
		t.Fatal(err)
	}
	if !v.AddBOS() {
		ids = ids[1:] // nothing comes before the first
	}
	set, err := loadFile(path, options{NCtx: 128, Tokenizer: v})
	if err != nil {
		t.Fatal(err)
	}
	var targets []int32
	for _, w := range set.Train.All() {
		for i, id := range w.Targets {
			if w.LossMask[i] == 1 {
				targets = append(targets, id)
			}
		}
	}
	if len(targets) != len(ids) {
		t.Fatalf("%d targets, want %d", len(targets), len(ids))
	}
	for i := range ids {
		if targets[i] != ids[i] {
			t.Fatalf("target %d is %d, want %d", i, targets[i], ids[i])
		}
	}
	if n := float64(set.Train.Len()); n != math.Ceil(float64(len(ids))/128) {
		t.Errorf("%g windows for %d tokens", n, len(ids))
	}
}
