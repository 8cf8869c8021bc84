package chat

import (
	"errors"
	"fmt"

	"finetune/chat/jinja"
)

var (
	// ErrNoTemplate marks a conversation for a model without a chat template.
	ErrNoTemplate = errors.New("no chat template")
	// ErrRefused marks messages that the template itself refuses, by raise_exception.
	ErrRefused = jinja.ErrRaised
	// ErrLimit marks a template that does more work than is sensible, for one conversation or over all of them.
	ErrLimit = jinja.ErrLimit
)

// Error says what is wrong with a chat template, or with the messages for it.
type Error struct {
	Msg         string // one line
	Unsupported bool   // it may be fine, but is not handled here
	Err         error  // the cause or one of the sentinels, or nil
}

func (e *Error) Error() string { return "chat: " + e.Msg }
func (e *Error) Unwrap() error { return e.Err }

func badf(format string, args ...any) error { return &Error{Msg: fmt.Sprintf(format, args...)} }

// templateError gives an error of the renderer the name of the template and its place there.
func templateError(name string, err error) error {
	e, ok := errors.AsType[*jinja.Error](err)
	if !ok {
		return err
	}
	if errors.Is(err, ErrRefused) {
		return &Error{Msg: name + " refuses the messages: " + e.Msg, Err: err}
	}
	msg := fmt.Sprintf("%s, line %d: %s", name, e.Line, e.Msg)
	if e.Line == 0 {
		msg = fmt.Sprintf("%s: %s", name, e.Msg)
	}
	return &Error{Msg: msg, Unsupported: errors.Is(err, jinja.ErrUnsupported), Err: err}
}

// inMessage says which message, counted from 1, an error is about.
func inMessage(i int, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	return &Error{fmt.Sprintf("message %d: %s", i, e.Msg), e.Unsupported, e.Err}
}
