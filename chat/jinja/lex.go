package jinja

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind uint8

const (
	tokEnd kind = iota
	tokText
	tokPrint    // {{
	tokPrintEnd // }}
	tokBlock    // {%
	tokBlockEnd // %}
	tokName
	tokString
	tokInt
	tokFloat
	tokOp
)

type token struct {
	kind kind
	val  string
	line int
}

// operators, longer ones first.
var operators = []string{
	"//", "**", "==", "!=", "<=", ">=",
	"+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ":", ".", ",", "|",
}

var (
	rawBegin = regexp.MustCompile(`^\{%[-+]?\s*raw\s*(-?)%\}`)
	rawEnd   = regexp.MustCompile(`\{%(-?)\+?\s*endraw\s*([-+]?)%\}`)
)

// lexer turns template source into tokens. Text outside tags follows Jinja's white space
// rules with trim_blocks and lstrip_blocks on:
//
//	"-" inside a tag's border   drops all white space on that side of the tag
//	{% %} and {# #}             drop the blanks before them on their line, and one line end after them
//	"+" inside a tag's border   switches the second rule off on that side
type lexer struct {
	src       string
	pos       int
	line      int
	lineStart bool // whether pos is the first byte of a line of source
	tokens    []token
}

func lex(source string) ([]token, error) {
	source = strings.ReplaceAll(source, "\r\n", "\n")
	source = strings.ReplaceAll(source, "\r", "\n")
	l := &lexer{src: strings.TrimSuffix(source, "\n"), line: 1, lineStart: true}
	for l.pos < len(l.src) {
		if err := l.next(); err != nil {
			return nil, at(l.line, err)
		}
	}
	l.emit(tokEnd, "")
	return l.tokens, nil
}

func (l *lexer) emit(k kind, val string) {
	l.tokens = append(l.tokens, token{k, val, l.line})
}

func (l *lexer) emitText(s string) {
	if s != "" {
		l.emit(tokText, s)
	}
}

// skip moves over n bytes and keeps the line count and lineStart right.
func (l *lexer) skip(n int) {
	passed := l.src[l.pos : l.pos+n]
	l.line += strings.Count(passed, "\n")
	l.lineStart = strings.HasSuffix(passed, "\n")
	l.pos += n
}

func (l *lexer) rest() string { return l.src[l.pos:] }

// next reads the text up to the next tag, and that tag.
func (l *lexer) next() error {
	rest := l.rest()
	i := tagStart(rest)
	if i < 0 {
		l.emitText(rest)
		l.skip(len(rest))
		return nil
	}
	text, tag := rest[:i], rest[i:]
	l.emitText(l.beforeTag(text, tag))
	l.skip(i)
	switch {
	case tag[1] == '#':
		return l.comment()
	case rawBegin.MatchString(tag):
		return l.raw()
	case tag[1] == '%':
		return l.tag(tokBlock, tokBlockEnd, "%}")
	}
	return l.tag(tokPrint, tokPrintEnd, "}}")
}

func tagStart(s string) int {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '{' && (s[i+1] == '{' || s[i+1] == '%' || s[i+1] == '#') {
			return i
		}
	}
	return -1
}

// beforeTag applies the left side of the white space rules to the text in front of a tag.
func (l *lexer) beforeTag(text, tag string) string {
	switch {
	case strings.HasPrefix(tag[2:], "-"):
		return strings.TrimRightFunc(text, unicode.IsSpace)
	case tag[1] == '{' || strings.HasPrefix(tag[2:], "+"):
		return text
	}
	lineAt := strings.LastIndexByte(text, '\n') + 1
	if (lineAt > 0 || l.lineStart) && strings.TrimSpace(text[lineAt:]) == "" {
		return text[:lineAt]
	}
	return text
}

// afterTag applies the right side: mark is the byte in front of the closing bracket.
func (l *lexer) afterTag(mark byte, block bool) {
	rest := l.rest()
	switch {
	case mark == '-':
		l.skip(len(rest) - len(strings.TrimLeftFunc(rest, unicode.IsSpace)))
	case block && mark != '+' && strings.HasPrefix(rest, "\n"):
		l.skip(1)
	}
}

func (l *lexer) comment() error {
	end := strings.Index(l.rest()[2:], "#}")
	if end < 0 {
		return errorf("comment is not closed, want #}")
	}
	mark := l.src[l.pos+2+end-1] // "{#}…" cannot occur: end is searched behind "{#"
	l.skip(2 + end + 2)
	l.afterTag(mark, true)
	return nil
}

