package jinja

import "strconv"

// The grammar, loosest first, as Jinja's own parser has it:
//
//	expr     or ["if" or ["else" expr]]
//	or       and {"or" and}
//	and      not {"and" not}
//	not      "not" not | compare
//	compare  sum {("==" | "!=" | "<" | "<=" | ">" | ">=" | ["not"] "in") sum}
//	sum      concat {("+" | "-") concat}
//	concat   product {"~" product}
//	product  power {("*" | "/" | "//" | "%") power}
//	power    unary {"**" unary}
//	unary    ("-" | "+") unary | primary postfix filters-and-tests
func (p *parser) expr() (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.or()
	for err == nil && p.acceptName("if") {
		c := &condExpr{then: x}
		if c.cond, err = p.or(); err != nil {
			return nil, err
		}
		if p.acceptName("else") {
			if c.orElse, err = p.expr(); err != nil {
				return nil, err
			}
		}
		x = c
	}
	return x, err
}

// exprOrTuple reads one expression, or several with commas between as a tuple.
func (p *parser) exprOrTuple() (expr, error) {
	x, err := p.expr()
	if err != nil || !p.is(tokOp, ",") {
		return x, err
	}
	items := []expr{x}
	for p.acceptOp(",") {
		if x, err = p.expr(); err != nil {
			return nil, err
		}
		items = append(items, x)
	}
	return &listExpr{items, true}, nil
}

func (p *parser) or() (expr, error) {
	x, err := p.and()
	for err == nil && p.acceptName("or") {
		var y expr
		y, err = p.and()
		x = &logicExpr{x, y, true}
	}
	return x, err
}

func (p *parser) and() (expr, error) {
	x, err := p.not()
	for err == nil && p.acceptName("and") {
		var y expr
		y, err = p.not()
		x = &logicExpr{x, y, false}
	}
	return x, err
}

