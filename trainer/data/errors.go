package data

import (
	"errors"
	"fmt"

	"finetune/chat"
	"finetune/internal/hint"
)

var (
	// ErrEmpty marks a file, or the part of it held out, without any text or record.
	ErrEmpty = errors.New("empty")
	// ErrNoTrained marks data that holds nothing to learn: no target token has weight.
	ErrNoTrained = errors.New("no trained token")

	errNotText  = errors.New("not text")
	errEncoding = errors.New("not UTF-8")
	errFields   = errors.New("fields of no format")
	errNoString = errors.New("no string")
	errLost     = errors.New("lost by the chat template")
	errSplit    = errors.New("nothing to hold out")
	errLong     = errors.New("longer than the context")
)

// FormatError says what is wrong in a file, and where.
type FormatError struct {
	Path string
	Line int    // from 1; 0 when the whole file is meant
	Msg  string // what is wrong and what was wanted, one line
	Err  error  // one of the sentinels or the cause, or nil
}

func (e *FormatError) Error() string { return place(e.Path, e.Line, e.Msg) }
func (e *FormatError) Unwrap() error { return e.Err }

// UnsupportedError says what in a file may be fine but is not handled.
type UnsupportedError struct {
	Path string
	Line int // from 1; 0 when the whole file is meant
	Msg  string
	Err  error
}

func (e *UnsupportedError) Error() string { return place(e.Path, e.Line, e.Msg) }
func (e *UnsupportedError) Unwrap() error { return e.Err }

func place(path string, line int, msg string) string {
	switch {
	case path == "":
		return "data: " + msg
	case line == 0:
		return fmt.Sprintf("data: %q: %s", path, msg)
	}
	return fmt.Sprintf("data: %q line %d: %s", path, line, msg)
}

// located gives an error made below the file its path and line.
func located(err error, path string, line int) error {
	if e, ok := asChat(err); ok {
		err = e
	}
	switch e := err.(type) {
	case *FormatError:
		return &FormatError{path, line, e.Msg, e.Err}
	case *UnsupportedError:
		return &UnsupportedError{path, line, e.Msg, e.Err}
	case *chat.Error:
		if e.Unsupported {
			return &UnsupportedError{path, line, e.Msg, e}
		}
		return &FormatError{path, line, e.Msg, e}
	}
	return &FormatError{path, line, err.Error(), err}
}

// asChat finds the chat package's error in err.
func asChat(err error) (*chat.Error, bool) { return errors.AsType[*chat.Error](err) }

// advise adds what can be tried next to the errors that have an answer.
func advise(err error) error {
	switch {
	case errors.Is(err, chat.ErrNoTemplate):
		return hint.With(err, `use an instruct model, whose GGUF carries a chat template, give one by --template FILE, or records of "prompt" and "completion"`)
	case errors.Is(err, chat.ErrRefused):
		return hint.With(err, "write the records with the roles and the order that the model's chat template accepts, or by --skip-bad N leave out such records")
	case errors.Is(err, chat.ErrLimit):
		return hint.With(err, "--template FILE takes another chat template in place of the model's")
	case errors.Is(err, errNotText):
		return hint.With(err, `write one JSON object a line: {"text": …}, {"prompt": …, "completion": …} or {"messages": […]}`)
	case errors.Is(err, errEncoding):
		return hint.With(err, "make UTF-8 of it, for instance by iconv -f latin1 -t utf-8 FILE, or by --skip-bad N leave out such records")
	case errors.Is(err, errFields):
		return hint.With(err, "--map FIELD=COLUMN says which column is a field, for instance --map prompt=question --map completion=answer, or --map text=COLUMN")
	case errors.Is(err, errNoString):
		return hint.With(err, "write it as a text: of a list one of its elements, of an object its JSON as a string")
	case errors.Is(err, errLost):
		return hint.With(err, "--template FILE takes a chat template that prints it, --on-lost warn trains without what is lost, --on-lost skip leaves out such records")
	case errors.Is(err, errSplit):
		return hint.With(err, "--val FILE measures on other data, --val-fraction 0 measures nothing")
	case errors.Is(err, errLong):
		return hint.With(err, "a longer --ctx, or a model that was trained on more tokens")
	}
	return err
}

// heldOut says that it is the held-out part that an error is about.
func heldOut(err error) error {
	var e *FormatError
	if errors.As(err, &e) {
		return &FormatError{e.Path, e.Line, "held-out part: " + e.Msg, e.Err}
	}
	return err
}

func badf(format string, a ...any) error { return &FormatError{Msg: fmt.Sprintf(format, a...)} }

func unsupportedf(format string, a ...any) error {
	return &UnsupportedError{Msg: fmt.Sprintf(format, a...)}
}
