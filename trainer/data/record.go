package data

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"finetune/chat"
)

// recordKind is what a record is, which decides what of it is learned.
type recordKind uint8

const (
	kindText       recordKind = iota // {text}: one document, all of it learned
	kindCompletion                   // {prompt, completion}: the completion is learned
	kindChat                         // {messages}: the assistant's messages are learned
	// kindInstruction is a question and its answer, {instruction, input, output} or
	// {question, answer}: a chat where the model has a template, a prompt
	// and a completion where it has none. The prompt is then
	// "### Instruction:\n…\n\n### Input:\n…\n\n### Response:\n" (without an empty input) or "Question: …\nAnswer: ".
	kindInstruction
	kindPair  // texts that belong together
	kindClass // a text or a pair of texts, and the label of a class, which is learned
	kindRank  // a query and documents, whose relevances are learned
)

func (k recordKind) String() string {
	return [...]string{"text", "prompt and completion", "chat", "instruction", "pairs", "classification", "ranking"}[k]
}

// record is one record of a file. Which fields are set goes by Kind.
type record struct {
	Path       string
	Line       int // where it begins in the file, from 1
	Kind       recordKind
	Text       string         // kindText, kindClass and kindPair; kindRank: the query
	Pair       string         // kindClass: the second text, if there is one; kindPair: what belongs to Text
	Others     []string       // kindPair: texts that do not belong to Text; kindRank: the documents
	Relevances []float32      // kindRank: of each document, 0 or more
	Score      float64        // kindPair, where scores are read
	Label      string         // kindClass
	Class      int            // kindClass: number of the label among all
	Prompt     string         // kindCompletion, and kindInstruction for a model without a template
	Completion string         // likewise
	Messages   []chat.Message // kindChat, and kindInstruction for a model with a template
	Tools      any            // kindChat: the tools that the template describes
	ToolNames  []string
	Chosen     bool // the better answer of two
}

// object is a JSON object, its values undecoded.
type object map[string]json.RawMessage

func (o object) has(names ...string) bool {
	for _, n := range names {
		if _, ok := o[n]; !ok {
			return false
		}
	}
	return true
}

// fieldNames lists what a record has, cut after eight.
func fieldNames(o object) string {
	names := slices.Sorted(maps.Keys(o))
	if len(names) == 0 {
		return "none"
	}
	more := ""
	if len(names) > 8 {
		names, more = names[:8], ", …"
	}
	for i, n := range names {
		names[i] = fmt.Sprintf("%.40q", n)
	}
	return strings.Join(names, ", ") + more
}

// text returns a string field; one that is missing or null is empty. A number, true and false are texts as they are written.
func (o object) text(name string) (string, error) {
	raw, ok := o[name]
	if !ok {
		return "", nil
	}
	var s string
	switch kind := jsonKind(raw); kind {
	case "an object", "an array":
		return "", &FormatError{Msg: fmt.Sprintf("%q is %s, want a string", name, kind), Err: errNoString}
	case "a number", "true or false":
		return string(bytes.TrimSpace(raw)), nil
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", badf("%q: %s", name, jsonProblem(err, raw, 0))
	}
	return s, nil
}

