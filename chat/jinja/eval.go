package jinja

import (
	"math"
	"slices"
	"strings"
)

// state is one rendering: the budget left, the text so far, and the names in sight.
type state struct {
	work  int64 // units left
	loose bool  // what is undefined is an empty text in a sum, and what is none an empty list
	depth int   // evaluations open
	out   *strings.Builder
	scope *scope
}

// scope holds the names of a template, a for body or a macro call; an if has none of its own.
type scope struct {
	vars   map[string]any
	parent *scope
}

func (s *scope) get(name string) (any, bool) {
	for ; s != nil; s = s.parent {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return nil, false
}

func (st *state) push(vars map[string]any) { st.scope = &scope{vars, st.scope} }
func (st *state) pop()                     { st.scope = st.scope.parent }

// spend takes units from the budget. It is called before memory is asked for.
func (st *state) spend(units int64) error {
	if units < 0 || units > st.work {
		st.work = 0
		return &Error{Msg: "template asks for too much work", Err: ErrLimit}
	}
	st.work -= units
	return nil
}

// enter opens one level of evaluation and pays for it.
func (st *state) enter() error {
	if st.depth++; st.depth > maxDepth {
		st.depth--
		return &Error{Msg: "template recurses too deep", Err: ErrLimit}
	}
	if err := st.spend(stepCost); err != nil {
		st.depth--
		return err
	}
	return nil
}

func (st *state) leave() { st.depth-- }

func (st *state) eval(x expr) (any, error) {
	if err := st.enter(); err != nil {
		return nil, err
	}
	defer st.leave()
	return x.eval(st)
}

func (st *state) evalAll(xs []expr) ([]any, error) {
	values := make([]any, len(xs))
	for i, x := range xs {
		v, err := st.eval(x)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	return values, nil
}

// capture renders nodes into a string of their own.
func (st *state) capture(nodes []node) (string, error) {
	out := st.out
	st.out = new(strings.Builder)
	err := st.render(nodes)
	text := st.out.String()
	st.out = out
	return text, err
}

// expr is an expression of the template.
type expr interface{ eval(*state) (any, error) }

type (
	literal   struct{ v any }
	nameExpr  struct{ name string }
	bodyExpr  struct{ body []node } // the text of a block, for {% set %}…{% endset %}
	condExpr  struct{ cond, then, orElse expr }
	logicExpr struct {
		x, y expr
		or   bool
	}
	notExpr     struct{ x expr }
	compareExpr struct {
		first expr
		ops   []string
		rest  []expr
	}
	binaryExpr struct {
		op   string
		x, y expr
	}
	negExpr struct {
		x      expr
		negate bool
	}
	listExpr struct {
		items []expr
		tuple bool
	}
	dictExpr struct{ keys, values []expr }
	attrExpr struct {
		x    expr
		name string
	}
	indexExpr struct{ x, i expr }
	sliceExpr struct {
		x      expr
		bounds [3]expr // from, to, step; nil where left out
	}
	arguments struct {
		positional []expr
		names      []string
		named      []expr
	}
	callExpr struct {
		f    expr
		args arguments
	}
	filterExpr struct {
		x    expr
		name string
		f    filterFunc
		args arguments
	}
	testExpr struct {
		x    expr
		name string
		f    testFunc
		args arguments
		not  bool
	}
)

func (x *literal) eval(*state) (any, error) { return x.v, nil }

func (x *nameExpr) eval(st *state) (any, error) {
	if v, ok := st.scope.get(x.name); ok {
		return v, nil
	}
	if f, ok := globals[x.name]; ok {
		return f, nil
	}
	return undefined{x.name}, nil
}

func (x *bodyExpr) eval(st *state) (any, error) { return st.capture(x.body) }

func (x *condExpr) eval(st *state) (any, error) {
	c, err := st.eval(x.cond)
	switch {
	case err != nil:
		return nil, err
	case truth(c):
		return st.eval(x.then)
	case x.orElse != nil:
		return st.eval(x.orElse)
	}
	return undefined{"the missing else"}, nil
}

func (x *logicExpr) eval(st *state) (any, error) {
	v, err := st.eval(x.x)
	if err != nil || truth(v) == x.or {
		return v, err
	}
	return st.eval(x.y)
}

func (x *notExpr) eval(st *state) (any, error) {
	v, err := st.eval(x.x)
	return !truth(v), err
}

func (x *compareExpr) eval(st *state) (any, error) {
	left, err := st.eval(x.first)
	if err != nil {
		return nil, err
	}
	for i, op := range x.ops {
		right, err := st.eval(x.rest[i])
		if err != nil {
			return nil, err
		}
		if ok, err := st.compare(op, left, right); err != nil || !ok {
			return false, err
		}
		left = right
	}
	return true, nil
}

func (st *state) compare(op string, a, b any) (bool, error) {
	switch op {
	case "==":
		return st.equal(a, b)
	case "!=":
		same, err := st.equal(a, b)
		return !same, err
	case "in":
		return st.contains(b, a)
	case "not in":
		in, err := st.contains(b, a)
		return !in, err
	}
	c, err := st.order(a, b)
	switch op {
	case "<":
		return c < 0, err
	case "<=":
		return c <= 0, err
	case ">":
		return c > 0, err
	}
	return c >= 0, err
}

func (x *binaryExpr) eval(st *state) (any, error) {
	a, err := st.eval(x.x)
	if err != nil {
		return nil, err
	}
	b, err := st.eval(x.y)
	if err != nil {
		return nil, err
	}
	return st.binary(x.op, a, b)
}

func (st *state) binary(op string, a, b any) (any, error) {
	switch op {
	case "~":
		s, err := st.text(a)
		if err != nil {
			return nil, err
		}
		t, err := st.text(b)
		if err != nil {
			return nil, err
		}
		return st.join(s, t)
	case "+":
		if s, ok := a.(string); ok {
			if t, ok := b.(string); ok {
				return st.join(s, t)
			}
		}
		if st.loose && (isUndefined(a) || isUndefined(b)) {
			return st.binary("~", a, b)
		}
		l, ok := list(a)
		m, ok2 := list(b)
		if ok && ok2 && typeName(a) == typeName(b) {
			return st.joinLists(a, l, m)
		}
	case "*":
		if _, ok := integer(a); ok {
			a, b = b, a
		}
		if n, ok := integer(b); ok {
			switch a := a.(type) {
			case string:
				return st.repeat(a, n)
			case []any, tuple:
				return st.repeatList(a, n)
			}
		}
	case "%":
		if s, ok := a.(string); ok {
			return st.percent(s, b)
		}
	}
	return arithmetic(op, a, b)
}

func (st *state) join(s, t string) (any, error) {
	if err := st.spend(int64(len(s)) + int64(len(t))); err != nil {
		return nil, err
	}
	return s + t, nil
}

func (st *state) joinLists(a any, l, m []any) (any, error) {
	if err := st.spend(itemCost * int64(len(l)+len(m))); err != nil {
		return nil, err
	}
	sum := slices.Concat(l, m)
	if _, ok := a.(tuple); ok {
		return tuple(sum), nil
	}
	return sum, nil
}

func (st *state) repeat(s string, n int64) (any, error) {
	if n <= 0 || s == "" {
		return "", nil
	}
	if n > maxWork {
		return nil, st.spend(n)
	}
	if err := st.spend(n * int64(len(s))); err != nil {
		return nil, err
	}
	return strings.Repeat(s, int(n)), nil
}

func (st *state) repeatList(v any, n int64) (any, error) {
	l, _ := list(v)
	n = max(n, 0)
	if n > maxWork {
		return nil, st.spend(n)
	}
	if err := st.spend(itemCost * n * int64(len(l))); err != nil {
		return nil, err
	}
	return likeThe(v, slices.Repeat(l, int(n))), nil
}

func arithmetic(op string, a, b any) (any, error) {
	x, ok := number(a)
	y, ok2 := number(b)
	if !ok || !ok2 {
		return nil, errorf("%s %s %s cannot be computed%s", typeName(a), op, typeName(b), missing(a, b))
	}
	if (op == "/" || op == "//" || op == "%") && y == 0 {
		return nil, errorf("division by zero")
	}
	i, ok := integer(a)
	j, ok2 := integer(b)
	if ok && ok2 && op != "/" && (op != "**" || j >= 0) {
		return intArithmetic(op, i, j), nil
	}
	switch op {
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "*":
		return x * y, nil
	case "/":
		return x / y, nil
	case "//":
		return math.Floor(x / y), nil
	case "%":
		return x - y*math.Floor(x/y), nil
	}
	return math.Pow(x, y), nil
}

// missing names the undefined operands, the usual reason for a wrong type.
func missing(values ...any) string {
	for _, v := range values {
		if u, ok := v.(undefined); ok {
			return "; " + quote(u.name) + " is undefined"
		}
	}
	return ""
}

// intArithmetic keeps Python's signs for // and %; results past 64 bits wrap.
func intArithmetic(op string, i, j int64) int64 {
	switch op {
	case "+":
		return i + j
	case "-":
		return i - j
	case "*":
		return i * j
	case "//":
		q := i / j
		if i%j != 0 && (i < 0) != (j < 0) {
			q--
		}
		return q
	case "%":
		r := i % j
		if r != 0 && (r < 0) != (j < 0) {
			r += j
		}
		return r
	}
	p := int64(1)
	for ; j > 0; j >>= 1 {
		if j&1 == 1 {
			p *= i
		}
		i *= i
	}
	return p
}

func (x *negExpr) eval(st *state) (any, error) {
	v, err := st.eval(x.x)
	if err != nil {
		return nil, err
	}
	if i, ok := integer(v); ok {
		if x.negate {
			return -i, nil
		}
		return i, nil
	}
	f, ok := number(v)
	if !ok {
		return nil, errorf("sign in front of %s%s", typeName(v), missing(v))
	}
	if x.negate {
		return -f, nil
	}
	return f, nil
}

func (x *listExpr) eval(st *state) (any, error) {
	if err := st.spend(itemCost * int64(len(x.items))); err != nil {
		return nil, err
	}
	items, err := st.evalAll(x.items)
	if x.tuple {
		return tuple(items), err
	}
	return items, err
}

func (x *dictExpr) eval(st *state) (any, error) {
	keys, err := st.evalAll(x.keys)
	if err != nil {
		return nil, err
	}
	values, err := st.evalAll(x.values)
	if err != nil {
		return nil, err
	}
	if err := st.spend(4 * itemCost * int64(len(keys))); err != nil {
		return nil, err
	}
	d := new(Dict)
	for i, k := range keys {
		if !hashable(k) {
			return nil, errorf("%s cannot be a key", typeName(k))
		}
		d.Set(k, values[i])
	}
	return d, nil
}

// args are the evaluated arguments of a call.
type args struct {
	positional []any
	named      map[string]any
}

func (st *state) arguments(a arguments) (args, error) {
	positional, err := st.evalAll(a.positional)
	if err != nil || len(a.names) == 0 {
		return args{positional: positional}, err
	}
	values, err := st.evalAll(a.named)
	named := make(map[string]any, len(values))
	for i, v := range values {
		named[a.names[i]] = v
	}
	return args{positional, named}, err
}

// get returns argument i, which may be given by name, or def.
func (a args) get(i int, name string, def any) any {
	if i < len(a.positional) {
		return a.positional[i]
	}
	if v, ok := a.named[name]; ok {
		return v
	}
	return def
}

// str returns argument i as a string.
func (a args) str(i int, name, def string) (string, error) {
	v := a.get(i, name, def)
	s, ok := v.(string)
	if !ok {
		return "", errorf("argument %q is %s, want string", name, typeName(v))
	}
	return s, nil
}

// int returns argument i as an integer.
func (a args) int(i int, name string, def int64) (int64, error) {
	v := a.get(i, name, def)
	n, ok := integer(v)
	if !ok {
		return 0, errorf("argument %q is %s, want int", name, typeName(v))
	}
	return n, nil
}

func (x *callExpr) eval(st *state) (any, error) {
	if attr, ok := x.f.(*attrExpr); ok {
		return st.callMethod(attr, x.args)
	}
	f, err := st.eval(x.f)
	if err != nil {
		return nil, err
	}
	a, err := st.arguments(x.args)
	if err != nil {
		return nil, err
	}
	name := "the value"
	if n, ok := x.f.(*nameExpr); ok {
		name = n.name
	}
	return st.call(name, f, a)
}

func (st *state) call(name string, f any, a args) (any, error) {
	switch f := f.(type) {
	case Func:
		if len(a.named) > 0 {
			return nil, unsupported("a keyword argument of %q", name)
		}
		v, err := f(a.positional)
		if err != nil {
			return nil, &Error{Msg: err.Error(), Err: err}
		}
		return normal(v), nil
	case builtin:
		return f(st, a)
	case *macro:
		return f.call(st, a)
	case *loop:
		return f.call(st, a)
	case *joiner:
		return f.call(), nil
	}
	return nil, errorf("%q is %s, want a function", name, typeName(f))
}

func (st *state) callMethod(x *attrExpr, with arguments) (any, error) {
	recv, err := st.eval(x.x)
	if err != nil {
		return nil, err
	}
	a, err := st.arguments(with)
	if err != nil {
		return nil, err
	}
	if l, ok := recv.([]any); ok && (x.name == "append" || x.name == "pop") {
		return st.change(x, l, a)
	}
	if m := method(recv, x.name); m != nil {
		return m(st, recv, a)
	}
	f, err := attribute(recv, x.name)
	if err != nil {
		return nil, err
	}
	if _, ok := f.(undefined); ok {
		return nil, unsupported("method %q of %s", x.name, typeName(recv))
	}
	return st.call(x.name, f, a)
}

// change appends to a list or takes an element out of it, in the name or the attribute of a namespace that holds it: the
// list itself is never changed. Python's templates may do neither, llama.cpp's may.
func (st *state) change(x *attrExpr, l []any, a args) (result any, err error) {
	if err := st.spend(itemCost * int64(len(l)+1)); err != nil {
		return nil, err
	}
	changed := slices.Clone(l)
	if x.name == "append" {
		changed = append(changed, a.get(0, "object", undefined{"the element"}))
	} else {
		i, err := a.int(0, "index", -1)
		if err != nil {
			return nil, err
		}
		if i < 0 {
			i += int64(len(l))
		}
		if i < 0 || i >= int64(len(l)) {
			return nil, errorf("pop: the list has %d elements", len(l))
		}
		result, changed = l[i], slices.Delete(changed, int(i), int(i)+1)
	}
	switch holder := x.x.(type) {
	case *nameExpr:
		for s := st.scope; s != nil; s = s.parent {
			if _, ok := s.vars[holder.name]; ok {
				s.vars[holder.name] = changed
				return result, nil
			}
		}
	case *attrExpr:
		v, err := st.eval(holder.x)
		if ns, ok := v.(*namespace); err == nil && ok {
			ns.Set(holder.name, changed)
			return result, nil
		}
	}
	return nil, unsupported("method %q of a list that no name holds", x.name)
}

func isUndefined(v any) bool {
	_, ok := v.(undefined)
	return ok
}

func (x *filterExpr) eval(st *state) (any, error) {
	v, err := st.eval(x.x)
	if err != nil {
		return nil, err
	}
	a, err := st.arguments(x.args)
	if err != nil {
		return nil, err
	}
	v, err = x.f(st, v, a)
	return v, within("filter "+quote(x.name), err)
}

func (x *testExpr) eval(st *state) (any, error) {
	v, err := st.eval(x.x)
	if err != nil {
		return nil, err
	}
	a, err := st.arguments(x.args)
	if err != nil {
		return nil, err
	}
	ok, err := x.f(st, v, a)
	return ok != x.not, within("test "+quote(x.name), err)
}

// within puts the filter or test in front of an error that has no place yet.
func within(what string, err error) error {
	if e, ok := err.(*Error); ok && e.Line == 0 && e.Err == nil {
		return &Error{Msg: what + ": " + e.Msg}
	}
	return err
}
