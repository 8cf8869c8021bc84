package graph

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// checkModel compares the gradient of every factor with the change of the loss along it. unadapted are parts of the names
// of weights that llama.cpp multiplies without asking for an adapter.
func checkModel(t *testing.T, path string, method adapter.Method, keepAll bool, unadapted ...string) {
	m := loadModel(t, path)
	weights := adaptable(allLinear(t, path, method, 4), unadapted)
	disturb(weights)
	shape := Shape{Ctx: 16, Seqs: 2}
	ws := windows(shape, m.Vocab().NTokens())
	// One thread: the graphs are small and computed hundreds of times, waiting for another thread takes longer.
	e := newEngine(t, m, weights, Options{Shape: shape, Threads: 1, keepAll: keepAll})
	if names := e.Unreached(); len(names) > 0 {
		t.Fatalf("no gradient reaches %v", names)
	}
	step := lossStep
	if table := tableNodes(e); len(table) > 0 && method == adapter.MethodLoRA {
		step = tableLossStep
	} else {
		makeSmooth(t, table)
	}
	checkDirections(t, e, ws, step, newStill(t, path, weights))
}

// adaptable leaves out weights whose names have such a part.
func adaptable(weights []adapter.Weight, unadapted []string) []adapter.Weight {
	return slices.DeleteFunc(weights, func(w adapter.Weight) bool {
		return slices.ContainsFunc(unadapted, func(part string) bool { return strings.Contains(w.Name, part) })
	})
}

