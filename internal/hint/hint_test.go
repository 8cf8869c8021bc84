package hint_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"finetune/internal/hint"
)

func TestOf(t *testing.T) {
	base := hint.With(fs.ErrNotExist, "check the path")
	for _, tt := range []struct {
		name string
		err  error
		want []string
	}{
		{"nil", nil, nil},
		{"no hints", fs.ErrNotExist, nil},
		{"direct", base, []string{"check the path"}},
		{"wrapped", fmt.Errorf("gguf: %w", base), []string{"check the path"}},
		{"outermost first", hint.With(base, "a", "b"), []string{"a", "b", "check the path"}},
		{"each line once", hint.With(base, "check the path"), []string{"check the path"}},
		{"joined", errors.Join(base, hint.With(fs.ErrExist, "choose another")), []string{"check the path", "choose another"}},
	} {
		if got := hint.Of(tt.err); !slices.Equal(got, tt.want) {
			t.Errorf("%s: Of(%v) = %q, want %q", tt.name, tt.err, got, tt.want)
		}
	}
}

func TestWithKeepsTextAndIdentity(t *testing.T) {
	err := hint.With(fs.ErrNotExist, "look elsewhere")
	if err.Error() != fs.ErrNotExist.Error() {
		t.Errorf("Error() = %q, want %q", err, fs.ErrNotExist)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("errors.Is(%v, fs.ErrNotExist) = false, want true", err)
	}
	if got := hint.With(nil, "never"); got != nil {
		t.Errorf("With(nil) = %v, want nil", got)
	}
}
