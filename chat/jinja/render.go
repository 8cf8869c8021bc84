package jinja

import (
	"errors"
	"slices"
	"strings"
)

// node is a piece of the template that renders.
type node interface{ render(*state) error }

type (
	textNode  struct{ text string }
	printNode struct {
		line int
		x    expr
	}
	groupNode struct{ body []node }
	ifNode    struct {
		line   int
		conds  []expr
		bodies [][]node
		orElse []node
	}
	forNode struct {
		line         int
		targets      []string
		over, filter expr
		recursive    bool
		body, orElse []node
	}
	withNode struct {
		line   int
		names  []string
		values []expr
		body   []node
		apart  bool // a block: it does not see the names of the loops around it
	}
	setNode struct {
		line    int
		targets []string
		attr    string // set targets[0].attr, of a namespace
		value   expr
	}
	macroDef struct {
		params   []string
		defaults []expr // nil where a parameter has none
		body     []node
		names    map[string]bool // names that the body has, for varargs, kwargs and caller
	}
	macroNode struct {
		name string
		macroDef
	}
	callNode struct {
		line     int
		call     *callExpr
		macroDef // the body, and what caller takes
	}
	jumpNode struct{ isBreak bool }
)

// macro is a macro as a value: it sees the names of the place that defines it.
type macro struct {
	*macroDef
	name   string
	scope  *scope
	caller *macro // the body of the call block that calls it
}

var errBreak, errContinue = errors.New("break"), errors.New("continue")

func (st *state) render(nodes []node) error {
	if err := st.enter(); err != nil {
		return err
	}
	defer st.leave()
	for _, n := range nodes {
		if err := st.spend(stepCost); err != nil {
			return err
		}
		if err := n.render(st); err != nil {
			return err
		}
	}
	return nil
}

func (st *state) write(s string) error {
	if err := st.spend(int64(len(s))); err != nil {
		return err
	}
	st.out.WriteString(s)
	return nil
}

func (n *textNode) render(st *state) error { return st.write(n.text) }

func (n *printNode) render(st *state) error {
	v, err := st.eval(n.x)
	if err != nil {
		return at(n.line, err)
	}
	s, err := st.text(v)
	if err != nil {
		return at(n.line, err)
	}
	return at(n.line, st.write(s))
}

func (n *groupNode) render(st *state) error { return st.render(n.body) }

func (n *ifNode) render(st *state) error {
	for i, c := range n.conds {
		v, err := st.eval(c)
		if err != nil {
			return at(n.line, err)
		}
		if truth(v) {
			return st.render(n.bodies[i])
		}
	}
	return st.render(n.orElse)
}

func (n *forNode) render(st *state) error {
	over, err := st.eval(n.over)
	if err != nil {
		return at(n.line, err)
	}
	return n.loop(st, over, 0)
}

// loop runs the body over the items of a value, at a depth of recursion.
func (n *forNode) loop(st *state, over any, depth int) error {
	items, err := n.items(st, over)
	if err != nil {
		return at(n.line, err)
	}
	if len(items) == 0 {
		return st.render(n.orElse)
	}
	l := &loop{items: items, depth: depth, scope: st.scope}
	if n.recursive {
		l.again = n
	}
	for i, item := range items {
		l.i = i
		vars, err := unpack(n.targets, item)
		if err != nil {
			return at(n.line, err)
		}
		vars["loop"] = l
		st.push(vars)
		err = st.render(n.body)
		st.pop()
		if err == errBreak {
			break
		}
		if err != nil && err != errContinue {
			return err
		}
	}
	return nil
}

// call renders the loop again over other items, one level deeper.
func (l *loop) call(st *state, a args) (any, error) {
	if l.again == nil {
		return nil, errorf("loop is called, but is not recursive")
	}
	outer, out := st.scope, st.out
	st.scope, st.out = l.scope, new(strings.Builder)
	err := l.again.loop(st, a.get(0, "iterable", undefined{"the items"}), l.depth+1)
	text := st.out.String()
	st.scope, st.out = outer, out
	return text, err
}

// items are the elements that the loop runs over, less what its inline if leaves out.
func (n *forNode) items(st *state, over any) ([]any, error) {
	items, err := st.iterate(over)
	if err != nil || n.filter == nil {
		return items, err
	}
	var kept []any
	for _, item := range items {
		vars, err := unpack(n.targets, item)
		if err != nil {
			return nil, err
		}
		st.push(vars)
		keep, err := st.eval(n.filter)
		st.pop()
		if err != nil {
			return nil, err
		}
		if truth(keep) {
			kept = append(kept, item)
		}
	}
	return kept, nil
}

