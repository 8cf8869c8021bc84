package chat

import "strings"

// Piece is a part of a rendered conversation: an answer, or what stands before one.
type Piece struct {
	Text    string
	Answer  bool // an assistant's answer, up to what the template prints behind it
	Inexact bool // an app would have other text in front of this answer
	Given   bool // the answer as it was given, thoughts and all, behind the generation prompt: the template would cut it
}

// Rendering is what becomes of a conversation.
type Rendering struct {
	Sequences [][]Piece
	Lost      []Loss // what of the conversation stands in none of them
	Behind    int    // messages behind the last answer, which stand in none of them either
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
// that every answer stands once, behind what it will follow. Messages of NoLoss are no answers. tools and toolNames are
// those of [ParseTools]. Errors are as Render's, with the number of the message.
func (t *Template) Sequences(messages []Message, tools any, toolNames []string) (*Rendering, error) {
	r := new(Rendering)
	f := t.formOf(messages, tools)
	if f.merges(messages) && len(messages) > 1 && messages[1].Role == "assistant" { // which would learn to say it
		return nil, badf("message 1: the chat template has no place for a system text, and no message of the user follows that it could be a part of")
	}
	done := "" // text of the last sequence
	last := -1 // the last answer
	for i, m := range messages {
		if m.Role != "assistant" || m.NoLoss {
			continue
		}
		a, err := t.answer(f, messages[:i+1], tools)
		if err != nil {
			return nil, inMessage(i+1, err)
		}
		last = i
		for _, what := range a.lost {
			r.Lost = append(r.Lost, Loss{i + 1, what})
		}
		if a.border == len(a.full) {
			continue // the template prints nothing of this message
		}
		n := len(r.Sequences) - 1
		if n < 0 || !strings.HasPrefix(a.full[:a.border], done) {
			r.Sequences, done, n = append(r.Sequences, nil), "", n+1
		}
		r.Sequences[n] = append(r.Sequences[n], Piece{Text: a.full[len(done):a.border]},
			Piece{a.full[a.border:], true, a.inexact, a.given})
		done = a.full
	}
	r.Behind = len(messages) - 1 - last
	if last >= 0 { // else there is nothing that they could be lost of
		r.findRead(messages[:last+1], toolNames)
	}
	return r, nil
}

// answer is a conversation up to an assistant's message, as text.
type answer struct {
	full           string
	border         int // where the answer begins
	inexact, given bool
	lost           []string // what of the message is not in the answer
}

// answer renders a conversation up to an assistant's message and finds where that message's
// answer begins. Some templates begin the answer themselves in the generation prompt
// ("<think>\n") but leave that out of a finished message; the answer then begins where the two
// texts part, and is inexact. An answer whose thoughts the template would cut is taken as it was given.
func (t *Template) answer(f *form, messages []Message, tools any) (answer, error) {
	last := len(messages) - 1
	prompt, err := t.render(f, messages[:last], tools, true)
	if err != nil {
		return answer{}, err
	}
	full, err := t.render(f, messages, tools, false)
	if err != nil {
		return answer{}, err
	}
	a := answer{full: full, border: len(prompt)}
	exact := strings.HasPrefix(full, prompt)
	if exact {
		a.lost = lostOf(messages[last], full[len(prompt):])
	}
	if messages[last].thinks() && (!exact || len(a.lost) > 0) {
		if g, ok := t.given(f, prompt, messages, tools); ok {
			return g, nil
		}
	}
	if exact {
		return a, nil
	}
	before, err := t.render(f, messages[:last], tools, false)
	if err != nil {
		return answer{}, err
	}
	a.inexact = true
	a.border = commonPrefix(prompt, full)
	if a.border < len(before) {
		if b, ok := behindPrompt(prompt, before, full, messages); ok {
			return b, nil
		}
		return answer{}, badf("chat template writes the earlier messages differently once this one follows, so its answer cannot be told apart")
	}
	if i := strings.Index(full[len(before):], messages[last].Content); i >= 0 {
		a.border = min(a.border, len(before)+i)
	}
	a.lost = lostOf(messages[last], full[a.border:])
	return a, nil
}

// behindPrompt is the answer of a template that writes the messages before it otherwise once there is an answer: a line end
// less behind the last result of a tool, a system text that stands only in the user's last message. It is what full has behind
// the generation prompt, or behind the same message of the user, and is put behind the prompt that an app sends. ok is false
// where that cannot be told.
func behindPrompt(prompt, before, full string, messages []Message) (a answer, ok bool) {
	last := len(messages) - 1
	at := -1
	if opening, ok := strings.CutPrefix(prompt, before); ok && strings.TrimSpace(opening) != "" {
		if at = strings.LastIndex(full, opening); at >= 0 {
			at += len(opening)
		}
	}
	if at < 0 && last > 0 {
		at = behindSame(prompt, full, strings.TrimSpace(messages[last-1].Content), strings.TrimSpace(messages[last].Content))
	}
	if at < 0 || strings.TrimSpace(full[at:]) == "" {
		return a, false
	}
	text := full[at:]
	return answer{full: prompt + text, border: len(prompt), lost: lostOf(messages[last], text)}, true
}

// behindSame finds the place in full, in front of what is said, up to which it ends as the prompt does, what was asked
// included; -1 if there is none.
func behindSame(prompt, full, asked, said string) int {
	end := strings.LastIndex(full, said)
	if asked == "" || said == "" || end < 0 {
		return -1
	}
	const most = 200 // bytes between the prompt's end and what is said
	for at := end; at >= max(0, end-most); at-- {
		if n := commonSuffix(prompt, full[:at]); n >= len(asked) && strings.Contains(prompt[len(prompt)-n:], asked) {
			return at
		}
	}
	return -1
}

func commonSuffix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// given takes the last message as the model is to write it: thoughts, content, and what the template prints behind a
// content. What the generation prompt has of it already is not written twice. ok is false where that cannot be told, or
// the message calls tools, which only a template can write.
func (t *Template) given(f *form, prompt string, messages []Message, tools any) (a answer, ok bool) {
	last := len(messages) - 1
	m := messages[last]
	if len(m.Calls) > 0 {
		return a, false
	}
	text := m.Content
	if strings.TrimSpace(m.Thought) != "" {
		tags, ok := f.tags(prompt)
		if !ok {
			return a, false
		}
		text = tags.open + "\n" + strings.TrimSpace(m.Thought) + "\n" + tags.shut + "\n\n" + strings.TrimLeft(m.Content, "\n")
	}
	plain := append(messages[:last:last], Message{Role: m.Role, Content: markText})
	out, err := t.render(f, plain, tools, false)
	at := strings.LastIndex(out, markText)
	if err != nil || at < 0 {
		return a, false
	}
	text = behind(prompt, strings.TrimSpace(text)) + out[at+len(markText):]
	return answer{full: prompt + text, border: len(prompt), given: true, lost: lostOf(m, text)}, true
}

// behind is an answer without the opening tag that the prompt ends with.
func behind(prompt, text string) string {
	prompt = strings.TrimRight(prompt, " \n")
	for _, tags := range thinkTags {
		if rest, begins := strings.CutPrefix(text, tags.open); begins && strings.HasSuffix(prompt, tags.open) {
			return strings.TrimLeft(rest, " \n")
		}
	}
	return text
}

// tagPair is what stands around a model's thoughts.
type tagPair struct{ open, shut string }

// thinkTags are those in use.
var thinkTags = []tagPair{
	{"<think>", "</think>"}, {"[THINK]", "[/THINK]"}, {"<thinking>", "</thinking>"}, {"<thought>", "</thought>"},
	{"<seed:think>", "</seed:think>"}, {"<|START_THINKING|>", "<|END_THINKING|>"}, {"<reasoning>", "</reasoning>"},
}

// tags finds the tags around the thoughts of a template's model: those that its generation prompt ends with, or that it
// has itself.
func (f *form) tags(prompt string) (tagPair, bool) {
	for _, tags := range thinkTags {
		if strings.HasSuffix(strings.TrimRight(prompt, " \n"), tags.open) {
			return tags, true
		}
	}
	for _, tags := range thinkTags {
		if strings.Contains(f.source, tags.shut) {
			return tags, true
		}
	}
	return tagPair{}, false
}

// thinks reports whether a message has thoughts, in a field of their own or in its content.
func (m Message) thinks() bool {
	_, _, inContent := splitThought(m.Content)
	return inContent || strings.TrimSpace(m.Thought) != ""
}

// splitThought parts thoughts from what follows them. They may begin without their opening tag, which a prompt had.
func splitThought(content string) (thought, rest string, ok bool) {
	for _, tags := range thinkTags {
		before, after, ok := strings.Cut(content, tags.shut)
		if !ok {
			continue
		}
		if front, inner, has := strings.Cut(before, tags.open); has && strings.TrimSpace(front) == "" {
			before = inner
		} else if has {
			continue // in the middle of an answer
		}
		return strings.TrimSpace(before), strings.TrimSpace(after), true
	}
	return "", content, false
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