func (o object) texts(names ...string) ([]string, error) {
	out := make([]string, len(names))
	for i, n := range names {
		var err error
		if out[i], err = o.text(n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// list returns a field that is an array, or a string that holds one, as cells of tables do; nil if it is missing, null or empty.
func (o object) list(name string) (json.RawMessage, error) {
	raw, ok := o[name]
	if !ok {
		return nil, nil
	}
	kind := jsonKind(raw)
	if kind == "a string" {
		var s string
		json.Unmarshal(raw, &s) // raw is a value of a document that parsed
		if strings.TrimSpace(s) == "" {
			return nil, nil
		}
		inner := []byte(s)
		if !json.Valid(inner) || jsonKind(inner) != "an array" {
			return nil, badf("%q is the string %.60q, want a list or a string that holds one as JSON", name, s)
		}
		return inner, nil
	}
	if kind == "null" {
		return nil, nil
	}
	if kind != "an array" {
		return nil, badf("%q is %s, want a list", name, kind)
	}
	return raw, nil
}

func jsonKind(raw []byte) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

// decodeFirst decodes the first element of an array of objects.
func decodeFirst(raw []byte, list *[]object) bool {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil || !dec.More() {
		return false
	}
	var o object
	if dec.Decode(&o) != nil || o == nil {
		return false
	}
	*list = append(*list, o)
	return true
}

// completionRecord reads a prompt and completion, which are strings or, both, lists of messages.
func completionRecord(o object) (record, error) {
	if jsonKind(o["prompt"]) == "an array" {
		return completionOfMessages(o, "prompt", "completion")
	}
	s, err := o.texts("prompt", "completion")
	if err != nil {
		return record{}, err
	}
	if tools, err := o.tools(); tools != nil || err != nil {
		return record{}, cmp.Or(err, unsupportedf("tools beside a prompt that is a text, where no template writes them; want them in the prompt, or messages"))
	}
	system, err := o.system()
	if system != "" {
		s[0] = system + "\n\n" + s[0]
	}
	return record{Kind: kindCompletion, Prompt: s[0], Completion: s[1]}, err
}

func completionOfMessages(o object, question, answer string) (record, error) {
	prompt, err := parseMessages(o[question], question)
	if err != nil {
		return record{}, err
	}
	for i := range prompt {
		prompt[i].NoLoss = true
	}
	completion, err := parseMessages(o[answer], answer)
	if err != nil {
		return record{}, err
	}
	return chatOf(o, append(prompt, completion...))
}

// preferenceRecord reads the better of two answers to a question: the answer itself, or a conversation with it.
func preferenceRecord(o object, question string) (rec record, err error) {
	switch {
	case jsonKind(o["chosen"]) != "an array":
		rec, err = questionRecord(o, question, "chosen")
	case jsonKind(o[question]) == "an array":
		rec, err = completionOfMessages(o, question, "chosen")
	default:
		rec, err = chosenConversation(o, question)
	}
	rec.Chosen = true
	return rec, err
}

// chosenConversation reads a conversation of which the last answer is the better one. The question is the first thing in it,
// or stands beside it.
func chosenConversation(o object, question string) (record, error) {
	asked, err := o.text(question)
	if err != nil {
		return record{}, err
	}
	rec, err := chatRecord(o, "chosen")
	if err != nil {
		return rec, err
	}
	isAsked := func(m chat.Message) bool {
		return m.Role == "user" && strings.TrimSpace(m.Content) == strings.TrimSpace(asked)
	}
	isUser := func(m chat.Message) bool { return m.Role == "user" }
	switch {
	case strings.TrimSpace(asked) == "" || slices.ContainsFunc(rec.Messages, isAsked):
	case slices.ContainsFunc(rec.Messages, isUser):
		return rec, badf("%q is not among the messages of %q, want it there, or no message of the user", question, "chosen")
	default:
		at := 0
		for at < len(rec.Messages) && rec.Messages[at].Role != "assistant" {
			at++
		}
		rec.Messages = slices.Insert(rec.Messages, at, chat.Message{Role: "user", Content: asked})
	}
	return onlyLast(rec), nil
}

// onlyLast leaves what stands before the last message out of what is learned.
func onlyLast(rec record) record {
	for i := range rec.Messages {
		rec.Messages[i].NoLoss = rec.Messages[i].NoLoss || i < len(rec.Messages)-1
	}
	return rec
}

// chosenAlone reads the better of two texts, or of two conversations.
func chosenAlone(o object) (rec record, err error) {
	if jsonKind(o["chosen"]) == "an array" {
		rec, err = chatRecord(o, "chosen")
		rec = onlyLast(rec)
	} else {
		var text string
		text, err = o.text("chosen")
		rec = record{Kind: kindText, Text: text}
		if besidesText := o.one(besidesChat); besidesText != "" && !hollow(o[besidesText]) && err == nil {
			err = unsupportedf("%q beside answers that are whole texts, where no template writes it", besidesText)
		}
	}
	rec.Chosen = true
	return rec, err
}

// chosenBehind reads a conversation and, beside it, the better of two messages that go on with it.
func chosenBehind(o object, list string) (record, error) {
	if jsonKind(o["chosen"]) != "an object" {
		return chatRecord(o, list) // the whole of it, of which the two answers are variants
	}
	raw, err := o.list(list)
	if err != nil || raw == nil {
		return record{}, cmp.Or(err, badf("no messages, want at least one"))
	}
	messages, err := parseMessages(raw, list)
	if err != nil {
		return record{}, err
	}
	last, err := parseMessage(o["chosen"])
	if err != nil {
		return record{}, badf("%q: %v", "chosen", err)
	}
	rec, err := chatOf(o, append(messages, last))
	rec = onlyLast(rec)
	rec.Chosen = true
	return rec, err
}

// systemFields are where a record gives a system text beside its turns.
var systemFields = []string{"system", "system_prompt"}

// system returns the text that a record gives beside its turns.
func (o object) system() (string, error) {
	if err := o.agree(systemFields, o.text); err != nil {
		return "", err
	}
	for _, name := range systemFields {
		if s, err := o.text(name); err != nil || strings.TrimSpace(s) != "" {
			return s, err
		}
	}
	return "", nil
}

// questionRecord reads a question and its answer, which may have a system text and earlier turns in front.
func questionRecord(o object, question, answer string) (record, error) {
	s, err := o.texts(question, answer)
	if err != nil {
		return record{}, err
	}
	input := ""
	if question == "instruction" {
		if input, err = o.input(); err != nil {
			return record{}, err
		}
	}
	before, prompt, err := o.before()
	if err != nil {
		return record{}, err
	}
	asked := s[0]
	if input != "" {
		asked += "\n\n" + input
	}
	messages := append(before, chat.Message{Role: "user", Content: asked}, chat.Message{Role: "assistant", Content: s[1]})
	rec := record{Kind: kindInstruction, Prompt: prompt + heading(question, s[0], input), Completion: s[1], Messages: messages}
	tools, err := o.tools()
	if err == nil && tools != nil {
		rec.Tools, rec.ToolNames, err = chat.ParseTools(tools)
	}
	return rec, err
}

// inputFields are what an instruction is about: Alpaca's name, and Dolly's.
var inputFields = []string{"input", "context"}

func (o object) input() (string, error) {
	if err := o.agree(inputFields, o.text); err != nil {
		return "", err
	}
	for _, name := range inputFields {
		if s, err := o.text(name); err != nil || s != "" {
			return s, err
		}
	}
	return "", nil
}

// heading writes a question for a model that has no template.
func heading(field, question, input string) string {
	if field == "question" {
		return "Question: " + question + "\nAnswer: "
	}
	text := "### Instruction:\n" + question + "\n\n"
	if input != "" {
		text += "### Input:\n" + input + "\n\n"
	}
	return text + "### Response:\n"
}

// before returns what stands in front of a record's question: a system text and earlier turns, as messages and as a text
// for a model that has no template.
func (o object) before() (messages []chat.Message, prompt string, err error) {
	system, err := o.system()
	if err != nil {
		return nil, "", err
	}
	if system != "" {
		messages = append(messages, chat.Message{Role: "system", Content: system})
		prompt = system + "\n\n"
	}
	turns, err := o.history()
	if err != nil {
		return nil, "", err
	}
	for i, m := range turns {
		if i%2 == 1 {
			prompt += heading("", turns[i-1].Content, "") + m.Content + "\n\n"
		}
	}
	return append(messages, turns...), prompt, nil
}

// history returns the earlier turns of a record: questions, each with its answer. They come as pairs of texts or as messages.
func (o object) history() (turns []chat.Message, err error) {
	raw, err := o.list("history")
	if raw == nil || err != nil {
		return nil, err
	}
	var first []object
	if decodeFirst(raw, &first) {
		if turns, err = parseMessages(raw, "history"); err != nil {
			return nil, badf(`"history": %v`, err)
		}
	} else {
		var pairs [][]string
		if err := json.Unmarshal(raw, &pairs); err != nil {
			return nil, badf(`"history" is %.60q, want pairs of texts [question, answer]`, raw)
		}
		for i, pair := range pairs {
			if len(pair) != 2 {
				return nil, badf(`"history": turn %d has %d texts, want a question and an answer`, i+1, len(pair))
			}
			turns = append(turns, chat.Message{Role: "user", Content: pair[0]}, chat.Message{Role: "assistant", Content: pair[1]})
		}
	}
	for i, m := range turns {
		if want := [2]string{"user", "assistant"}[i%2]; m.Role != want || len(turns)%2 == 1 {
			return nil, badf(`"history" has %d messages, the role of the %d. is %q, want questions of %q, each with an answer of %q`, len(turns), i+1, m.Role, "user", "assistant")
		}
	}
	return turns, nil
}
