package ollama

import (
	"strings"
	"testing"

	"finetune/chat"
)

// vocabulary is one of bytes and a few tokens with names.
type vocabulary struct {
	names  []string // tokens from 256 on
	eog    []string
	bos    string
	addBOS bool
}

func (v vocabulary) Tokenize(text string, _, _ bool) (ids []int32, err error) {
next:
	for text != "" {
		for i, name := range v.names {
			if rest, ok := strings.CutPrefix(text, name); ok {
				ids, text = append(ids, int32(256+i)), rest
				continue next
			}
		}
		ids, text = append(ids, int32(text[0])), text[1:]
	}
	return ids, nil
}

func (v vocabulary) Piece(id int32, _ bool) string {
	if id < 256 {
		return string([]byte{byte(id)})
	}
	return v.names[id-256]
}

func (v vocabulary) find(name string) int32 {
	for i, n := range v.names {
		if n == name {
			return int32(256 + i)
		}
	}
	return -1
}

func (v vocabulary) BOS() int32   { return v.find(v.bos) }
func (v vocabulary) EOS() int32   { return v.find(v.eog[0]) }
func (v vocabulary) AddBOS() bool { return v.addBOS }
func (v vocabulary) NTokens() int { return 256 + len(v.names) }
func (v vocabulary) IsEOG(id int32) bool {
	return id >= 256 && strings.Contains(strings.Join(v.eog, " "), v.names[id-256])
}
func (v vocabulary) IsControl(id int32) bool { return id >= 256 }

var vocab = vocabulary{names: []string{"<s>", "</s>", "<|start|>", "<|end|>"}, eog: []string{"</s>", "<|end|>"}, bos: "<s>", addBOS: true}

// renders is a renderer of a Jinja template.
func renders(t *testing.T, source string, v vocabulary) renderer {
	t.Helper()
	tmpl, err := chat.Parse(chat.Source{Default: source}, v, chat.Options{AsGiven: true})
	if err != nil {
		t.Fatal(err)
	}
	return func(messages []chat.Message) (string, error) {
		text, err := tmpl.Render(messages, nil, true)
		return chat.WithoutBOS(text, v), err
	}
}

// Templates of the known forms.
const (
	plainRoles = `{{ bos_token }}` + roles
	roles      = `{% for m in messages %}{{ '<|start|>' + m.role + '\n' + m.content + '<|end|>\n' }}{% endfor %}` +
		`{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}`
	defaultSystem = `{% if messages[0].role != 'system' %}{{ '<|start|>system\nBe "good" {now}.<|end|>\n' }}{% endif %}` + roles
	systemInFirst = `{% if messages[0].role == 'system' %}{% set s = messages[0].content + '\n==\n' %}{% set rest = messages[1:] %}{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}` +
		`{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}` +
		`{% if m.role == 'user' %}{{ bos_token + '[Q] ' }}{% if loop.first %}{{ s }}{% endif %}{{ m.content + ' [/Q]' }}{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}`
	systemInLast = `{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ bos_token }}` +
		`{% for m in rest %}{% if m.role == 'user' %}{% if loop.last and s is defined %}{{ '[Q]' + s + '\n\n' + m.content + '[/Q]' }}{% else %}{{ '[Q]' + m.content + '[/Q]' }}{% endif %}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}`
	noSystem   = `{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}` + plainRoles
	begunThink = plainRoles + `{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}`
	thoughtful = `{% for m in messages %}{{ '<|start|>' + m.role + '\n' + m.content.split('</think>')[-1] + '<|end|>\n' }}{% endfor %}<|start|>assistant` + "\n"
	words      = `{% for m in messages %}{{ m.role.title() + ': ' + m.content + '\n\n' }}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}`

	numbered = `{% for m in messages %}{{ loop.index ~ ' ' + m.role + ' ' + m.content + '\n' }}{% endfor %}`
	shouted  = `{% for m in messages %}{{ m.role + ' ' + m.content.upper() + '\n' }}{% endfor %}`
	counted  = `{% if messages|length > 5 %}long {% endif %}` + plainRoles
	refusing = `{{ raise_exception('never') }}`
)

