package gguf

import (
	"errors"
	"fmt"
	"io"
)

// Sentinels of the accessors of [File], for errors.Is.
var (
	ErrNoKey    = errors.New("key not in the file")
	ErrKind     = errors.New("value is of another kind")
	ErrNoTensor = errors.New("tensor not in the file")
)

// A FormatError reports a file that is not a GGUF file, or a damaged one.
type FormatError struct {
	Path string // the file, empty when it was not opened by path
	Msg  string
}

func (e *FormatError) Error() string { return message(e.Path, e.Msg) }

// A TruncatedError reports a GGUF file that ends before its contents do, as an
// interrupted download does. It matches io.ErrUnexpectedEOF.
type TruncatedError struct {
	Path string
	Msg  string
}

func (e *TruncatedError) Error() string { return message(e.Path, e.Msg) }
func (e *TruncatedError) Unwrap() error { return io.ErrUnexpectedEOF }

// An UnsupportedError reports a valid GGUF file that this package does not handle.
type UnsupportedError struct {
	Path string
	Msg  string
}

func (e *UnsupportedError) Error() string { return message(e.Path, e.Msg) }

func message(path, msg string) string {
	if path == "" {
		return "gguf: " + msg
	}
	return fmt.Sprintf("gguf: %q: %s", path, msg)
}

func formatErr(format string, args ...any) error {
	return &FormatError{Msg: fmt.Sprintf(format, args...)}
}

func truncatedErr(format string, args ...any) error {
	return &TruncatedError{Msg: fmt.Sprintf(format, args...)}
}

func unsupportedErr(format string, args ...any) error {
	return &UnsupportedError{Msg: fmt.Sprintf(format, args...)}
}

// withPath names the file in an error of this package; other errors stay as they are.
func withPath(err error, path string) error {
	switch e := err.(type) {
	case *FormatError:
		e.Path = path
	case *TruncatedError:
		e.Path = path
	case *UnsupportedError:
		e.Path = path
	}
	return err
}
