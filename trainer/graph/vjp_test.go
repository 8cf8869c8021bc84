package graph

import (
	"fmt"
	"math"
	"testing"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Central differences of a float32 graph: the step balances its curvature against rounding. What is left is below 1 % of
// the largest element of the gradient for every rule; a wrong rule is off by tens of per cent.
const (
	differenceStep      = 1e-2
	differenceTolerance = 1e-2
)

// The CPU reads GELU and its quick form from a table with half-precision x and y: below 4 both are rounded by up to 2⁻¹⁰,
// the curve is a staircase, and a step of 1e-2 would divide that by itself into 10 %. Over a step of 0.1 it is 1 %, and
// as much again is the curvature over so long a step.
const (
	tableStep      = 1e-1
	tableTolerance = 3e-2
)

// ruleCase is a small graph around one operation. build gets the leaves, of the given shapes, and returns the result.
type ruleCase struct {
	name   string
	shapes [][]int64
	build  func(r *rewriter, x []ggml.Tensor) ggml.Tensor
	table  bool // the forward operation is a table of half-precision numbers
}

// step and tolerance of the finite differences.
func (c ruleCase) precision() (step, tolerance float64) {
	if c.table {
		return tableStep, tableTolerance
	}
	return differenceStep, differenceTolerance
}

var ruleCases = []ruleCase{
	{"ADD", [][]int64{{6, 4}, {6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Add(x[0], x[1])) }},
	{"ADD broadcast", [][]int64{{6, 4}, {6}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Add(x[0], x[1])) }},
	{"ADD of itself", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Add(x[0], x[0])) }},
	{"MUL", [][]int64{{6, 4}, {6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Mul(x[0], x[1])) }},
	{"MUL broadcast", [][]int64{{6, 4, 2}, {6}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Mul(x[0], x[1])) }},
	{"SCALE", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.ScaleBias(x[0], -1.5, 0.3)) }},
	{"MUL_MAT", [][]int64{{8, 5}, {8, 7}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.MulMat(x[0], x[1])) }},
	{"MUL_MAT grouped heads", [][]int64{{8, 5, 2, 3}, {8, 7, 6, 3}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.MulMat(x[0], x[1])) }},
	{"RMS_NORM", [][]int64{{9, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.RMSNorm(x[0], 0.1)) }},
	{"ROPE norm", [][]int64{{8, 2, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(rope(r, x[0], 0)) }},
	{"ROPE neox", [][]int64{{8, 2, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(rope(r, x[0], 2)) }},
	{"SOFT_MAX", [][]int64{{5, 4, 3}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(r.ctx.SoftMaxExt(x[0], ggml.Tensor{}, 0.7, 0))
	}},
	{"SWIGLU split", [][]int64{{6, 4}, {6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.SwigluSplit(x[0], x[1])) }},
	{"SWIGLU fused", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Swiglu(x[0], false)) }},
	{"SWIGLU swapped", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Swiglu(x[0], true)) }},
	{"RESHAPE", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Reshape(x[0], 3, 8)) }},
	{"CONT", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(r.ctx.Cont(r.add(r.ctx.Transpose(x[0]))))
	}},
	{"CPY", [][]int64{{6, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor { return r.add(r.ctx.Cast(x[0], ggml.F32)) }},
	{"PERMUTE", [][]int64{{2, 3, 4, 5}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		return r.add(r.ctx.Cont(r.add(r.ctx.Permute(x[0], [4]int{2, 0, 3, 1}))))
	}},
	{"VIEW twice of one", [][]int64{{10, 4}}, func(r *rewriter, x []ggml.Tensor) ggml.Tensor {
		nb := x[0].NB()
		a := r.add(r.ctx.Cont(r.add(r.ctx.View(x[0], [4]int64{6, 4, 1, 1}, nb, 0))))
		b := r.add(r.ctx.Cont(r.add(r.ctx.View(x[0], [4]int64{6, 4, 1, 1}, nb, 4*4)))) // overlaps a by two
		return r.add(r.ctx.Mul(a, b))
	}},
}

func rope(r *rewriter, x ggml.Tensor, mode int) ggml.Tensor {
	pos := r.ctx.NewTensor(ggml.I32, x.NE()[2]).SetName("pos").SetInput()
	r.inputs[pos] = &input{role: rolePositions, leaf: pos, ints: []int32{0, 1, 2, 3}, sign: 1}
	return r.ctx.Rope(x, pos, ggml.Tensor{}, int(x.NE()[0]), mode, 100)
}

func TestEveryRuleEqualsFiniteDifferences(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range ruleCases {
		for _, keepAll := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s keepAll=%v", c.name, keepAll), func(t *testing.T) {
				for op := range checkRule(t, c, keepAll) {
					tested[op] = true
				}
			})
		}
	}
	for op := range rules {
		if !tested[op] && op != "DUP" { // DUP shares CPY's rule, and no model graph of llama.cpp holds one
			t.Errorf("no case tests the rule of %s", op)
		}
	}
}

