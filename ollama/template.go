package ollama

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"unicode"

	"finetune/chat"
)

// completion is the template of a base without one: the text as it comes. It is what Ollama itself takes then.
const completion = "{{ .Prompt }}"

// merged stands between messages that become one, as in Ollama, which joins neighbours of one role so.
const merged = "\n\n"

// beforeQuestion stands between a system message for which the base's template has no place and the question that it is put
// in front of, as in package chat and in llama.cpp.
const beforeQuestion = "\n"

// translate writes a base's chat template as one of Ollama's, and tries it on conversations that it was not made from. The
// error says what of the base's template cannot be written so.
func translate(render renderer) (string, *form, error) {
	f, err := takeApart(render)
	if err != nil {
		return "", nil, err
	}
	f.complete()
	source := f.template()
	return source, f, f.verify(source, render)
}

// complete gives every joint that a conversation can have a text, where the base's template has none, by way of a message
// without content: what stands before an assistant at the start is what stands before a user, then an assistant.
func (f *form) complete() {
	by := func(from, over, to string) {
		if _, ok := f.joints[joint{from, to}]; !ok {
			f.joints[joint{from, to}] = f.joints[joint{from, over}] + f.joints[joint{over, to}]
		}
	}
	by(start, user, assistant)
	switch f.system {
	case inFront:
		by(system, user, assistant)
		by(system, user, answer)
	case nowhere:
		f.joints[joint{start, system}] = f.joints[joint{start, user}]
		f.joints[joint{system, user}] = beforeQuestion
		f.joints[joint{system, assistant}] = f.joints[joint{user, assistant}]
		f.joints[joint{system, answer}] = f.joints[joint{user, answer}]
	}
	f.joints[joint{user, user}] = merged
	f.joints[joint{assistant, answer}] = "" // an answer that is to go on
}

// systemAnywhere reports whether the template writes system messages behind others too.
func (j joints) systemAnywhere() bool {
	_, afterUser := j[joint{user, system}]
	_, afterAnswer := j[joint{assistant, system}]
	return afterUser && afterAnswer
}

// template returns the form as a Go template over Ollama's .Messages and .System. What has no role of its own in the
// base's template (a tool's result, a system message where it takes none) is a part of the user's turn.
func (f *form) template() string {
	var b strings.Builder
	write := func(parts ...string) { b.WriteString(strings.Join(parts, "")) }
	list := `.Messages`
	if f.system == inLast {
		list = `$i, $_ := .Messages`
	}
	write(`{{ $from := "" }}{{ range `, list, ` }}{{ $to := "user" }}{{ if eq .Role "assistant" }}{{ $to = "assistant" }}`)
	switch {
	case f.system == inFront && f.systemAnywhere():
		write(`{{ else if eq .Role "system" }}{{ $to = "system" }}`)
	case f.system != inLast:
		write(`{{ else if and (eq .Role "system") (eq $from "") }}{{ $to = "system" }}`)
	}
	write(`{{ end }}`)
	message := branch("$to", []string{system, user, assistant}, f.into)
	if f.system == inLast {
		message += `{{ if and $.System (eq $to "user") (eq (len (slice $.Messages $i)) 1) }}` +
			literal(f.before) + `{{ $.System }}` + literal(f.after) + `{{ end }}`
	}
	message += `{{ .Content }}{{ $from = $to }}`
	if f.system == inLast {
		message = `{{ if ne .Role "system" }}` + message + `{{ end }}`
	}
	write(message, `{{ end }}`, f.into(answer))
	return b.String()
}

// into writes what stands before a message, by the role of the one before it.
func (j joints) into(to string) string {
	return branch("$from", []string{start, system, user, assistant}, func(from string) string {
		return literal(j[joint{from, to}])
	})
}

