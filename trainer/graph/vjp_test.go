package graph

import (
	"fmt"
	"math"
	"testing"

	"finetune/internal/near"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Central differences of a float32 graph: the step balances its curvature against rounding. What is left is below 1 % of
// the largest element of the gradient for every rule; a wrong rule is off by tens of per cent.
const (
	differenceStep      = 1e-2
	differenceTolerance = 1e-2
)

// The CPU reads GELU and its quick form from a table with half-precision x and y. Below 2 each is rounded by up to 2⁻¹¹:
// two values may be off by 2e-3 together, 10 % of what a step of 1e-2 to either side sees, 1 % of what one of 0.1 sees.
// The curvature over that step adds less than half of that. TestGeluSlopesEqualClosedForms holds the rules to more.
const (
	tableStep      = 1e-1
	tableTolerance = 2e-2
)

var tableOps = []string{"GELU", "GELU_QUICK", "GEGLU", "GEGLU_QUICK"}

// precision is the step of the finite differences and what they may differ by, for a graph with these operations.
func precision(ops map[string]bool) (step, tolerance float64) {
	for _, op := range tableOps {
		if ops[op] {
			return tableStep, tableTolerance
		}
	}
	return differenceStep, differenceTolerance
}

func TestEveryRuleEqualsFiniteDifferences(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range ruleCases {
		for _, keepAll := range []bool{false, true} {
			for _, native := range []bool{false, true} {
				for _, totals := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s keepAll=%v native=%v totals=%v", c.name, keepAll, native, totals), func(t *testing.T) {
						for op := range checkRule(t, c, keepAll, opSet{native: native}, totals) {
							tested[op] = true
						}
					})
				}
			}
		}
	}
	for op := range rules {
		if !tested[op] && op != "DUP" { // DUP shares CPY's rule, and no model graph of llama.cpp holds one
			t.Errorf("no case tests the rule of %s", op)
		}
	}
}

