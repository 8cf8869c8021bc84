package convert

import "fmt"

// A FormatError reports an adapter that is damaged, or whose parts contradict one
// another or the base.
type FormatError struct {
	Path string
	Msg  string
}

func (e *FormatError) Error() string { return fmt.Sprintf("convert: %q: %s", e.Path, e.Msg) }

// An UnsupportedError reports a valid adapter that the wanted format cannot hold, or
// that this package does not handle.
type UnsupportedError struct {
	Path string
	Msg  string
}

func (e *UnsupportedError) Error() string { return fmt.Sprintf("convert: %q: %s", e.Path, e.Msg) }

// otherBase is the hint for an adapter that does not fit the model.
const otherBase = "give the base that the adapter was trained on"
