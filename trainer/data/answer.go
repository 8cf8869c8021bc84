package data

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"finetune/chat"
	"finetune/trainer/data/chunk"
)

// Answer is a choice behind its prompt, as tokens.
type Answer struct {
	Tokens []int32 // prompt and choice
	From   int     // where the choice begins in Tokens, at least 1
}

// QuestionOptions say how questions are written.
type QuestionOptions struct {
	Tokenizer chat.Tokenizer
	NCtx      int         // most tokens that a model may be given; 0 = no limit
	Template  chat.Source // chat template that writes the question as a user's message; none = raw
	Now       time.Time
	Args      chat.Args // of the template
	Letters   bool      // list the choices in the prompt and choose from their letters, where they stand apart from the question
}

// LoadQuestions reads questions with choices (see parseQuestion for their forms), one or more, and encodes each choice behind
// its prompt as lm-evaluation-harness does: a blank between the two, unless there is white space or the template puts the
// choice at the start of the answer; tokenized as one text, and the tokens beyond those of the prompt by itself, without the
// white space at its end, are the choice's. In front is BOS where the vocabulary wants it. Errors are as Load's.
func LoadQuestions(path string, o QuestionOptions) ([]Question, error) {
	all, err := loadQuestions(path, o)
	return all, advise(err)
}

func loadQuestions(path string, o QuestionOptions) ([]Question, error) {
	kind, err := kindOf(path, nil)
	if err != nil {
		return nil, err
	}
	if kind == kindPlain {
		return nil, &UnsupportedError{Path: path, Msg: "a text has no questions, want .jsonl or .json", Err: errNotText}
	}
	e, err := newQuestionEncoder(o)
	if err != nil {
		return nil, located(err, path, 0)
	}
	var all []Question
	for r, err := range rows(path, kind, nil) {
		var q Question
		if err == nil {
			q, err = e.question(r)
		}
		if err != nil {
			return nil, unwrapFatal(locate(err, path, r.line))
		}
		all = append(all, q)
	}
	return all, nil
}

// question reads and encodes one row.
func (e *questionEncoder) question(r row) (Question, error) {
	q, err := parseQuestion(r.object, e.letters)
	if err != nil {
		return q, err
	}
	q.Line = r.line
	q.Answers, err = e.answers(q)
	return q, err
}

// questionEncoder turns questions into tokens.
type questionEncoder struct {
	encoder
	nCtx    int
	letters bool
}

func newQuestionEncoder(o QuestionOptions) (*questionEncoder, error) {
	e := &questionEncoder{encoder{tok: o.Tokenizer, long: chunk.New(o.Tokenizer)}, o.NCtx, o.Letters}
	if o.Template.None() {
		return e, nil
	}
	var err error
	e.template, err = chat.Parse(o.Template, o.Tokenizer, chat.Options{Now: o.Now, Args: o.Args})
	return e, err
}

// answers encodes the choices of a question.
func (e *questionEncoder) answers(q Question) ([]Answer, error) {
	context, err := e.context(q)
	if err != nil {
		return nil, err
	}
	prompt := strings.TrimRightFunc(context, unicode.IsSpace)
	if prompt == "" {
		return nil, badf("the question is empty")
	}
	before, err := e.whole(prompt)
	if err != nil {
		return nil, err
	}
	all := make([]Answer, len(q.Choices))
	for i, c := range q.Choices {
		tokens, err := e.whole(context + e.delimiter(q, context, c) + c)
		if err != nil {
			return nil, err
		}
		all[i] = Answer{tokens, len(before)}
		switch given := len(tokens) - 1; { // nothing follows the last token
		case len(tokens) <= len(before) || len(before) == 0:
			return nil, unsupportedf("choice %d, %.40q, makes no token of its own behind its prompt", i+1, c)
		case e.nCtx > 0 && given > e.nCtx:
			return nil, &FormatError{Msg: fmt.Sprintf("choice %d makes %d tokens with its prompt, want at most %d", i+1, given, e.nCtx), Err: errLong}
		}
	}
	return all, nil
}

// context is the text in front of a question's choices.
func (e *questionEncoder) context(q Question) (string, error) {
	if e.template == nil {
		return q.prompt + q.lead, nil
	}
	text, err := e.template.Render([]chat.Message{{Role: "user", Content: q.message}}, nil, true)
	return text + q.lead, err
}

// delimiter is what stands between the text in front and a choice.
func (e *questionEncoder) delimiter(q Question, context, choice string) string {
	spaced := strings.TrimRightFunc(context, unicode.IsSpace) != context || strings.TrimLeftFunc(choice, unicode.IsSpace) != choice
	if startsAnswer := e.template != nil && q.lead == ""; startsAnswer || spaced {
		return ""
	}
	return " "
}

// whole tokenizes a text from its beginning.
func (e *questionEncoder) whole(text string) ([]int32, error) {
	var x example
	err := e.begin(&x, text, false)
	return x.Tokens, err
}
