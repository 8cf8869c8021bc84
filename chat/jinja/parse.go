package jinja

import "slices"

// parser reads statements; expression.go reads expressions.
type parser struct {
	tokens []token
	pos    int
	depth  int // blocks and brackets open
	loops  int // for loops open in the current macro, for break and continue
}

func (p *parser) peek() token { return p.tokens[p.pos] }

func (p *parser) take() token {
	t := p.tokens[p.pos]
	if t.kind != tokEnd {
		p.pos++
	}
	return t
}

func (p *parser) is(k kind, val string) bool {
	t := p.peek()
	return t.kind == k && t.val == val
}

func (p *parser) accept(k kind, val string) bool {
	if !p.is(k, val) {
		return false
	}
	p.take()
	return true
}

func (p *parser) acceptOp(op string) bool     { return p.accept(tokOp, op) }
func (p *parser) acceptName(name string) bool { return p.accept(tokName, name) }

func (p *parser) expect(k kind, val string) error {
	if !p.accept(k, val) {
		return errorf("%s, want %q", p.found(), val)
	}
	return nil
}

func (p *parser) expectOp(op string) error { return p.expect(tokOp, op) }

func (p *parser) name() (string, error) {
	if p.peek().kind != tokName {
		return "", errorf("%s, want a name", p.found())
	}
	return p.take().val, nil
}

func (p *parser) found() string {
	t := p.peek()
	switch t.kind {
	case tokEnd:
		return "template ends"
	case tokPrintEnd, tokBlockEnd:
		return "tag ends"
	}
	return "found " + quote(t.val)
}

// enter counts one more open block or bracket; leave takes it back.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxNesting {
		return &Error{Msg: "template nests too deep", Err: ErrLimit}
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// body reads nodes up to a statement named in ends, whose name is left for the caller
// to take, or to the end of the template when no ends are given.
func (p *parser) body(ends ...string) ([]node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	var nodes []node
	for {
		t := p.take()
		switch t.kind {
		case tokEnd:
			if len(ends) > 0 {
				return nil, at(t.line, errorf("template ends, want {%% %s %%}", ends[len(ends)-1]))
			}
			return nodes, nil
		case tokText:
			nodes = append(nodes, &textNode{t.val})
		case tokPrint:
			x, err := p.expr()
			if err != nil {
				return nil, at(t.line, err)
			}
			if p.take().kind != tokPrintEnd {
				p.pos--
				return nil, at(t.line, errorf("%s, want }}", p.found()))
			}
			nodes = append(nodes, &printNode{t.line, x})
		case tokBlock:
			if slices.Contains(ends, p.peek().val) {
				return nodes, nil
			}
			n, err := p.statement(t.line)
			if err != nil {
				return nil, at(t.line, err)
			}
			nodes = append(nodes, n)
		}
	}
}

// block reads the rest of an opening tag, the body, and the closing tag's name.
func (p *parser) block(end string) ([]node, error) {
	if err := p.blockEnd(); err != nil {
		return nil, err
	}
	nodes, err := p.body(end)
	if err != nil {
		return nil, err
	}
	p.take()
	if p.peek().kind == tokName { // {% endmacro name %}
		p.take()
	}
	return nodes, p.blockEnd()
}

func (p *parser) blockEnd() error {
	if p.peek().kind != tokBlockEnd {
		return errorf("%s, want %%}", p.found())
	}
	p.take()
	return nil
}

func (p *parser) statement(line int) (node, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	switch name {
	case "if":
		return p.ifStatement(line)
	case "for":
		return p.forStatement(line)
	case "set":
		return p.setStatement(line)
	case "macro":
		return p.macroStatement()
	case "call":
		return p.callStatement(line)
	case "filter":
		return p.filterStatement(line)
	case "with":
		return p.withStatement(line)
	case "block": // without another template that extends this one, a scope of its own
		return p.blockStatement()
	case "autoescape":
		if !p.acceptName("false") && !p.acceptName("False") {
			return nil, unsupported("autoescape, but for false,")
		}
		nodes, err := p.block("endautoescape")
		return &groupNode{nodes}, err
	case "generation": // marks the assistant's words for trainers; the text is the body
		nodes, err := p.block("endgeneration")
		return &groupNode{nodes}, err
	case "break", "continue":
		if p.loops == 0 {
			return nil, errorf("%s outside a for loop", name)
		}
		return &jumpNode{name == "break"}, p.blockEnd()
	}
	return nil, unsupported("statement %q", name)
}

