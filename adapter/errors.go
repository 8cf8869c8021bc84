package adapter

import (
	"errors"
	"fmt"
)

// ErrOtherBase is what [Adapter.CheckBase] returns, wrapped, for an adapter that
// fits the model's shapes but was trained on another one.
var ErrOtherBase = errors.New("trained on another base")

// ErrOtherWeights is what [Adapter.CheckBase] returns, wrapped, for an adapter that was
// trained on other weights of a model with the same norms: another quantization of it,
// which is well, or what a merge or a further training has made of it, which is not.
var ErrOtherWeights = errors.New("trained on other weights")

// ErrNeedsBase is what is returned, wrapped, where a change would have to be formed
// that depends on the weights of a base and has none, see [Adapter.Bind].
var ErrNeedsBase = errors.New("its change depends on the weights of the base, which is not given")

// errNoMultiple: the change is no multiple of any of its factors.
var errNoMultiple = errors.New("the effect of a DoRA is no multiple of its factors")

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
