package chat

import (
	"strings"
	"time"

	"finetune/chat/jinja"
)

// Template is a model's chat template: it writes a conversation as the text that the
// model was taught. It is never changed: goroutines may share it.
type Template struct {
	jinja    *jinja.Template
	bos, eos string
	now      time.Time
}

// ParseTemplate reads tokenizer.chat_template. bos_token and eos_token of the template are
// the names of the vocabulary's tokens; a zero now hides strftime_now from it. The error is
// an *Error.
func ParseTemplate(source string, tok Tokenizer, now time.Time) (*Template, error) {
	t, err := jinja.Parse(source)
	if err != nil {
		return nil, templateError(err)
	}
	name := func(id int32) string {
		if id < 0 {
			return ""
		}
		return tok.Piece(id, true)
	}
	return &Template{t, name(tok.BOS()), name(tok.EOS()), now}, nil
}

// Render writes the messages. addGenerationPrompt ends the text with what stands in front
// of an assistant's answer. tools is nil or what [ParseTools] returned. The text begins with BOS's
// name if the template prints it. Errors are as ParseTemplate's.
func (t *Template) Render(messages []Message, tools any, addGenerationPrompt bool) (string, error) {
	list := make([]any, len(messages))
	for i, m := range messages {
		list[i] = m.value()
	}
	vars := map[string]any{
		"messages": list, "add_generation_prompt": addGenerationPrompt,
		"bos_token": t.bos, "eos_token": t.eos,
	}
	if tools != nil {
		vars["tools"] = tools
	}
	if !t.now.IsZero() {
		vars["strftime_now"] = jinja.Strftime(t.now)
	}
	text, err := t.jinja.Render(vars)
	if err != nil {
		return "", templateError(err)
	}
	return text, nil
}

// Piece is a part of a rendered conversation: an answer, or what stands before one.
type Piece struct {
	Text    string
	Answer  bool // an assistant's answer, up to what the template prints behind it
	Inexact bool // an app would have other text in front of this answer
}

// Sequences writes a conversation as token sequences to be, each the text an app has in its
// context: prompt, answer, prompt, answer. For answer i
//
//	prompt = render(messages[:i], with the generation prompt)
//	full   = render(messages[:i+1])
//
// and the answer's text is what full has behind prompt. A sequence goes on as long as each
// prompt begins with the full text of the answer before. Where it does not, because the
// template drops the thoughts of earlier turns for instance, a new sequence begins, so
// that every answer stands once, behind what it will follow. Messages of NoLoss are no answers. Errors are as Render's,
// with the number of the message.
func (t *Template) Sequences(messages []Message, tools any) ([][]Piece, error) {
	var all [][]Piece
	done := "" // text of the last sequence
	for i, m := range messages {
		if m.Role != "assistant" || m.NoLoss {
			continue
		}
		full, border, inexact, err := t.answer(messages[:i+1], tools)
		if err != nil {
			return nil, inMessage(i+1, err)
		}
		if border == len(full) {
			continue // the template prints nothing of this message
		}
		n := len(all) - 1
		if n < 0 || !strings.HasPrefix(full[:border], done) {
			all, done, n = append(all, nil), "", n+1
		}
		all[n] = append(all[n], Piece{Text: full[len(done):border]}, Piece{full[border:], true, inexact})
		done = full
	}
	return all, nil
}

// answer renders a conversation up to an assistant's message and finds where that message's
// answer begins. Some templates begin the answer themselves in the generation prompt
// ("<think>\n") but leave that out of a finished message; the answer then begins where the two
// texts part, and is inexact.
func (t *Template) answer(messages []Message, tools any) (full string, border int, inexact bool, err error) {
	last := len(messages) - 1
	prompt, err := t.Render(messages[:last], tools, true)
	if err != nil {
		return "", 0, false, err
	}
	if full, err = t.Render(messages, tools, false); err != nil {
		return "", 0, false, err
	}
	if strings.HasPrefix(full, prompt) {
		return full, len(prompt), false, nil
	}
	before, err := t.Render(messages[:last], tools, false)
	if err != nil {
		return "", 0, false, err
	}
	border = commonPrefix(prompt, full)
	if border < len(before) {
		return "", 0, false, badf("chat template writes the earlier messages differently once this one follows, so its answer cannot be told apart")
	}
	if i := strings.Index(full[len(before):], messages[last].Content); i >= 0 {
		border = min(border, len(before)+i)
	}
	return full, border, true, nil
}

// commonPrefix returns the length of what two texts begin with, in whole characters.
func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	for n > 0 && n < len(b) && b[n]&0xc0 == 0x80 {
		n--
	}
	return n
}
