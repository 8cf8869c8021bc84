package adapter

import (
	"errors"
	"fmt"
)

// ErrOtherBase is what [Adapter.CheckBase] returns, wrapped, for an adapter that
// fits the model's shapes but was trained on another one.
var ErrOtherBase = errors.New("trained on another base")

// A FormatError reports a GGUF file that claims to be an adapter and is none that
// can be used: factors missing, of shapes that do not fit, or not finite.
type FormatError struct {
	Path string
	Msg  string
}

func (e *FormatError) Error() string { return fmt.Sprintf("adapter: %q: %s", e.Path, e.Msg) }

// An UnsupportedError reports a valid adapter that this package does not handle.
type UnsupportedError struct {
	Path string
	Msg  string
}

func (e *UnsupportedError) Error() string { return fmt.Sprintf("adapter: %q: %s", e.Path, e.Msg) }
