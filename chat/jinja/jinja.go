// Package jinja renders the chat template that a GGUF carries in
// tokenizer.chat_template: the part of Jinja2 (https://jinja.palletsprojects.com/en/3.1.x/templates/)
// that such templates use, with the settings the model hubs use (trim_blocks and
// lstrip_blocks on, no escaping, tojson as Python's json.dumps).
//
// A template comes with a downloaded model, so it is hostile input. Nothing in this
// package opens a file, a name resolves only to what the caller passed in or to the
// built-in functions, values cannot be changed in place, and parsing and rendering
// run on budgets (source bytes, nesting, work), so that every template ends, in
// seconds and within a few hundred MB, with text or with an *Error.
//
// The package exists because the general engines for Go have no such budgets: with gonja
// v2.9.1 a macro that calls itself overflows the stack, which ends the program and cannot be
// recovered or timed out, as do {{ 'a' * 100000000000 }} and deep brackets; and it does not
// parse Gemma 3's template.
//
// Refused by name (ErrUnsupported): include, import, from, extends, block, and any
// statement, filter, test or method that is not in the tables of this package.
//
//	t, err := jinja.Parse("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
//	messages, err := jinja.FromJSON([]byte(`[{"role": "user", "content": "hi"}]`))
//	text, err := t.Render(map[string]any{"messages": messages})
package jinja

import (
	"errors"
	"fmt"
	"strings"
)

// Budgets. The largest templates in circulation have some 30 KiB, nest about ten
// deep, and cost a few hundred thousand units of work for a long conversation.
const (
	maxSource  = 1 << 20 // bytes of template source
	maxNesting = 200     // blocks and brackets open at once in the source
	maxDepth   = 4000    // expressions and blocks being evaluated at once; keeps the goroutine's stack small
	maxWork    = 1 << 27 // units: one a byte made or searched, stepCost a node visited
	tryWork    = 1 << 23 // units of Try
	stepCost   = 32
	itemCost   = 96 // units a list element, about the bytes it takes with its value while its list grows
)

var (
	// ErrUnsupported marks a template that may be good Jinja but uses what this package leaves out.
	ErrUnsupported = errors.New("not supported")
	// ErrRaised marks an error that the template itself raised with raise_exception.
	ErrRaised = errors.New("raised by the template")
	// ErrLimit marks a template that ran past a budget.
	ErrLimit = errors.New("over the limit")
)

// Error is every error of this package: where in the template it happened and what was wrong.
// errors.Is tells ErrUnsupported, ErrRaised and ErrLimit apart.
type Error struct {
	Line int    // line of the template, from 1; 0 when the whole template is meant
	Msg  string // without prefix or line
	Err  error  // one of the sentinels, or nil
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return "jinja: " + e.Msg
	}
	return fmt.Sprintf("jinja: line %d: %s", e.Line, e.Msg)
}

func (e *Error) Unwrap() error { return e.Err }

func errorf(format string, a ...any) error { return &Error{Msg: fmt.Sprintf(format, a...)} }

func unsupported(format string, a ...any) error {
	return &Error{Msg: fmt.Sprintf(format, a...) + " is not supported", Err: ErrUnsupported}
}

// at gives an error of this package the line it happened on, unless an inner node has.
func at(line int, err error) error {
	var e *Error
	if errors.As(err, &e) && e.Line == 0 {
		e.Line = line
	}
	return err
}

// Template is a parsed template. It is never changed after Parse: goroutines may share it.
type Template struct {
	// Loose makes an undefined value an empty text in a sum, and none an empty list in a loop, as llama.cpp's engine
	// does, where Jinja2 fails. It is set before the template is shared.
	Loose bool

	body []node
}

// Parse compiles a template. The error is an *Error.
func Parse(source string) (*Template, error) {
	if len(source) > maxSource {
		return nil, &Error{Msg: fmt.Sprintf("template has %d bytes, want at most %d", len(source), maxSource), Err: ErrLimit}
	}
	tokens, err := lex(source)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	body, err := p.body()
	if err != nil {
		return nil, at(p.peek().line, err)
	}
	return &Template{body: body}, nil
}

// MaxWork is the budget of one rendering, in units: some seconds.
const MaxWork = maxWork

// Render runs the template over vars and returns its text. A value is nil, a bool, int,
// int64, float64 or string, a []any or *Dict of values, or a Func. The error is an *Error.
func (t *Template) Render(vars map[string]any) (string, error) {
	text, _, err := t.RenderWithin(vars, maxWork)
	return text, err
}

// RenderWithin is Render on a budget of work, of at most MaxWork units, and tells how much of it was used. Past it the error
// is ErrLimit.
func (t *Template) RenderWithin(vars map[string]any, work int64) (text string, used int64, err error) {
	work = min(work, maxWork)
	st := &state{work: work, loose: t.Loose, out: new(strings.Builder)}
	st.scope = &scope{vars: make(map[string]any, len(vars))}
	for name, v := range vars {
		st.scope.vars[name] = normal(v)
	}
	if err := st.render(t.body); err != nil {
		return "", work - st.work, err
	}
	return st.out.String(), work - st.work, nil
}
