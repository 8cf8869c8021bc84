package ollama

import (
	"errors"
	"fmt"
	"strings"

	"finetune/chat"
)

// Roles of messages, and the two ends of a conversation.
const (
	start     = ""
	system    = "system"
	user      = "user"
	assistant = "assistant"
	answer    = "answer" // what the model is to write next
)

// renderer writes a conversation that ends with a user's message, up to where the answer begins, without the BOS that the
// tokenizer adds.
type renderer func(messages []chat.Message) (string, error)

// joint is a place between two messages' contents.
type joint struct{ from, to string }

// joints is a chat template taken apart: the text at each joint. A template that writes a message by its role, and by the
// role before it, is nothing else.
type joints map[joint]string

// required are the conversations that say what a template writes between users and assistants.
var required = [][]string{{user}, {user, assistant, user}, {user, assistant, user, assistant, user}}

// systems are those with a system message in front, which a template may refuse or leave out.
var systems = [][]string{{system, user}, {system, user, assistant, user}}

// optional are those that Ollama may come by, and that a template may refuse or write in a way of its own.
var optional = [][]string{
	{system},
	{assistant, user},               // a conversation whose beginning no longer fits
	{system, assistant, user},       // likewise
	{user, system, user},            // a system message in the middle
	{user, assistant, system, user}, // likewise
}

// placement says where a template writes the system message.
type placement int

const (
	nowhere placement = iota // it is refused or left out
	inFront                  // as the first message
	inLast                   // within the last question
)

// form is a chat template taken apart.
type form struct {
	joints
	system        placement
	before, after string // inLast: the text around the system message, behind the joint
}

// takeApart finds the form by rendering conversations whose contents can be found again.
func takeApart(render renderer) (*form, error) {
	f := &form{joints: joints{}}
	for _, roles := range required {
		if err := f.learn(render, roles); err != nil {
			return nil, err
		}
	}
	if !writesSystem(render) {
		return f, nil
	}
	f.system = inFront
	for _, roles := range systems {
		if err := f.learn(render, roles); err != nil {
			return f.withSystemLast(render, err)
		}
	}
	for _, roles := range optional {
		_ = f.learn(render, roles) // complete finds another way
	}
	return f, nil
}

// withSystemLast returns the form where only the last question has the system message, as Mistral's templates do.
// Otherwise the error stays.
func (f *form) withSystemLast(render renderer, err error) (*form, error) {
	x, y := f.joints[joint{start, system}], f.joints[joint{system, user}]
	before, ok := strings.CutPrefix(x, f.joints[joint{start, user}])
	if !ok {
		return nil, err
	}
	f.system, f.before, f.after = inLast, before, y
	for at := range f.joints {
		if at.from == system || at.to == system {
			delete(f.joints, at)
		}
	}
	return f, nil
}

// writesSystem reports whether a system message is neither refused nor left out.
func writesSystem(render renderer) bool {
	messages := probe(systems[0])
	text, err := render(messages)
	return err == nil && strings.Contains(text, messages[0].Content)
}

// probe returns a conversation whose contents can be told apart in the text of it.
func probe(roles []string) []chat.Message {
	messages := make([]chat.Message, len(roles))
	for i, role := range roles {
		messages[i] = chat.Message{Role: role, Content: fmt.Sprintf("C0ntent%dOf%s", i, role)}
	}
	return messages
}

// learn adds the joints of one conversation, or says why they do not go together with those that are known.
func (j joints) learn(render renderer, roles []string) error {
	messages := probe(roles)
	text, err := render(messages)
	if err != nil {
		return err
	}
	found, from := joints{}, start
	for _, m := range messages {
		before, after, ok := strings.Cut(text, m.Content)
		if !ok || strings.Contains(after, m.Content) {
			return errors.New("it does not write each message once, in their order")
		}
		if err := found.add(joint{from, m.Role}, before); err != nil {
			return err
		}
		from, text = m.Role, after
	}
	if err := found.add(joint{from, answer}, text); err != nil {
		return err
	}
	return j.merge(found)
}

// merge adds what was found, all of it or nothing.
func (j joints) merge(found joints) error {
	for at, text := range found {
		if known, ok := j[at]; ok && known != text {
			return at.differs()
		}
	}
	for at, text := range found {
		j[at] = text
	}
	return nil
}

func (j joints) add(at joint, text string) error {
	if known, ok := j[at]; ok && known != text {
		return at.differs()
	}
	j[at] = text
	return nil
}

func (at joint) differs() error {
	if at.from == start {
		return errors.New("it begins conversations in more than one way")
	}
	return fmt.Errorf("what it writes between a message of the %s and one of the %s depends on more than these two", at.from, at.to)
}
