package chat

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"finetune/chat/jinja"
)

// Loss says that something of a conversation does not stand in what is learned or read of it.
type Loss struct {
	Message int    // from 1; 0 is the list of tools
	What    string // such as "thought" or "arguments of a tool call"
}

// The kinds of what can be lost.
const (
	lostContent   = "content"
	lostThought   = "thoughts"
	lostTool      = "tool call"
	lostArguments = "arguments of a tool call"
	lostTools     = "list of tools"
)

// need is a text that has to stand somewhere.
type need struct {
	message    int
	what, text string
	parts      []string // which do in its place: of a tool's result in JSON, that a template writes in a form of its own
}

// needs lists what of a message has to be found.
func (m Message) needs(number int) (list []need) {
	add := func(what, text string) {
		if text = strings.TrimSpace(text); text != "" {
			list = append(list, need{number, what, text, m.parts(text)})
		}
	}
	add(lostThought, m.Thought)
	switch thought, rest, ok := splitThought(m.Content); {
	case ok && m.Role == "assistant":
		add(lostThought, thought)
		add(m.contentName(), rest)
	case len(m.Parts) > 0:
		for _, p := range m.Parts {
			add(m.contentName(), p)
		}
	default:
		add(m.contentName(), m.Content)
	}
	for _, c := range m.Calls {
		add(lostTool, c.Name)
		for _, s := range leaves(c.value, nil) {
			add(lostArguments, s)
		}
	}
	return list
}

// parts are what is in the JSON of a tool's result; nil for all else.
func (m Message) parts(text string) []string {
	if m.Role != "tool" || text[0] != '{' && text[0] != '[' || !json.Valid([]byte(text)) {
		return nil
	}
	v, err := jinja.FromJSON([]byte(text))
	if err != nil {
		return nil
	}
	return leaves(v, nil)
}

// contentName names the content by who says it.
func (m Message) contentName() string {
	switch m.Role {
	case "system", "developer":
		return "system text"
	case "assistant":
		return lostContent
	}
	return lostContent + " of a " + m.Role + "'s message"
}

// leaves lists the keys and the values of arguments as they are written.
func leaves(v any, list []string) []string {
	switch v := v.(type) {
	case *jinja.Dict:
		for _, k := range v.Keys() {
			x, _ := v.Get(k)
			list = leaves(x, append(list, k.(string)))
		}
	case []any:
		for _, x := range v {
			list = leaves(x, list)
		}
	case string:
		list = append(list, v)
	case int64:
		list = append(list, strconv.FormatInt(v, 10))
	}
	return list
}

// lostOf names what of an answer's message its text has not.
func lostOf(m Message, text string) []string {
	return kinds(missing(m.needs(0), newFinder(text)))
}

// findRead adds what is lost of the messages that are read only, and of the tools.
func (r *Rendering) findRead(messages []Message, tools []string) {
	var all strings.Builder
	for _, s := range r.Sequences {
		for _, p := range s {
			all.WriteString(p.Text)
		}
		all.WriteByte(0)
	}
	var list []need
	for i, m := range messages {
		if m.Role != "assistant" || m.NoLoss {
			list = append(list, m.needs(i+1)...)
		}
	}
	for _, name := range tools {
		list = append(list, need{0, lostTools, name, nil})
	}
	for _, n := range missing(list, newFinder(all.String())) {
		if l := (Loss{n.message, n.what}); !slices.Contains(r.Lost, l) {
			r.Lost = append(r.Lost, l)
		}
	}
}

// missing are the needs that a text does not have, longer ones looked for first: a short one then is not taken for found
// because a longer one has it.
func missing(list []need, f *finder) (lost []need) {
	slices.SortStableFunc(list, func(a, b need) int { return cmp.Compare(len(b.text), len(a.text)) })
	for _, n := range list {
		if !f.find(n.text) && !f.findAll(n.parts) {
			lost = append(lost, n)
		}
	}
	slices.SortStableFunc(lost, func(a, b need) int { return cmp.Compare(a.message, b.message) })
	return lost
}

func kinds(list []need) (names []string) {
	for _, n := range list {
		if !slices.Contains(names, n.what) {
			names = append(names, n.what)
		}
	}
	return names
}

// finder finds texts in a text, each in a place of its own.
type finder struct {
	text     string
	taken    []bool // by byte, made when first needed
	squeezed string // without white space
}

func newFinder(text string) *finder { return &finder{text: text} }

// find reports whether text stands there: as it is, as JSON writes it, or but for white space.
func (f *finder) find(text string) bool {
	if f.take(text) {
		return true
	}
	if inner := jsonInner(text); inner != text && f.take(inner) {
		return true
	}
	if f.squeezed == "" {
		f.squeezed = squeeze(f.text)
	}
	const short = 24 // bytes; anything shorter is likely to stand somewhere once white space is gone
	s := squeeze(text)
	return len(s) >= short && strings.Contains(f.squeezed, s)
}

// findAll reports whether there are texts and all stand there.
func (f *finder) findAll(texts []string) bool {
	for _, s := range texts {
		if s = strings.TrimSpace(s); s != "" && !f.find(s) {
			return false
		}
	}
	return len(texts) > 0
}

// jsonInner is a text inside of JSON's quotes, with <, > and & as they are.
func jsonInner(text string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(text) != nil {
		return text
	}
	return strings.TrimSuffix(b.String(), "\n")[1 : b.Len()-2]
}

// take finds a text where none was found before.
func (f *finder) take(text string) bool {
	for from := 0; ; {
		i := strings.Index(f.text[from:], text)
		if i < 0 {
			return false
		}
		i += from
		if f.free(i, i+len(text)) {
			return true
		}
		from = i + 1
	}
}

func (f *finder) free(from, to int) bool {
	if f.taken == nil {
		f.taken = make([]bool, len(f.text))
	}
	if slices.Contains(f.taken[from:to], true) {
		return false
	}
	for i := from; i < to; i++ {
		f.taken[i] = true
	}
	return true
}

func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}