func (p *parser) not() (expr, error) {
	if !p.acceptName("not") {
		return p.compare()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.not()
	return &notExpr{x}, err
}

func (p *parser) compare() (expr, error) {
	x, err := p.sum()
	if err != nil {
		return nil, err
	}
	c := &compareExpr{first: x}
	for {
		op := p.compareOp()
		if op == "" {
			break
		}
		y, err := p.sum()
		if err != nil {
			return nil, err
		}
		c.ops, c.rest = append(c.ops, op), append(c.rest, y)
	}
	if len(c.ops) == 0 {
		return x, nil
	}
	return c, nil
}

func (p *parser) compareOp() string {
	t := p.peek()
	switch {
	case t.kind == tokOp && (t.val == "==" || t.val == "!=" || t.val == "<" || t.val == "<=" || t.val == ">" || t.val == ">="):
		return p.take().val
	case t.kind == tokName && t.val == "in":
		return p.take().val
	case t.kind == tokName && t.val == "not" && p.tokens[p.pos+1].kind == tokName && p.tokens[p.pos+1].val == "in":
		p.take()
		p.take()
		return "not in"
	}
	return ""
}

// binary reads a left-associative chain of the given operators.
func (p *parser) binary(operand func() (expr, error), ops ...string) (expr, error) {
	x, err := operand()
next:
	for err == nil {
		for _, op := range ops {
			if p.acceptOp(op) {
				var y expr
				y, err = operand()
				x = &binaryExpr{op, x, y}
				continue next
			}
		}
		break
	}
	return x, err
}

func (p *parser) sum() (expr, error)     { return p.binary(p.concat, "+", "-") }
func (p *parser) concat() (expr, error)  { return p.binary(p.product, "~") }
func (p *parser) product() (expr, error) { return p.binary(p.power, "*", "/", "//", "%") }
func (p *parser) power() (expr, error) {
	return p.binary(func() (expr, error) { return p.unary(true) }, "**")
}

func (p *parser) unary(filters bool) (expr, error) {
	for _, op := range []string{"-", "+"} {
		if p.acceptOp(op) {
			if err := p.enter(); err != nil {
				return nil, err
			}
			defer p.leave()
			x, err := p.unary(false)
			if err != nil {
				return nil, err
			}
			return p.filters(&negExpr{x, op == "-"}, filters)
		}
	}
	x, err := p.primary()
	if err != nil {
		return nil, err
	}
	if x, err = p.postfix(x); err != nil {
		return nil, err
	}
	return p.filters(x, filters)
}

func (p *parser) primary() (expr, error) {
	t := p.peek()
	switch t.kind {
	case tokName:
		p.take()
		switch t.val {
		case "true", "True":
			return &literal{true}, nil
		case "false", "False":
			return &literal{false}, nil
		case "none", "None":
			return &literal{nil}, nil
		}
		return &nameExpr{t.val}, nil
	case tokString:
		s := ""
		for p.peek().kind == tokString {
			s += p.take().val
		}
		return &literal{s}, nil
	case tokInt:
		n, err := strconv.ParseInt(p.take().val, 10, 64)
		if err != nil {
			return nil, errorf("number %s does not fit 64 bits", t.val)
		}
		return &literal{n}, nil
	case tokFloat:
		f, err := strconv.ParseFloat(p.take().val, 64)
		if err != nil {
			return nil, errorf("number %s is out of range", t.val)
		}
		return &literal{f}, nil
	}
	switch {
	case p.acceptOp("("):
		return p.paren()
	case p.acceptOp("["):
		items, _, err := p.items("]")
		return &listExpr{items, false}, err
	case p.acceptOp("{"):
		return p.dict()
	}
	return nil, errorf("%s, want an expression", p.found())
}

func (p *parser) paren() (expr, error) {
	items, comma, err := p.items(")")
	if err != nil {
		return nil, err
	}
	if len(items) == 1 && !comma {
		return items[0], nil
	}
	return &listExpr{items, true}, nil
}

// items reads "a, b]" up to the closing bracket; comma tells whether there was any.
func (p *parser) items(closer string) (items []expr, comma bool, err error) {
	for !p.acceptOp(closer) {
		x, err := p.expr()
		if err != nil {
			return nil, comma, err
		}
		items = append(items, x)
		if p.acceptOp(",") {
			comma = true
		} else if !p.is(tokOp, closer) {
			return nil, comma, errorf("%s, want %q", p.found(), closer)
		}
	}
	return items, comma, nil
}

func (p *parser) dict() (expr, error) {
	d := &dictExpr{}
	for !p.acceptOp("}") {
		k, err := p.expr()
		if err != nil {
			return nil, err
		}
		if err := p.expectOp(":"); err != nil {
			return nil, err
		}
		v, err := p.expr()
		if err != nil {
			return nil, err
		}
		d.keys, d.values = append(d.keys, k), append(d.values, v)
		if !p.acceptOp(",") && !p.is(tokOp, "}") {
			return nil, errorf("%s, want \"}\"", p.found())
		}
	}
	return d, nil
}

// postfix reads attributes, indexes, slices and calls behind x.
func (p *parser) postfix(x expr) (expr, error) {
	for {
		switch {
		case p.acceptOp("."):
			if p.peek().kind == tokInt { // x.0 is x[0]
				i, err := p.primary()
				if err != nil {
					return nil, err
				}
				x = &indexExpr{x, i}
				continue
			}
			name, err := p.name()
			if err != nil {
				return nil, err
			}
			x = &attrExpr{x, name}
		case p.acceptOp("["):
			var err error
			if x, err = p.subscript(x); err != nil {
				return nil, err
			}
		case p.acceptOp("("):
			args, err := p.arguments()
			if err != nil {
				return nil, err
			}
			x = &callExpr{x, args}
		default:
			return x, nil
		}
	}
}

func (p *parser) subscript(x expr) (expr, error) {
	var bounds [3]expr
	n := 0 // colons seen
	for {
		switch {
		case p.acceptOp("]"):
			if n == 0 {
				if bounds[0] == nil {
					return nil, errorf("empty [], want an index")
				}
				return &indexExpr{x, bounds[0]}, nil
			}
			return &sliceExpr{x, bounds}, nil
		case n < 2 && p.acceptOp(":"):
			n++
		case bounds[n] == nil:
			var err error
			if bounds[n], err = p.expr(); err != nil {
				return nil, err
			}
		default:
			return nil, errorf("%s, want \"]\"", p.found())
		}
	}
}

// arguments reads "a, key=b)".
func (p *parser) arguments() (arguments, error) {
	var a arguments
	for !p.acceptOp(")") {
		if p.is(tokOp, "*") || p.is(tokOp, "**") {
			return a, unsupported("unpacking arguments with %s", p.peek().val)
		}
		name := ""
		if p.peek().kind == tokName && p.tokens[p.pos+1].kind == tokOp && p.tokens[p.pos+1].val == "=" {
			name = p.take().val
			p.take()
		}
		x, err := p.expr()
		if err != nil {
			return a, err
		}
		if name != "" {
			a.names, a.named = append(a.names, name), append(a.named, x)
		} else {
			a.positional = append(a.positional, x)
		}
		if !p.acceptOp(",") && !p.is(tokOp, ")") {
			return a, errorf("%s, want \")\"", p.found())
		}
	}
	return a, nil
}

// filters reads "| name(args)" (when asked for) and "is [not] test" behind x.
func (p *parser) filters(x expr, pipes bool) (expr, error) {
	for pipes {
		var err error
		switch {
		case p.acceptOp("|"):
			x, err = p.filter(x)
		case p.acceptName("is"):
			x, err = p.test(x)
		case p.acceptOp("("):
			var a arguments
			a, err = p.arguments()
			x = &callExpr{x, a}
		default:
			return x, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return x, nil
}

func (p *parser) filter(x expr) (expr, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	f, ok := filters[name]
	if !ok {
		return nil, unsupported("filter %q", name)
	}
	n := &filterExpr{x: x, name: name, f: f}
	if p.acceptOp("(") {
		n.args, err = p.arguments()
	}
	return n, err
}

func (p *parser) test(x expr) (expr, error) {
	n := &testExpr{x: x, not: p.acceptName("not")}
	var err error
	if n.name, err = p.name(); err != nil {
		return nil, err
	}
	var ok bool
	if n.f, ok = tests[n.name]; !ok {
		return nil, unsupported("test %q", n.name)
	}
	switch t := p.peek(); {
	case p.acceptOp("("):
		n.args, err = p.arguments()
	case t.kind == tokString, t.kind == tokInt, t.kind == tokFloat, t.kind == tokOp && (t.val == "[" || t.val == "{"),
		t.kind == tokName && t.val != "else" && t.val != "or" && t.val != "and" && t.val != "is" && t.val != "if" && t.val != "in" && t.val != "not":
		var arg expr
		if arg, err = p.primary(); err == nil {
			arg, err = p.postfix(arg)
		}
		n.args.positional = []expr{arg}
	}
	return n, err
}