func TestTemplatesAreTranslated(t *testing.T) {
	for _, c := range []struct {
		name, jinja string
		system      placement
		roles       string // of a conversation, by initials; its contents are 0, 1, 2 …
		want        string
	}{
		{"plain", plainRoles, inFront, "su", "<|start|>system\n0<|end|>\n<|start|>user\n1<|end|>\n<|start|>assistant\n"},
		{"system in the middle", plainRoles, inFront, "usu", "<|start|>user\n0<|end|>\n<|start|>system\n1<|end|>\n<|start|>user\n2<|end|>\n<|start|>assistant\n"},
		{"answer to go on", plainRoles, inFront, "ua", "<|start|>user\n0<|end|>\n<|start|>assistant\n1"},
		{"system only", plainRoles, inFront, "s", "<|start|>system\n0<|end|>\n<|start|>assistant\n"},
		{"default system", defaultSystem, inFront, "u", "<|start|>system\nBe \"good\" {now}.<|end|>\n<|start|>user\n0<|end|>\n<|start|>assistant\n"},
		{"system in the first question", systemInFirst, inFront, "suau", "[Q] 0\n==\n1 [/Q] 2 </s><s>[Q] 3 [/Q]"},
		{"its beginning cut off", systemInFirst, inFront, "sau", "[Q] 0\n==\n [/Q] 1 </s><s>[Q] 2 [/Q]"},
		{"its system in the middle", systemInFirst, inFront, "uasu", "[Q] 0 [/Q] 1 </s><s>[Q] 2\n\n3 [/Q]"},
		{"system in the last question", systemInLast, inLast, "suau", "[Q]1[/Q] 2</s>[Q]0\n\n3[/Q]"},
		{"no system", noSystem, nowhere, "su", "<|start|>user\n0\n1<|end|>\n<|start|>assistant\n"},
		{"answer begun", begunThink, inFront, "u", "<|start|>user\n0<|end|>\n<|start|>assistant\n<think>\n"},
		{"words", words, inFront, "uau", "User: 0\n\nAssistant: 1\n\nUser: 2\n\nAssistant:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source, f, err := translate(renders(t, c.jinja, vocab))
			if err != nil {
				t.Fatal(err)
			}
			if f.system != c.system {
				t.Errorf("system placed %d, want %d", f.system, c.system)
			}
			var messages []chat.Message
			for i, initial := range c.roles {
				role := map[rune]string{'s': system, 'u': user, 'a': assistant}[initial]
				messages = append(messages, chat.Message{Role: role, Content: string(rune('0' + i))})
			}
			if got, err := execute(source, messages); err != nil || got != c.want {
				t.Errorf("got  %q, %v\nwant %q\nof   %s", got, err, c.want, source)
			}
		})
	}
}

func TestCutThoughtsAreNoticed(t *testing.T) {
	for jinja, want := range map[string]bool{thoughtful: true, plainRoles: false, begunThink: false} {
		render := renders(t, jinja, vocab)
		source, _, err := translate(render)
		if err != nil {
			t.Fatal(err)
		}
		if got := cutsThoughts(source, render); got != want {
			t.Errorf("%s: cuts thoughts: %v, want %v", jinja, got, want)
		}
	}
}

func TestWhatCannotBeTranslatedIsRefused(t *testing.T) {
	for _, c := range []struct{ name, jinja, want string }{
		{"numbers", numbered, "depends on more than these two"},
		{"contents changed", shouted, "does not write each message once"},
		{"other when long", counted, "comes out differently"},
		{"refusal", refusing, "never"},
	} {
		source, _, err := translate(renders(t, c.jinja, vocab))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v, want …%s", c.name, source, err, c.want)
		}
	}
}

func TestLiteralsComeOutAsTheyWere(t *testing.T) {
	for _, text := range []string{"", "a\nb", "{{ .Content }}", `"""`, `a"`, "\t\r\u200b\u00a0", "<｜User｜>▁ü猫", "{{- x -}}", "}}{{", "\xff", "`\\`"} {
		source := literal(text)
		if got, err := execute(source, nil); err != nil || got != text {
			t.Errorf("%q comes out as %q, %v, of %q", text, got, err, source)
		}
		if strings.Contains(source, `"""`) || strings.ContainsAny(source, "\t\r") {
			t.Errorf("%q is written as %q, which a Modelfile cannot hold", text, source)
		}
	}
}

func TestStops(t *testing.T) {
	for _, c := range []struct{ name, between, want string }{
		{"marks", "<|end|>\n<|start|>user\n", "</s> | <|end|> | <|start|>"},
		{"BOS in the middle", " </s><s>[Q] ", "</s> | <|end|>"},
		{"words", "\n\nUser: ", "</s> | <|end|> | User:"},
		{"completion", "", "</s> | <|end|>"},
		{"not for a Modelfile", "\n\u200bUser:", "</s> | <|end|>"},
	} {
		got, err := stops(vocab, c.between)
		if err != nil || strings.Join(got, " | ") != c.want {
			t.Errorf("%s: %q, %v, want %s", c.name, got, err, c.want)
		}
	}
}