// unpack binds one name to the item, or several to its elements.
func unpack(names []string, item any) (map[string]any, error) {
	vars := make(map[string]any, len(names)+1)
	if len(names) == 1 {
		vars[names[0]] = item
		return vars, nil
	}
	parts, ok := list(item)
	if !ok || len(parts) != len(names) {
		return nil, errorf("%d names for a %s of %d elements", len(names), typeName(item), len(parts))
	}
	for i, name := range names {
		vars[name] = parts[i]
	}
	return vars, nil
}

func (n *setNode) render(st *state) error {
	v, err := st.eval(n.value)
	if err != nil {
		return at(n.line, err)
	}
	if n.attr != "" {
		target, _ := st.scope.get(n.targets[0])
		ns, ok := target.(*namespace)
		if !ok {
			return at(n.line, errorf("set %s.%s: %q is %s, want a namespace", n.targets[0], n.attr, n.targets[0], typeName(target)))
		}
		ns.Set(n.attr, v)
		return nil
	}
	vars, err := unpack(n.targets, v)
	if err != nil {
		return at(n.line, err)
	}
	for name, v := range vars {
		st.scope.vars[name] = v
	}
	return nil
}

func (n *macroNode) render(st *state) error {
	st.scope.vars[n.name] = &macro{macroDef: &n.macroDef, name: n.name, scope: st.scope}
	return nil
}

// call binds the arguments and renders the macro's body to a string.
func (m *macro) call(st *state, a args) (any, error) {
	varargs, kwargs, err := m.extra(st, a)
	if err != nil {
		return nil, err
	}
	outer := st.scope
	defer func() { st.scope = outer }()
	st.scope = m.scope
	st.push(map[string]any{"varargs": varargs, "kwargs": kwargs})
	for i, name := range m.params {
		v := a.get(i, name, undefined{name})
		if _, missing := v.(undefined); missing && m.defaults[i] != nil {
			var err error
			if v, err = st.eval(m.defaults[i]); err != nil {
				return nil, err
			}
		}
		st.scope.vars[name] = v
	}
	if m.caller != nil {
		st.scope.vars["caller"] = m.caller
	}
	return st.capture(m.body)
}

// extra are the arguments that no parameter takes. A macro that does not use varargs or kwargs may not be given any.
func (m *macro) extra(st *state, a args) (varargs tuple, kwargs *Dict, err error) {
	varargs, kwargs = tuple{}, new(Dict)
	if n := len(m.params); len(a.positional) > n {
		if !m.uses("varargs") {
			return nil, nil, errorf("macro %q takes %d arguments, got %d", m.name, n, len(a.positional))
		}
		varargs = a.positional[n:]
	}
	for _, name := range sortedKeys(a.named) {
		if slices.Contains(m.params, name) {
			continue
		}
		if !m.uses("kwargs") {
			return nil, nil, errorf("macro %q has no argument %q", m.name, name)
		}
		kwargs.Set(name, a.named[name])
	}
	return varargs, kwargs, nil
}

func (m *macro) uses(name string) bool { return m.names[name] }

// attribute is what a template may ask of a macro.
func (m *macro) attribute(name string) any {
	switch name {
	case "name":
		return m.name
	case "arguments":
		names := make(tuple, len(m.params))
		for i, p := range m.params {
			names[i] = p
		}
		return names
	case "catch_varargs":
		return m.uses("varargs")
	case "catch_kwargs":
		return m.uses("kwargs")
	case "caller":
		return m.uses("caller")
	}
	return undefined{name}
}

func (n *withNode) render(st *state) error {
	vars := make(map[string]any, len(n.names))
	for i, x := range n.values {
		v, err := st.eval(x)
		if err != nil {
			return at(n.line, err)
		}
		vars[n.names[i]] = v
	}
	outer := st.scope
	defer func() { st.scope = outer }()
	if n.apart {
		for st.scope.parent != nil {
			st.scope = st.scope.parent
		}
	}
	st.push(vars)
	return st.render(n.body)
}

// render of a call block hands its body to the macro as caller().
func (n *callNode) render(st *state) error {
	f, err := st.eval(n.call.f)
	if err != nil {
		return at(n.line, err)
	}
	m, ok := f.(*macro)
	if !ok {
		return at(n.line, errorf("call block: %s is not a macro", typeName(f)))
	}
	a, err := st.arguments(n.call.args)
	if err != nil {
		return at(n.line, err)
	}
	with := *m
	with.caller = &macro{macroDef: &n.macroDef, name: "caller", scope: st.scope}
	v, err := with.call(st, a)
	if err != nil {
		return at(n.line, err)
	}
	return at(n.line, st.write(v.(string)))
}

func (n *jumpNode) render(*state) error {
	if n.isBreak {
		return errBreak
	}
	return errContinue
}
