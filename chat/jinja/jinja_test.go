package jinja

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

var clock = Strftime(time.Date(2024, 7, 26, 15, 4, 5, 0, time.UTC))

// TestTextsOfJinja2: every template gives the text that Jinja2 gives, and fails where it fails.
func TestTextsOfJinja2(t *testing.T) {
	b, err := os.ReadFile("testdata/jinja2.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Messages json.RawMessage
		Cases    []struct {
			Template, Error string
			Text            *string
		}
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	messages, err := FromJSON(golden.Messages)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range golden.Cases {
		got, err := render(c.Template, map[string]any{"messages": messages, "bos_token": "<s>", "strftime_now": clock})
		switch {
		case c.Text == nil && err == nil:
			t.Errorf("Render(%q) = %q, want an error: %s", c.Template, got, c.Error)
		case c.Text != nil && (err != nil || got != *c.Text):
			t.Errorf("Render(%q)\n got %q, %v\nwant %q", c.Template, got, err, *c.Text)
		}
	}
}

func render(source string, vars map[string]any) (string, error) {
	tmpl, err := Parse(source)
	if err != nil {
		return "", err
	}
	return tmpl.Render(vars)
}

// Templates that ask for more than there is: each must end soon with an error of its kind.
func TestHostileTemplatesEnd(t *testing.T) {
	deep := func(open, shut string, n int) string { return strings.Repeat(open, n) + "1" + strings.Repeat(shut, n) }
	for _, c := range []struct {
		name, source string
		want         error
	}{
		{"macro that calls itself", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", ErrLimit},
		{"deep brackets", "{{ " + deep("(", ")", 200000) + " }}", ErrLimit},
		{"deep lists", "{{ " + deep("[", "]", 200000) + " }}", ErrLimit},
		{"deep negation", "{{ " + strings.Repeat("not ", 200000) + "1 }}", ErrLimit},
		{"deep signs", "{{ " + strings.Repeat("-", 400000) + "1 }}", ErrLimit},
		{"deep blocks", strings.Repeat("{% if 1 %}", 50000), ErrLimit},
		{"long sum", "{{ 1" + strings.Repeat("+1", 300000) + " }}", ErrLimit},
		{"long chain of filters", "{{ 1" + strings.Repeat("|abs", 200000) + " }}", ErrLimit},
		{"long chain of attributes", "{{ x" + strings.Repeat(".a", 300000) + " }}", ErrLimit},
		{"large source", strings.Repeat(" ", maxSource+1), ErrLimit},
		{"repeated string", "{{ ('a' * 100000000000)|length }}", ErrLimit},
		{"repeated by the largest number", "{{ ('aaa' * 9223372036854775807)|length }}", ErrLimit},
		{"doubled string", "{% set ns = namespace(s='aaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", ErrLimit},
		{"doubled by join", "{% set ns = namespace(s='aaaa') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}", ErrLimit},
		{"doubled list", "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}", ErrLimit},
		{"grown by replace", "{% set s = 'a' * 100000 %}{{ s.replace('a', s)|length }}", ErrLimit},
		{"grown by the empty replace", "{% set s = 'a' * 100000 %}{{ s.replace('', s)|length }}", ErrLimit},
		{"indent", "{{ 'a\nb'|indent(10000000000) }}", ErrLimit},
		{"indent of many lines", "{{ ('\n' * 1000000)|indent(100000) }}", ErrLimit},
		{"range", "{% for i in range(100000000000) %}{% endfor %}", ErrLimit},
		{"range to the end", "{{ range(9223372036854775800, 9223372036854775807, 5)|list|length ~ range(-9223372036854775807, 9223372036854775807)|list }}", ErrLimit},
		{"nested loops", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", ErrLimit},
		{"nested list", "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}", ErrLimit},
		{"nested list compared", "{% set a = namespace(l=[]) %}{% set b = namespace(l=[]) %}{% for i in range(100000) %}{% set a.l = [a.l] %}{% set b.l = [b.l] %}{% endfor %}{{ a.l == b.l }}", ErrLimit},
		{"wide JSON", "{{ ['a' * 100] | tojson(indent=1000000000) }}", ErrLimit},
		{"output", "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ s }}{% endfor %}", ErrLimit},
		{"include", "{% include '/etc/hosts' %}", ErrUnsupported},
		{"import", "{% import '/etc/hosts' as x %}", ErrUnsupported},
		{"from", "{% from '/etc/hosts' import x %}", ErrUnsupported},
		{"extends", "{% extends '/etc/hosts' %}", ErrUnsupported},
		{"unknown filter", "{{ 1|pprint }}", ErrUnsupported},
		{"unknown test", "{{ 1 is wonderful }}", ErrUnsupported},
		{"unknown method", "{{ ''.__class__() }}", ErrUnsupported},
		{"method that would change a list", "{{ [].append(1) }}", ErrUnsupported},
		{"list that grows", "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set _ = ns.l.append(i) %}{% endfor %}", ErrLimit},
		{"wide field", "{{ '%1000000000s' % 'a' }}", ErrLimit},
		{"wide field of a star", "{% for i in range(9999) %}{{ '%*d' % (1000000, 1) }}{% endfor %}", ErrLimit},
		{"wide brace", "{{ '{:>999999999}'.format(1) }}", ErrLimit},
		{"wide center", "{{ 'a'|center(100000000000) }}", ErrLimit},
		{"wide zfill", "{{ 'a'.zfill(100000000000) }}", ErrLimit},
		{"loop without an end", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", ErrLimit},
		{"list repeated", "{{ ([1] * 100000000000)|length }}", ErrLimit},
		{"slices", "{{ [1]|slice(100000000000)|list|length }}", ErrLimit},
		{"batch filled", "{{ [1]|batch(100000000000, 'x')|list|length }}", ErrLimit},
		{"raise", "{{ raise_exception('no') }}", ErrRaised},
	} {
		got, err := render(c.source, nil) // the budget is one of steps: a test that hangs shows at go test's own limit
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %.40q, %v, want an error of kind %q", c.name, got, err, c.want)
		}
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{"a\n\n{{ nope.x }}", `jinja: line 3: "x" of "nope", which is undefined`},
		{"\n{% if 1 %}\n{{ 1 + 'a' }}{% endif %}", `jinja: line 3: int + string cannot be computed`},
		{"{% if 1 %}", `jinja: line 1: template ends, want {% endif %}`},
		{"x\n{{ 1", `jinja: line 2: tag is not closed, want }}`},
		{"{{ 'a }}", `jinja: line 1: string is not closed, want '`},
		{"{{ 1 2 }}", `jinja: line 1: found '2', want }}`},
		{"{% endif %}", `jinja: line 1: statement "endif" is not supported`},
		{"{# x", `jinja: line 1: comment is not closed, want #}`},
		{"{{ ? }}", `jinja: line 1: unexpected character '?'`},
		{"{{ 'a'|int('x') }}", `jinja: line 1: filter 'int': argument "default" is string, want int`},
		{"{{ [1, 'a']|sort }}", `jinja: line 1: filter 'sort': string and int cannot be ordered`},
		{"{% set x.y = 1 %}", `jinja: line 1: set x.y: "x" is none, want a namespace`},
	} {
		_, err := render(c.source, nil)
		if err == nil || err.Error() != c.want {
			t.Errorf("Render(%q) = %v, want %s", c.source, err, c.want)
		}
	}
}

func TestJSONKeepsKeysInOrder(t *testing.T) {
	const in = `{"z": 1, "a": [2.5, null, true, "é"], "m": {}}`
	v, err := FromJSON([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := render("{{ v|tojson }}", map[string]any{"v": v}); err != nil || got != in {
		t.Errorf("tojson of FromJSON(%s) = %s, %v", in, got, err)
	}
}

// FuzzRender: no template panics, and every error is one line with its place.
func FuzzRender(f *testing.F) {
	b, err := os.ReadFile("testdata/jinja2.json")
	if err != nil {
		f.Fatal(err)
	}
	var golden struct{ Cases []struct{ Template string } }
	if err := json.Unmarshal(b, &golden); err != nil {
		f.Fatal(err)
	}
	for _, c := range golden.Cases {
		f.Add(c.Template)
	}
	messages, err := FromJSON([]byte(`[{"role": "user", "content": "x"}, {"role": "assistant", "content": [1, {"a": null}]}]`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, source string) {
		_, err := render(source, map[string]any{"messages": messages, "strftime_now": clock})
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("Render(%q) = %T %v, want an *Error", source, err, err)
		}
	})
}
