// Package chat writes conversations as the text that a model was taught, by the Jinja template in its GGUF. Package
// chat/jinja, a leaf, is the renderer.
//
//	t, err := chat.ParseTemplate(source, vocab, time.Now())
//	text, err := t.Render([]chat.Message{{Role: "user", Content: "Hello"}}, nil, true)
//
// What a template cannot be, or does not take, is an *Error in one line; a template comes with a downloaded model, and is
// rendered within budgets of time and memory.
package chat

import (
	"strings"
	"time"
)

// Tokenizer is what templates and data need of a vocabulary; llama.cpp's is one.
type Tokenizer interface {
	// Tokenize turns text into token ids. addSpecial puts the vocabulary's own BOS and
	// EOS around it; parseSpecial reads "<|im_end|>" and the like as the tokens of that name.
	Tokenize(text string, addSpecial, parseSpecial bool) ([]int32, error)
	// Piece is the text of one token; the name of a control token only when special is set.
	Piece(id int32, special bool) string
	BOS() int32 // token that begins a text, -1 if there is none
	EOS() int32 // token that ends a text, -1 if there is none
	// AddBOS reports whether a text of this vocabulary begins with BOS.
	AddBOS() bool
	// IsEOG reports whether an app stops generating at this token: EOS, end of turn and the like.
	IsEOG(id int32) bool
}

// WithoutBOS returns a rendered conversation without the name of BOS at its start, if the vocabulary puts that token in
// front of every text by itself.
func WithoutBOS(text string, tok Tokenizer) string {
	if name := tok.Piece(tok.BOS(), true); tok.AddBOS() && name != "" {
		return strings.TrimPrefix(text, name)
	}
	return text
}

// Prompt writes a conversation by a template's source, ready for the answer and for being tokenized with BOS. Without a
// source the error is [ErrNoTemplate].
func Prompt(source string, tok Tokenizer, messages []Message) (string, error) {
	return PromptFrom(Source{Default: source}, tok, Options{Now: time.Now()}, messages)
}

// PromptFrom is Prompt by other templates than one of the model's alone, with their options.
func PromptFrom(source Source, tok Tokenizer, o Options, messages []Message) (string, error) {
	if source.None() {
		return "", &Error{Msg: "the model has no chat template", Err: ErrNoTemplate}
	}
	t, err := Parse(source, tok, o)
	if err != nil {
		return "", err
	}
	text, err := t.Render(messages, nil, true)
	if err != nil {
		return "", err
	}
	return WithoutBOS(text, tok), nil
}
