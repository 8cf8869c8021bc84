// Package hint lets an error carry advice: what the user can try next.
//
// The error keeps its own text; the advice travels beside it and is printed by
// the command on lines of its own. Libraries below cmd add hints, only cmd
// shows them:
//
//	return hint.With(err, "--resume continues the run in this folder")
package hint

import "slices"

// hinted is an error with hint lines. Its text is the wrapped error's alone.
type hinted struct {
	Err   error
	Hints []string // lower case, no full stop, one line each
}

// Error returns the text of the wrapped error, without the hints.
func (e *hinted) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *hinted) Unwrap() error { return e.Err }

// With returns err carrying the given hints, or nil when err is nil.
func With(err error, hints ...string) error {
	if err == nil {
		return nil
	}
	return &hinted{Err: err, Hints: slices.Clone(hints)}
}

// Of collects the hints of err and of every error it wraps, the outermost
// first, each line once. It returns nil when there are none.
func Of(err error) []string {
	var hints []string
	collect(err, func(line string) {
		if !slices.Contains(hints, line) {
			hints = append(hints, line)
		}
	})
	return hints
}

// collect walks the tree of wrapped errors in the order of errors.As.
func collect(err error, add func(string)) {
	if e, ok := err.(*hinted); ok {
		for _, line := range e.Hints {
			add(line)
		}
	}
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		if inner := u.Unwrap(); inner != nil {
			collect(inner, add)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range u.Unwrap() {
			collect(inner, add)
		}
	}
}