// checkRule compares the gradients of L = Σ dy ⊙ y with central differences, for every element of every leaf. It returns
// the operations that were swept.
func checkRule(t *testing.T, c ruleCase, keepAll bool) map[string]bool {
	cpu, err := ggml.NewCPU(2)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	ctx, err := ggml.NewContext(512, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	r := newRewriter("test", Shape{Ctx: 4, Seqs: 1}, ctx, nil)
	var leaves []ggml.Tensor
	for i, ne := range c.shapes {
		leaf := ctx.NewTensor(ggml.F32, ne...).SetName(fmt.Sprint("x", i)).SetInput()
		r.needs[leaf] = true
		leaves = append(leaves, leaf)
	}
	y := c.build(r, leaves)
	y.SetOutput()
	ne := y.NE()
	dy := ctx.NewTensor(ggml.F32, ne[:]...).SetName("dy").SetInput()
	s := &sweep{rewriter: r, grads: map[ggml.Tensor]ggml.Tensor{y: dy}}
	if err := s.backward(); err != nil {
		t.Fatal(err)
	}
	ops := map[string]bool{}
	for _, node := range r.order {
		ops[node.Op()] = true
	}
	g := ctx.NewGraph(512)
	g.Expand(y)
	forward := g.Len()
	var grads []ggml.Tensor
	for _, leaf := range leaves {
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
	run := func(g ggml.Graph) {
		for i, leaf := range leaves {
			leaf.SetFloats(values[i])
		}
		dy.SetFloats(seed)
		for _, in := range r.inputs {
			for i := range in.leaf.Ints() {
				in.leaf.Ints()[i] = in.sign * int32(i)
			}
		}
		if err := cpu.Compute(g); err != nil {
			t.Fatal(err)
		}
	}
	loss := func() (sum float64) {
		run(part)
		for i, v := range y.Floats() {
			sum += float64(v) * float64(seed[i])
		}
		return sum
	}
	run(g)
	for i, leaf := range leaves {
		got := append([]float32(nil), grads[i].Floats()...)
		run(g) // again, into memory that has been used
		if d := largestDifference(got, grads[i].Floats()); d != 0 {
			t.Errorf("%s: the second run differs by %v", leaf.Name(), d)
		}
		want := make([]float32, len(got))
		for k := range want {
			x := values[i][k]
			values[i][k] = x + differenceStep
			up := loss()
			values[i][k] = x - differenceStep
			want[k] = float32((up - loss()) / (2 * differenceStep))
			values[i][k] = x
		}
		run(g)
		if d, top := largestDifference(got, want), largest(want); top == 0 || d > differenceTolerance*top {
			t.Errorf("d/d%s differs by %v of %v from finite differences\n got %v\nwant %v", leaf.Name(), d, top, got, want)
		}
	}
	return ops
}

func noise(n int, phase float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(math.Sin(float64(i)*1.7+phase*2.3) + 0.3*math.Cos(float64(i*i)+phase))
	}
	return v
}
