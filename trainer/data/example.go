package data

import (
	"fmt"
	"slices"
	"strings"

	"finetune/chat"
	"finetune/trainer/data/chunk"
)

// example is one document as tokens: a record, a turn of a chat with all before it, or a
// piece of a plain text.
type example struct {
	Tokens   []int32
	LossMask []bool // LossMask[i]: token i is learned, as the target behind token i-1
}

// add appends tokens that are all learned or all not.
func (e *example) add(train bool, tokens ...int32) {
	for _, t := range tokens {
		e.Tokens = append(e.Tokens, t)
		e.LossMask = append(e.LossMask, train)
	}
}

// targets counts the tokens that are learned. The first token is never a target.
func (e example) targets() int {
	n := 0
	for i := 1; i < len(e.LossMask); i++ {
		if e.LossMask[i] {
			n++
		}
	}
	return n
}

// encoded is a record as examples, with what became of it.
type encoded struct {
	examples     []example
	line         int
	path         string
	stopsAdded   int         // answers that got an EOS because their template prints no end of turn
	stopsMissing int         // answers inside a chat that end without a token to stop at
	stopsInside  int         // answers with a token to stop at before their end
	inexact      int         // answers that follow other tokens here than in an app
	given        int         // answers taken as they are, with thoughts that the template would cut
	empty        int         // answers without a word, which are not learned
	behind       int         // messages behind the last answer
	raw          bool        // a prompt and a completion without a control token, for a model that has a chat template
	merged       bool        // the system message is a part of the user's
	chosen       bool        // of two answers, the better one
	shortened    bool        // a text to classify lost its end
	lost         []chat.Loss // what the template lost
	leftOut      bool        // because of that
}

// encoder turns records into tokens.
type encoder struct {
	tok      chat.Tokenizer
	long     *chunk.Encoder // tok, for texts of any length
	template *chat.Template // nil: the model has none
	rerank   string         // chat.Source.Rerank
	most     int            // tokens of a text to classify or rank; 0 = any number
	onLost   string         // what happens to a record of which the template loses something
}

// newEncoder reads the template that o names.
func newEncoder(o options) (*encoder, error) {
	e := &encoder{tok: o.Tokenizer, long: chunk.New(o.Tokenizer), rerank: o.Template.Rerank, onLost: o.OnLost}
	if o.LongRecords == cutLong {
		e.most = o.NCtx
	}
	if o.Template.None() {
		return e, nil
	}
	var err error
	e.template, err = chat.Parse(o.Template, o.Tokenizer, chat.Options{Now: o.Now, Args: o.Args})
	return e, err
}

func (e *encoder) record(r record) (encoded, error) {
	switch {
	case r.Kind == kindPair:
		return e.pair(r)
	case r.Kind == kindClass:
		return e.class(r)
	case r.Kind == kindRank:
		return e.rank(r)
	case r.Kind == kindText:
		return e.text(r.Text)
	case r.Kind == kindCompletion, r.Kind == kindInstruction && e.template == nil:
		return e.completion(r.Prompt, r.Completion)
	}
	return e.chat(r)
}

// text encodes a document: [BOS] text EOS, all learned, so that the model also learns where
// such a text ends. Names of special tokens in it count as those tokens, because records
// are often chats that were written out beforehand.
func (e *encoder) text(text string) (encoded, error) {
	if strings.TrimSpace(text) == "" {
		return encoded{empty: 1}, nil
	}
	var x example
	if err := e.begin(&x, text, true); err != nil {
		return encoded{}, err
	}
	if len(x.Tokens) > 0 && !e.tok.IsEOG(x.Tokens[len(x.Tokens)-1]) {
		e.end(&x)
	}
	return encoded{examples: []example{x}}, nil
}

// completion encodes [BOS] prompt completion EOS; the completion and its EOS are learned.
func (e *encoder) completion(prompt, completion string) (encoded, error) {
	if strings.TrimSpace(completion) == "" {
		return encoded{empty: 1}, nil
	}
	var x example
	if err := e.begin(&x, prompt, false); err != nil {
		return encoded{}, err
	}
	if err := e.follow(&x, completion, true); err != nil {
		return encoded{}, err
	}
	out := encoded{stopsInside: e.stopsBefore(x, len(x.Tokens)-1), raw: e.template != nil && !e.hasControl(x.Tokens)}
	if n := len(x.Tokens); n == 0 || !x.LossMask[n-1] || !e.tok.IsEOG(x.Tokens[n-1]) {
		e.end(&x)
	}
	out.examples = []example{x}
	return out, nil
}

// hasControl reports whether a control token besides BOS is among tokens, as in every text that a chat template wrote.
func (e *encoder) hasControl(tokens []int32) bool {
	for _, t := range tokens {
		if t != e.tok.BOS() && e.tok.Piece(t, false) == "" && e.tok.Piece(t, true) != "" {
			return true
		}
	}
	return false
}