// checkRule compares the gradients of L = Σ dy ⊙ y with central differences, for every element of every leaf. It returns
// the operations that were swept. With totals the gradients are added where those of trained tensors are.
func checkRule(t *testing.T, c ruleCase, keepAll bool, with opSet, totals bool) map[string]bool {
	cpu, err := ggml.NewCPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	one, err := ggml.NewCPU(1) // for the differences: starting a second thread costs more than these graphs
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	ctx, err := ggml.NewContext(512, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	var leaves []ggml.Tensor
	what := trainedSet{totals: map[ggml.Tensor]ggml.Tensor{}}
	for i, ne := range c.shapes {
		leaf := ctx.NewTensor(ggml.F32, ne...).SetName(fmt.Sprint("x", i)).SetInput()
		leaves = append(leaves, leaf)
		if totals {
			what.totals[leaf] = ctx.NewTensor(ggml.F32, ne...).SetInput().SetOutput()
		}
	}
	r := newRewriter("test", Shape{Ctx: 4, Seqs: 1}, ctx, opSets{at: [2]opSet{with}}, what)
	for _, leaf := range leaves {
		r.needs[leaf] = true
	}
	y := c.build(r, leaves)
	y.SetOutput()
	ne := y.NE()
	dy := ctx.NewTensor(ggml.F32, ne[:]...).SetName("dy").SetInput()
	s := &sweep{rewriter: r, grads: map[ggml.Tensor]ggml.Tensor{y: dy}}
	var sums []ggml.Tensor
	s.addNode = func(_, sum ggml.Tensor) { sums = append(sums, sum) }
	if err := s.backward(); err != nil {
		t.Fatal(err)
	}
	ops := map[string]bool{}
	for _, node := range r.order {
		ops[nameOf(node)] = true
	}
	g := ctx.NewGraph(512)
	g.Expand(y)
	forward := g.Len()
	for _, sum := range sums {
		g.Expand(sum)
	}
	var grads []ggml.Tensor
	for _, leaf := range leaves {
		if totals {
			grads = append(grads, what.totals[leaf])
			continue
		}
		grad := s.cont(s.grads[leaf]).SetOutput()
		if grad.NE() != leaf.NE() {
			t.Fatalf("gradient of shape %v, want %v", grad.NE(), leaf.NE())
		}
		grads = append(grads, grad)
		g.Expand(grad)
	}
	if keepAll {
		for i := range g.Len() {
			g.Node(i).SetOutput()
		}
	}
	part := ctx.Part(g, 0, forward)
	alloc, err := cpu.Allocate(g)
	if err != nil {
		t.Fatal(err)
	}
	defer alloc.Close()

	seed := noise(int(dy.Elements()), 3)
	values := make([][]float32, len(leaves))
	for i, leaf := range leaves {
		values[i] = noise(int(leaf.Elements()), float64(i)+1)
	}
	run := func(on *ggml.Backend, g ggml.Graph) {
		for i, leaf := range leaves {
			leaf.SetFloats(values[i])
		}
		dy.SetFloats(seed)
		for _, total := range what.totals {
			clear(total.Floats())
		}
		for _, in := range r.inputs {
			for i, n := range in.ints {
				in.leaf.Ints()[i] = in.sign * n
			}
		}
		if err := on.Compute(g); err != nil {
			t.Fatal(err)
		}
	}
	loss := func() (sum float64) {
		run(one, part)
		for i, v := range y.Floats() {
			sum += float64(v) * float64(seed[i])
		}
		return sum
	}
	step, tolerance := precision(ops)
	run(cpu, g)
	for i, leaf := range leaves {
		got := append([]float32(nil), grads[i].Floats()...)
		run(cpu, g) // again, into memory that has been used
		if d := near.Farthest(got, grads[i].Floats()); d != 0 {
			t.Errorf("%s: the second run differs by %v", leaf.Name(), d)
		}
		want := make([]float32, len(got))
		for k := range want {
			x := values[i][k]
			values[i][k] = x + float32(step)
			up := loss()
			values[i][k] = x - float32(step)
			want[k] = float32((up - loss()) / (2 * step))
			values[i][k] = x
		}
		run(cpu, g)
		if d := near.Share(got, want); d > tolerance {
			t.Errorf("d/d%s differs by %v of its largest element from finite differences\n got %v\nwant %v", leaf.Name(), d, got, want)
		}
	}
	return ops
}

// Slopes are up to 1.1, computed in float32 in a dozen steps.
const slopeTolerance = 2e-6

func TestGeluSlopesEqualClosedForms(t *testing.T) {
	normal := func(x float64) float64 { return (1 + math.Erf(x/math.Sqrt2)) / 2 }
	density := func(x float64) float64 { return math.Exp(-x*x/2) / math.Sqrt(2*math.Pi) }
	for name, c := range map[string]struct {
		native slope
		exact  func(x float64) float64
	}{
		"GELU": {slopeGelu, func(x float64) float64 {
			k, a := math.Sqrt(2/math.Pi), 0.044715
			tanh := math.Tanh(k * (x + a*x*x*x))
			return (1+tanh)/2 + x/2*(1-tanh*tanh)*k*(1+3*a*x*x)
		}},
		"GELU_ERF": {slopeGeluErf, func(x float64) float64 { return normal(x) + x*density(x) }},
		"GELU_QUICK": {slopeGeluQuick, func(x float64) float64 {
			sigma := 1 / (1 + math.Exp(-1.702*x))
			return sigma + 1.702*x*sigma*(1-sigma)
		}},
	} {
		x := []float32{0, 1e-38, -1e-38, 1e-7, -1e-7, 30, -30}
		for v := float32(-12); v < 12; v += 0.037 {
			x = append(x, v)
		}
		for i, got := range evaluate(t, x, c.native) {
			if want := c.exact(float64(x[i])); !near.Enough(got, want, slopeTolerance) {
				t.Errorf("%s: slope(%v) = %v, want %v", name, x[i], got, want)
			}
		}
	}
}

// evaluate is f'(x) for every element of x, for an f whose slope needs no y.
func evaluate(t *testing.T, x []float32, f slope) []float32 {
	t.Helper()
	cpu, err := ggml.NewCPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	ctx, err := ggml.NewContext(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	leaf := ctx.NewTensor(ggml.F32, int64(len(x))).SetInput()
	y := f(ctx, leaf, ggml.Tensor{}).SetOutput()
	g := ctx.NewGraph(64)
	g.Expand(y)
	alloc, err := cpu.Allocate(g)
	if err != nil {
		t.Fatal(err)
	}
	defer alloc.Close()
	leaf.SetFloats(x)
	if err := cpu.Compute(g); err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), y.Floats()...)
}

func noise(n int, phase float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(math.Sin(float64(i)*1.7+phase*2.3) + 0.3*math.Cos(float64(i*i)+phase))
	}
	return v
}