// branch chooses among texts by the value of a variable. Cases with one text share it, those without are left out.
func branch(variable string, cases []string, text func(string) string) string {
	var texts []string
	values := map[string]string{} // of a text, quoted
	for _, c := range cases {
		t := text(c)
		if !slices.Contains(texts, t) && t != "" {
			texts = append(texts, t)
		}
		values[t] += " " + strconv.Quote(c)
	}
	if len(texts) == 0 {
		return ""
	}
	var b strings.Builder
	for i, t := range texts {
		word := "else if"
		if i == 0 {
			word = "if"
		}
		fmt.Fprintf(&b, "{{ %s eq %s%s }}%s", word, variable, values[t], t)
	}
	return b.String() + "{{ end }}"
}

// literal writes a text in a Go template. What a template or a Modelfile would read as something else goes into a string
// of Go: braces that open, quotes by threes, and all that is neither printable nor a newline, which Ollama's parser drops.
func literal(text string) string {
	noQuotes := strings.Contains(text, `"""`)
	plain := func(r rune) bool {
		return r == '\n' || r != '{' && (r != '"' || !noQuotes) && r != unicode.ReplacementChar && strconv.IsPrint(r)
	}
	var b strings.Builder
	for text != "" {
		n := strings.IndexFunc(text, func(r rune) bool { return !plain(r) })
		if n < 0 {
			n = len(text)
		}
		b.WriteString(text[:n])
		text = text[n:]
		if n = strings.IndexFunc(text, plain); n < 0 {
			n = len(text)
		}
		if n > 0 {
			fmt.Fprintf(&b, "{{ %s }}", strconv.QuoteToASCII(text[:n]))
		}
		text = text[n:]
	}
	return b.String()
}

// message is what Ollama's templates see of one.
type message struct{ Role, Content string }

// execute renders as Ollama does with a template that names .Messages.
func execute(source string, messages []chat.Message) (string, error) {
	t, err := template.New("").Option("missingkey=zero").Parse(source)
	if err != nil {
		return "", err
	}
	list, instructions := make([]message, len(messages)), ""
	for i, m := range messages {
		list[i] = message{m.Role, m.Content}
		if m.Role == system {
			instructions = m.Content
		}
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{"Messages": list, "System": instructions})
	return b.String(), err
}

// trials are contents for conversations that the template was not made from.
var trials = []string{"Hi.", "1\n2\n\n3", `"{{ .Content }}" {% raw %}`, "Wie heißt 猫?", "<b>x</b> [y] | z", "no", "And then?"}

// verify holds the template against the base's own on conversations of one to four rounds.
func (f *form) verify(source string, render renderer) error {
	for rounds := 1; rounds <= 4; rounds++ {
		for _, first := range []bool{false, true} {
			if first && f.system == nowhere {
				continue
			}
			messages := conversation(rounds, first)
			want, err := render(messages)
			if err != nil {
				return err
			}
			if got, err := execute(source, messages); err != nil || got != want {
				return errors.Join(fmt.Errorf("a conversation of %d rounds comes out differently", rounds), err)
			}
		}
	}
	return nil
}

// cutsThoughts reports whether the base's template leaves out what an earlier answer thought, which a template of Ollama
// cannot: it has no functions for texts.
func cutsThoughts(source string, render renderer) bool {
	messages := []chat.Message{{Role: user, Content: "1?"}, {Role: assistant, Content: "<think>\n2\n</think>\n\n3"}, {Role: user, Content: "4?"}}
	want, err := render(messages)
	if err != nil {
		return false
	}
	got, err := execute(source, messages)
	return err != nil || got != want
}

// conversation returns one of so many questions, all but the last answered.
func conversation(rounds int, withSystem bool) (messages []chat.Message) {
	n := rounds
	say := func(role string) {
		messages = append(messages, chat.Message{Role: role, Content: trials[n%len(trials)]})
		n++
	}
	if withSystem {
		say(system)
	}
	for say(user); rounds > 1; rounds-- {
		say(assistant)
		say(user)
	}
	return messages
}