func (p *parser) ifStatement(line int) (node, error) {
	n := &ifNode{line: line}
	for {
		cond, err := p.expr()
		if err != nil {
			return nil, err
		}
		if err := p.blockEnd(); err != nil {
			return nil, err
		}
		body, err := p.body("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		n.conds, n.bodies = append(n.conds, cond), append(n.bodies, body)
		switch p.take().val {
		case "elif":
			continue
		case "else":
			n.orElse, err = p.block("endif")
			return n, err
		}
		return n, p.blockEnd()
	}
}

func (p *parser) forStatement(line int) (node, error) {
	n := &forNode{line: line}
	var err error
	if n.targets, err = p.targets(); err != nil {
		return nil, err
	}
	if err := p.expect(tokName, "in"); err != nil {
		return nil, err
	}
	if n.over, err = p.or(); err != nil { // no inline if here: it filters the loop
		return nil, err
	}
	if p.acceptName("if") {
		if n.filter, err = p.expr(); err != nil {
			return nil, err
		}
	}
	n.recursive = p.acceptName("recursive")
	if err := p.blockEnd(); err != nil {
		return nil, err
	}
	p.loops++
	n.body, err = p.body("else", "endfor")
	p.loops--
	if err != nil {
		return nil, err
	}
	if p.take().val == "else" {
		n.orElse, err = p.block("endfor")
		return n, err
	}
	return n, p.blockEnd()
}

// targets reads the names of "for a, b in" and "set a, b =".
func (p *parser) targets() ([]string, error) {
	paren := p.acceptOp("(")
	var names []string
	for {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		names = append(names, name)
		if !p.acceptOp(",") {
			break
		}
	}
	if paren {
		return names, p.expectOp(")")
	}
	return names, nil
}

func (p *parser) setStatement(line int) (node, error) {
	n := &setNode{line: line}
	var err error
	if n.targets, err = p.targets(); err != nil {
		return nil, err
	}
	if len(n.targets) == 1 && p.acceptOp(".") {
		if n.attr, err = p.name(); err != nil {
			return nil, err
		}
	}
	if p.acceptOp("=") {
		if n.value, err = p.exprOrTuple(); err != nil {
			return nil, err
		}
		return n, p.blockEnd()
	}
	body := &bodyExpr{}
	n.value = body
	for p.acceptOp("|") { // {% set x | trim %}…{% endset %}
		if n.value, err = p.filter(n.value); err != nil {
			return nil, err
		}
	}
	body.body, err = p.block("endset")
	return n, err
}

func (p *parser) macroStatement() (node, error) {
	n := &macroNode{}
	var err error
	if n.name, err = p.name(); err != nil {
		return nil, err
	}
	return n, p.macroRest(&n.macroDef, "endmacro")
}

// withStatement reads "a = 1, b = 2 %}body{% endwith %}".
func (p *parser) withStatement(line int) (node, error) {
	n := &withNode{line: line}
	for p.peek().kind == tokName {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		if err := p.expectOp("="); err != nil {
			return nil, err
		}
		v, err := p.expr()
		if err != nil {
			return nil, err
		}
		n.names, n.values = append(n.names, name), append(n.values, v)
		if !p.acceptOp(",") {
			break
		}
	}
	var err error
	n.body, err = p.block("endwith")
	return n, err
}

func (p *parser) blockStatement() (node, error) {
	if _, err := p.name(); err != nil {
		return nil, err
	}
	_ = p.acceptName("scoped") || p.acceptName("required")
	body, err := p.block("endblock")
	return &withNode{body: body, apart: true}, err
}

// macroRest reads "(a, b=1) %}body{% end %}".
func (p *parser) macroRest(def *macroDef, end string) error {
	if err := p.expectOp("("); err != nil {
		return err
	}
	if err := p.parameters(def); err != nil {
		return err
	}
	return p.macroBody(def, end)
}

// macroBody reads the body of a macro or of a call block, and notes which of the names it has that callers may fill.
func (p *parser) macroBody(def *macroDef, end string) (err error) {
	loops, from := p.loops, p.pos
	p.loops = 0
	def.body, err = p.block(end)
	p.loops = loops
	def.names = map[string]bool{}
	for _, t := range p.tokens[from:p.pos] {
		if t.kind == tokName && (t.val == "varargs" || t.val == "kwargs" || t.val == "caller") {
			def.names[t.val] = true
		}
	}
	return err
}

// parameters reads "a, b=1)".
func (p *parser) parameters(def *macroDef) error {
	for !p.acceptOp(")") {
		name, err := p.name()
		if err != nil {
			return err
		}
		var value expr
		if p.acceptOp("=") {
			if value, err = p.expr(); err != nil {
				return err
			}
		}
		def.params, def.defaults = append(def.params, name), append(def.defaults, value)
		if !p.acceptOp(",") && !p.is(tokOp, ")") {
			return errorf("%s, want \")\"", p.found())
		}
	}
	return nil
}

func (p *parser) callStatement(line int) (node, error) {
	n := &callNode{line: line}
	if p.acceptOp("(") {
		if err := p.parameters(&n.macroDef); err != nil {
			return nil, err
		}
	}
	x, err := p.expr()
	if err != nil {
		return nil, err
	}
	call, ok := x.(*callExpr)
	if !ok {
		return nil, errorf("call block without a macro call")
	}
	n.call = call
	return n, p.macroBody(&n.macroDef, "endcall")
}

func (p *parser) filterStatement(line int) (node, error) {
	body := &bodyExpr{}
	x, err := p.filter(body)
	for err == nil && p.acceptOp("|") {
		x, err = p.filter(x)
	}
	if err != nil {
		return nil, err
	}
	body.body, err = p.block("endfilter")
	return &printNode{line, x}, err
}