// tableNodes are the nodes of an engine that read a table.
func tableNodes(e *Engine) []ggml.Tensor {
	var nodes []ggml.Tensor
	for i := range e.graph.Len() {
		if node := e.graph.Node(i); slices.Contains(tableOps, node.Op()) || kernels.Name(node) == gelu {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// makeSmooth turns GELU and GEGLU into their forms by the error function, which are computed in float32. The slopes
// differ by 1e-3 at most, so that the derivative of the one is good enough for the other.
func makeSmooth(t *testing.T, nodes []ggml.Tensor) {
	t.Helper()
	ctx, err := ggml.NewContext(8, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	x := ctx.NewTensor(ggml.F32, 2)
	smooth := map[string]ggml.Tensor{"GELU": ctx.GeluErf(x), "GEGLU": ctx.GluSplit(x, x, ggml.GateGegluErf)}
	for _, node := range nodes {
		if kernels.Name(node) == gelu {
			node.SetParamF(ggml.FirstParam, 0) // what it computes before it rounds as the table does
			continue
		}
		form, ok := smooth[node.Op()]
		if !ok {
			t.Fatalf("%s has no smooth form", node.Op())
		}
		node.CopyParams(form)
	}
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func TestGradientsOfTrainedModel(t *testing.T) {
	onTrained(t, func(t *testing.T, path string) {
		for _, method := range formulas {
			checkModel(t, path, method, false)
		}
	})
}

// The native form of a term and the plain-Go one sum in another order, the latter in float64.
const termTolerance = 1e-5

func TestTermEqualsPlainGo(t *testing.T) {
	const nIn, nOut = 24, 20
	terms := map[string]adapter.Factors{}
	for _, method := range formulas {
		f, err := adapter.New(method, nIn, nOut, 6, 9)
		if err != nil {
			t.Fatal(err)
		}
		terms[string(method)] = f
	}
	terms["thin"] = &adapter.Dual{A: adapter.NewMat(nIn, 1), B: adapter.NewMat(1, nOut), C: adapter.NewMat(nIn, 5), D: adapter.NewMat(5, nOut), Alpha: 2}
	terms["limited"] = &adapter.Dual{A: adapter.NewMat(nIn, 1), B: adapter.NewMat(1, nOut), C: adapter.NewMat(nIn, 3), D: adapter.NewMat(3, nOut), Limit: 0.1}
	for name, f := range terms {
		for _, with := range []opSet{{}, {native: true, exact: true}} {
			termEqualsPlainGo(t, name, f, with, nil)
		}
	}
	for _, with := range []opSet{{}, {native: true, exact: true}} {
		termEqualsPlainGo(t, "thin, of drawn tokens", terms["thin"], with, []int32{0, 2, 3, 6})
	}
}

func termEqualsPlainGo(t *testing.T, name string, f adapter.Factors, with opSet, drawn []int32) {
	const tokens = 7
	nIn, nOut := f.Shape()
	w, x, dy := noise(nIn*nOut, 1), noise(nIn*tokens, 2), noise(nOut*tokens, 3)
	weight := adapter.Weight{Name: "w", Factors: f}
	bind(t, weight, w)
	f.Init(3, "w")
	disturb([]adapter.Weight{weight})
	what := fmt.Sprintf("%s %+v", name, with)
	y, dx, grads := runTerm(t, with, f, w, x, dy, tokens, drawn)

	mat := func(n, m int, v []float32) adapter.Mat { return adapter.Mat{NE: [2]int{n, m}, Data: v} }
	compare(t, what+" y", y, adapter.Forward(f, mat(nIn, nOut, w), mat(nIn, tokens, x)).Data)
	wantDX, wantGrads := adapter.Backward(f, mat(nIn, nOut, w), mat(nIn, tokens, x), mat(nOut, tokens, dy))
	compare(t, what+" dx", dx, wantDX.Data)
	if drawn != nil {
		xs, dys := mat(nIn, len(drawn), columns(x, nIn, drawn)), mat(nOut, len(drawn), columns(dy, nOut, drawn))
		_, part := adapter.Backward(f, mat(nIn, nOut, w), xs, dys)
		for i, m := range f.Matrices() {
			if m.Magnitude {
				wantGrads[i] = part[i]
				for k := range part[i].Data {
					wantGrads[i].Data[k] *= float32(tokens) / float32(len(drawn))
				}
			}
		}
	}
	for i, g := range wantGrads {
		compare(t, what+" d"+f.Matrices()[i].Suffix, grads[i], g.Data)
	}
}

// columns returns those columns of a matrix of n rows.
func columns(v []float32, n int, which []int32) (part []float32) {
	for _, k := range which {
		part = append(part, v[int(k)*n:][:n]...)
	}
	return part
}

func compare(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if d := near.Share(got, want); d > termTolerance {
		t.Errorf("%s: %d elements differ by %v of the largest of %d", what, len(got), d, len(want))
	}
}

// runTerm runs an adapted product alone on the CPU: its output and the gradients of x and of each factor, for dy.
func runTerm(t *testing.T, with opSet, f adapter.Factors, w, x, dy []float32, tokens int, drawn []int32) (y, dx []float32, grads [][]float32) {
	t.Helper()
	cpu, err := ggml.NewCPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	c, err := ggml.NewContext(256, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	values := map[ggml.Tensor][]float32{}
	leaf := func(v []float32, ne ...int64) ggml.Tensor {
		l := c.NewTensor(ggml.F32, ne...).SetInput()
		values[l] = v
		return l
	}
	nIn, nOut := f.Shape()
	lw, lx, ldy := leaf(w, int64(nIn), int64(nOut)), leaf(x, int64(nIn), int64(tokens)), leaf(dy, int64(nOut), int64(tokens))
	var mats, vectors, out []ggml.Tensor
	what := trainedSet{totals: map[ggml.Tensor]ggml.Tensor{}}
	for _, m := range f.Matrices() {
		ne := []int64{int64(m.Mat.NE[0]), int64(m.Mat.NE[1])}
		mats = append(mats, leaf(m.Mat.Data, ne...))
		what.totals[mats[len(mats)-1]] = leaf(make([]float32, len(m.Mat.Data)), ne...)
	}
	for _, v := range constantsOf(f) {
		vectors = append(vectors, leaf(v, int64(len(v))))
	}
	var rows ggml.Tensor
	if drawn != nil {
		rows = c.NewTensor(ggml.I32, int64(len(drawn))).SetInput()
	}
	r := newRewriter("test", Shape{Ctx: tokens, Seqs: 1}, c, opSets{at: [2]opSet{with}}, what)
	r.needs[lx] = true
	out = append(out, r.adapt(&weightProduct{linear: with.newLinear(f, mats, vectors, rows), w: lw, x: lx}))
	s := &sweep{rewriter: r, grads: map[ggml.Tensor]ggml.Tensor{out[0]: ldy}}
	s.addNode = func(_, sum ggml.Tensor) { out = append(out, sum) }
	if err := s.backward(); err != nil {
		t.Fatal(err)
	}
	out = append(out, s.grads[lx])
	g := c.NewGraph(256)
	for _, o := range out {
		root(o).SetOutput() // nobody else gets the memory
		g.Expand(o.SetOutput())
	}
	alloc, err := cpu.Allocate(g)
	if err != nil {
		t.Fatal(err)
	}
	defer alloc.Close()
	for l, v := range values {
		if l.HasData() {
			l.SetFloats(v)
		}
	}
	if drawn != nil {
		copy(rows.Ints(), drawn)
	}
	if err := cpu.Compute(g); err != nil {
		t.Fatal(err)
	}
	for _, m := range mats {
		grads = append(grads, slices.Clone(what.totals[m].Floats()))
	}
	return slices.Clone(out[0].Floats()), slices.Clone(s.grads[lx].Floats()), grads
}

// tinySpec is a tiny model of an architecture. The windows of the attention, if it has any, are shorter than the tests'
// sequences: testmodel makes them a quarter of Ctx.
func tinySpec(arch string) testmodel.Spec { return testmodel.Spec{Arch: arch, Ctx: 32} }

// Architectures by the way their blocks differ: fused or separate projections, biases, norms of q and k, LayerNorm, learned
// positions, attention and feed-forward network side by side, soft caps, sliding windows, gates.
func TestGradientsOfTinyModels(t *testing.T) {
	specs := []testmodel.Spec{{Arch: "llama", Tied: true}, {Arch: "gpt2", Tied: true}}
	for _, arch := range testmodel.Architectures() {
		specs = append(specs, tinySpec(arch))
	}
	for _, spec := range specs {
		path := testmodel.Path(t, spec)
		for _, method := range formulas {
			t.Run(fmt.Sprintf("%s tied=%v %s", spec.Arch, spec.Tied, method), func(t *testing.T) {
				checkModel(t, path, method, spec.Tied)
			})
		}
	}
}

func TestGradientsOfAreThoseOfTheNames(t *testing.T) {
	path := testmodel.Path(t, tinySpec("llama"))
	m := loadModel(t, path)
	e := newEngine(t, m, allLinear(t, path, adapter.MethodLoRA, 2), Options{Shape: Shape{Ctx: 8, Seqs: 1}})
	var names []string
	all := e.Gradients()
	for _, g := range all {
		names = append(names, g.Name)
	}
	slices.Reverse(names)
	for i, data := range e.GradientsOf(names) {
		if want := all[len(all)-1-i]; &data[0] != &want.Data[0] || want.Name != names[i] {
			t.Errorf("number %d of the gradients asked for is not that of %s", i, names[i])
		}
	}
	for what, asked := range map[string][]string{
		"unknown":         append([]string{"blk.9.attn_q.weight.lora_a"}, names[1:]...),
		"twice":           append([]string{names[1]}, names[1:]...),
		"one is left out": names[1:],
	} {
		func() {
			defer func() {
				if text, ok := recover().(string); !ok || !strings.HasPrefix(text, "internal error: graph: ") {
					t.Errorf("%s: GradientsOf panicked with %q, want an internal error", what, text)
				}
			}()
			e.GradientsOf(asked)
		}()
	}
}