// raw copies what stands between {% raw %} and {% endraw %} as text.
func (l *lexer) raw() error {
	begin := rawBegin.FindStringSubmatchIndex(l.rest())
	body := l.rest()[begin[1]:]
	end := rawEnd.FindStringSubmatchIndex(body)
	if end == nil {
		return errorf("raw block is not closed, want {%% endraw %%}")
	}
	text := body[:end[0]]
	if begin[2] != begin[3] {
		text = strings.TrimLeftFunc(text, unicode.IsSpace)
	}
	if end[2] != end[3] {
		text = strings.TrimRightFunc(text, unicode.IsSpace)
	}
	l.emitText(text)
	var mark byte
	if end[4] != end[5] {
		mark = body[end[4]]
	}
	l.skip(begin[1] + end[1])
	l.afterTag(mark, true)
	return nil
}

// tag reads the tokens of one {{ … }} or {% … %}. The closing bracket counts only outside
// brackets, so that {{ {"a": {}} }} is one tag.
func (l *lexer) tag(open, shut kind, closer string) error {
	l.emit(open, "")
	l.skip(2)
	if r := l.rest(); r != "" && (r[0] == '-' || r[0] == '+') {
		l.skip(1)
	}
	depth := 0
	for {
		l.skip(len(l.rest()) - len(strings.TrimLeftFunc(l.rest(), unicode.IsSpace)))
		rest := l.rest()
		if rest == "" {
			return errorf("tag is not closed, want %s", closer)
		}
		if depth == 0 {
			if mark, ok := closes(rest, closer); ok {
				l.emit(shut, "")
				l.skip(len(closer))
				if mark != 0 {
					l.skip(1)
				}
				l.afterTag(mark, shut == tokBlockEnd)
				return nil
			}
		}
		if err := l.word(); err != nil {
			return err
		}
		if last := l.tokens[len(l.tokens)-1]; last.kind == tokOp {
			depth += nesting(last.val)
		}
	}
}

func closes(rest, closer string) (mark byte, ok bool) {
	if strings.HasPrefix(rest, closer) {
		return 0, true
	}
	if (rest[0] == '-' || rest[0] == '+' && closer == "%}") && strings.HasPrefix(rest[1:], closer) {
		return rest[0], true
	}
	return 0, false
}

func nesting(op string) int {
	switch op {
	case "(", "[", "{":
		return 1
	case ")", "]", "}":
		return -1
	}
	return 0
}

// word reads one token inside a tag.
func (l *lexer) word() error {
	rest := l.rest()
	r, _ := utf8.DecodeRuneInString(rest)
	switch {
	case r == '\'' || r == '"':
		return l.quoted(rest[0])
	case r >= '0' && r <= '9':
		l.number()
		return nil
	case r == '_' || unicode.IsLetter(r):
		n := strings.IndexFunc(rest, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		if n < 0 {
			n = len(rest)
		}
		l.emit(tokName, rest[:n])
		l.skip(n)
		return nil
	}
	for _, op := range operators {
		if strings.HasPrefix(rest, op) {
			l.emit(tokOp, op)
			l.skip(len(op))
			return nil
		}
	}
	return errorf("unexpected character %q", r)
}

func (l *lexer) number() {
	digits := func(i int) int {
		for i < len(l.src) && (l.src[i] >= '0' && l.src[i] <= '9' || l.src[i] == '_') {
			i++
		}
		return i
	}
	end, k := digits(l.pos), tokInt
	if end+1 < len(l.src) && l.src[end] == '.' && l.src[end+1] >= '0' && l.src[end+1] <= '9' {
		end, k = digits(end+1), tokFloat
	}
	if end < len(l.src) && (l.src[end] == 'e' || l.src[end] == 'E') {
		exp := end + 1
		if exp < len(l.src) && (l.src[exp] == '+' || l.src[exp] == '-') {
			exp++
		}
		if to := digits(exp); to > exp {
			end, k = to, tokFloat
		}
	}
	l.emit(k, strings.ReplaceAll(l.src[l.pos:end], "_", ""))
	l.skip(end - l.pos)
}

func (l *lexer) quoted(quote byte) error {
	rest := l.rest()
	for i := 1; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case quote:
			l.emit(tokString, unescape(rest[1:i]))
			l.skip(i + 1)
			return nil
		}
	}
	return errorf("string is not closed, want %c", quote)
}

// unescape resolves Python's escapes; an unknown one stays as it is written.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+1 == len(s) {
			break
		}
		b.WriteString(s[:i])
		s = s[i:]
		if s[1] == '\n' { // a backslash at the end of a line joins it with the next
			s = s[2:]
			continue
		}
		if s[1] == '\'' || s[1] == '"' {
			b.WriteByte(s[1])
			s = s[2:]
			continue
		}
		r, _, tail, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			b.WriteString(s[:2])
			s = s[2:]
			continue
		}
		b.WriteRune(r)
		s = tail
	}
	return b.String() + s
}