// stopsBefore is 1 if the model would learn a token to stop at before a position.
func (e *encoder) stopsBefore(x example, end int) int {
	for i, t := range x.Tokens[:max(end, 0)] {
		if x.LossMask[i] && e.tok.IsEOG(t) {
			return 1
		}
	}
	return 0
}

// begin encodes the first text of a document. It begins with one BOS if the vocabulary
// wants one, also when the text, a rendered template for instance, brings its own.
func (e *encoder) begin(x *example, text string, train bool) error {
	ids, err := e.long.Tokenize(text, true)
	if err != nil {
		return err
	}
	bos := e.tok.BOS()
	if e.tok.AddBOS() && bos >= 0 && (len(ids) == 0 || ids[0] != bos) {
		x.add(false, bos)
	}
	x.add(train, ids...)
	return nil
}

// end appends a learned EOS, if the vocabulary has one.
func (e *encoder) end(x *example) {
	if eos := e.tok.EOS(); eos >= 0 {
		x.add(true, eos)
	}
}

// follow encodes text that continues a document. The border between two pieces is a border
// between tokens, as it is in an app, where one piece is the prompt and the next is generated.
func (e *encoder) follow(x *example, text string, train bool) error {
	ids, err := e.long.Continue(x.Tokens, text, true)
	x.add(train, ids...)
	return err
}

// chat encodes a conversation: each piece of the template's text by itself, learned up to
// and with the last token that ends a turn; what the template prints behind it (a line end)
// is not learned. An answer without such a token, from a template that prints none, gets
// the vocabulary's EOS where the document ends with it.
func (e *encoder) chat(r record) (encoded, error) {
	if e.template == nil {
		return encoded{}, &FormatError{Msg: "chat record, but the model has no chat template", Err: chat.ErrNoTemplate}
	}
	var out encoded
	messages := slices.Clone(r.Messages)
	for i, m := range messages {
		if m.Role == "assistant" && !m.NoLoss && m.Empty() {
			messages[i].NoLoss = true
			out.empty++
		}
	}
	rendered, err := e.template.Sequences(messages, r.Tools, r.ToolNames)
	if err != nil {
		return out, err
	}
	if len(rendered.Sequences) == 0 && len(rendered.Lost) == 0 {
		return out, nil
	}
	out.behind, out.merged = rendered.Behind, e.template.MergesSystem(messages, r.Tools)
	if out.lost = rendered.Lost; len(out.lost) > 0 && e.onLost != "warn" {
		if e.onLost != "skip" {
			return out, &FormatError{Msg: "the chat template loses the " + lossText(out.lost), Err: errLost}
		}
		out.leftOut = true
		return out, nil
	}
	for _, s := range rendered.Sequences {
		x, err := e.sequence(s, &out)
		if err != nil {
			return out, err
		}
		out.examples = append(out.examples, x)
	}
	return out, nil
}

// lossText names what was lost, and where.
func lossText(lost []chat.Loss) string {
	var parts []string
	for _, l := range lost {
		part := l.What
		if l.Message > 0 {
			part = fmt.Sprintf("%s of message %d", l.What, l.Message)
		}
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	if len(parts) > 3 {
		parts = append(parts[:3], "more")
	}
	return strings.Join(parts, ", ")
}

func (e *encoder) sequence(pieces []chat.Piece, out *encoded) (example, error) {
	var x example
	for i, p := range pieces {
		from := len(x.Tokens)
		err := error(nil)
		if i == 0 {
			err = e.begin(&x, p.Text, false)
		} else {
			err = e.follow(&x, p.Text, p.Answer)
		}
		if err != nil {
			return x, err
		}
		if !p.Answer {
			continue
		}
		stop := e.lastStop(x.Tokens, from)
		if e.blank(x.Tokens[from:]) { // of a call that the template loses, for instance
			forget(x.LossMask[from:])
			out.empty++
			continue
		}
		if p.Inexact {
			out.inexact++
		}
		if p.Given {
			out.given++
		}
		switch {
		case stop >= 0:
			forget(x.LossMask[stop+1:])
			out.stopsInside += e.stopsBefore(example{x.Tokens[from:], x.LossMask[from:]}, stop-from)
		case i == len(pieces)-1:
			e.end(&x)
			out.stopsAdded++
		default:
			out.stopsMissing++
		}
	}
	return x, nil
}

// forget takes tokens out of the loss.
func forget(mask []bool) {
	for i := range mask {
		mask[i] = false
	}
}

// blank reports whether tokens are white space and ends of turns only.
func (e *encoder) blank(tokens []int32) bool {
	for _, t := range tokens {
		if !e.tok.IsEOG(t) && strings.TrimSpace(e.tok.Piece(t, true)) != "" {
			return false
		}
	}
	return true
}

// lastStop returns the last position from on where an app stops generating, -1 if there is none.
func (e *encoder) lastStop(tokens []int32, from int) int {
	for i := len(tokens) - 1; i >= from; i-- {
		if e.tok.IsEOG(tokens[i]) {
			return i
		}
	}
	return -1
}
