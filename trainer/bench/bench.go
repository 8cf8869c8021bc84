// Package bench measures how fast and how lean a training step is, as a share of what the machine can do and beside
// llama.cpp's own forward pass, all in one run. It asserts nothing: a time is no test.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"finetune/adapter"
	"finetune/classify"
	"finetune/device"
	"finetune/gguf"
	"finetune/internal/machine"
	"finetune/model"
	"finetune/model/native"
	"finetune/quant"
	"finetune/run"
	"finetune/trainer"
	"finetune/trainer/data"
	"finetune/trainer/graph"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Options say what is measured.
type Options struct {
	Model          string   // a GGUF, or empty: Shape and Type
	Shape          string   // one of Shapes
	Type           string   // "q8_0", "q4_k_m", …
	Dir            string   // where models of a Shape are kept; empty = a folder of the user's own
	Methods        []string // of adapters, and run.MethodFull
	Starts         []string // of the methods that have more than one; none: their first
	Rank           int
	Ctx            int              // tokens a sequence
	Seqs           int              // sequences a step
	Threads        int              // 0 = one per physical core
	Repeat         int              // steps that are timed; the median counts
	MagnitudeEvery int              // as train's
	NoForward      bool             // leave llama.cpp's forward pass out
	MaxMemory      int64            // as train's: the most memory, in bytes; 0 = no limit
	Profile        bool             // also say where the time goes
	On             device.Placement // what trains and, for llama.cpp's forward pass, holds the model
}

// Report is one run: everything in it was measured side by side.
type Report struct {
	PeakFlops float64 `json:"peak_flops"` // multiply-adds, counted as two: in registers on the same threads, or in a device's best product
	Threads   int     `json:"threads"`
	Device    string  `json:"device,omitempty"` // its name; none: the CPU
	Cases     []Case  `json:"cases"`
}

// Case is one method on one model.
type Case struct {
	Model            string         `json:"model"`
	Type             string         `json:"type"`
	Method           string         `json:"method"`
	Start            string         `json:"start,omitempty"` // of a method that has more than one
	Rank             int            `json:"rank"`
	Ctx              int            `json:"ctx"`
	Seqs             int            `json:"seqs"`
	TokensPerSecond  float64        `json:"tokens_per_second"`
	UsefulFlopsToken float64        `json:"useful_flops_per_token"`
	UsefulShare      float64        `json:"useful_flops_share"`
	ForwardPerSecond float64        `json:"forward_tokens_per_second"` // llama.cpp, logits for every token
	ForwardRatio     float64        `json:"forward_ratio"`
	PeakRSS          int64          `json:"peak_rss_bytes"`
	Planned          int64          `json:"planned_bytes"` // the plan's total; train keeps the optimizer's moments besides
	Plan             trainer.Plan   `json:"plan"`
	WorkBytes        int64          `json:"work_bytes"`
	Moved            int64          `json:"moved_bytes,omitempty"` // between the memory of the CPU and the device's in a step; 0 without a device
	StepSeconds      float64        `json:"step_seconds"`
	ProcessorSeconds float64        `json:"step_processor_seconds"` // of all threads; with one of them the time that a step would take on a free machine
	Profile          []graph.OpTime `json:"profile,omitempty"`      // by operation, node by node, the longest first
}

// Run measures every method of o on one model. say, if not nil, is told what is being done.
func Run(ctx context.Context, o Options, say func(string)) (_ *Report, err error) {
	if say == nil {
		say = func(string) {}
	}
	if o.Threads == 0 {
		o.Threads = machine.PhysicalCores()
	}
	if o.Model == "" {
		if o.Dir == "" {
			if o.Dir, err = privateDir(); err != nil {
				return nil, err
			}
		}
		say("making " + o.Shape + " " + o.Type)
		if o.Model, err = Model(o.Dir, o.Shape, o.Type); err != nil {
			return nil, err
		}
	}
	f, err := model.Open(o.Model)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &Report{Threads: o.Threads}
	if r.PeakFlops, err = peak(o); err != nil {
		return nil, err
	}
	if !o.On.OnCPU() {
		r.Device = o.On.String()
	}
	for _, recipe := range o.recipes() {
		say("measuring " + strings.TrimSpace(string(recipe.Method)+" "+string(recipe.Start)))
		c, err := measure(ctx, o, f, recipe)
		if err != nil {
			return nil, err
		}
		if !o.NoForward {
			say("measuring llama.cpp's forward pass")
			if c.ForwardPerSecond, err = forward(ctx, o, f); err != nil {
				return nil, err
			}
			c.ForwardRatio = c.TokensPerSecond / c.ForwardPerSecond
		}
		now, err := peak(o)
		if err != nil {
			return nil, err
		}
		r.PeakFlops = max(r.PeakFlops, now) // a busy moment must not make us look better
		c.UsefulShare = c.TokensPerSecond * c.UsefulFlopsToken / r.PeakFlops
		r.Cases = append(r.Cases, *c)
	}
	return r, nil
}

// recipes are the methods, and each start of those that have more than one. What run.MethodFull trains has no recipe, but
// its name.
func (o Options) recipes() (all []adapter.Recipe) {
	for _, name := range o.Methods {
		r := adapter.Recipe{Method: adapter.Method(name), Rank: o.Rank}
		if len(r.Method.Starts()) == 0 || len(o.Starts) == 0 {
			all = append(all, r)
			continue
		}
		for _, start := range o.Starts {
			r.Start = adapter.Start(start)
			all = append(all, r)
		}
	}
	return all
}

// measure times whole steps but for the optimizer: factors to where the graph reads them, forward, loss, backward, gradients to
// where the optimizer reads them.
func measure(ctx context.Context, o Options, f *model.Base, r adapter.Recipe) (_ *Case, err error) {
	resetPeak()
	m, err := native.Load(f, device.Placement{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	targets, err := adapter.ParseTargets("all-linear")
	if err != nil {
		return nil, err
	}
	selected, err := targets.Select(f.Used())
	if err != nil {
		return nil, err
	}
	d, err := demand(o, f, m, r, selected)
	if err != nil {
		return nil, err
	}
	windows := randomWindows(m, o)
	if classify.IsEncoder(f.File) {
		oneTextEach(windows)
	}
	e, plan, err := d.Engine()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if err := e.Allocate(); err != nil {
		return nil, err
	}
	times, err := timeSteps(ctx, o.Repeat, e, windows)
	if err != nil {
		return nil, err
	}
	c := &Case{Model: name(o), Type: typeName(o, f), Method: string(r.Method), Start: string(r.Start), Rank: o.Rank, Ctx: o.Ctx, Seqs: o.Seqs,
		TokensPerSecond: float64(o.Ctx*o.Seqs) / times.seconds, StepSeconds: times.seconds, ProcessorSeconds: times.busy, Moved: times.moved,
		UsefulFlopsToken: usefulFlops(f, selected, string(r.Method), o.Ctx),
		PeakRSS:          machine.PeakMemory(), WorkBytes: e.WorkBytes(), Plan: plan, Planned: plan.Total()}
	if o.Profile {
		c.Profile, err = e.Profile(windows[:plan.MicroBatch])
	}
	return c, err
}

// stepTimes are what a step takes: medians, but for the bytes, which are the same in every step.
type stepTimes struct {
	seconds, busy float64 // of the clock, and of the processor
	moved         int64   // bytes between the CPU and a device
}

func timeSteps(ctx context.Context, repeat int, e *graph.Engine, windows []data.Window) (t stepTimes, err error) {
	var times, computed []float64
	for i := range repeat + 1 {
		if err := ctx.Err(); err != nil {
			return t, err
		}
		start, before, moved := time.Now(), machine.ProcessorTime(), e.Moved()
		if err := step(e, windows); err != nil {
			return t, err
		}
		t.moved = e.Moved() - moved
		if i > 0 { // the first step reads the weights from the disk
			times = append(times, time.Since(start).Seconds())
			computed = append(computed, (machine.ProcessorTime() - before).Seconds())
		}
	}
	t.seconds, t.busy = median(times), median(computed)
	return t, nil
}

// step goes through the windows in as many passes as the engine needs; the last one is filled up with the first window.
func step(e *graph.Engine, windows []data.Window) error {
	n, scale := e.Shape().Seqs, float32(1/data.TotalWeight(windows))
	e.Upload()
	e.Reset()
	for at := 0; at < len(windows); at += n {
		pass := slices.Clone(windows[at:min(at+n, len(windows))])
		for len(pass) < n {
			pass = append(pass, windows[0])
		}
		if _, err := e.Step(pass, scale); err != nil {
			return err
		}
	}
	return e.Collect()
}

// demand returns the demand of train without an optimizer: over fresh factors on the selected weights, or over all
// weights.
func demand(o Options, f *model.Base, m *llama.Model, r adapter.Recipe, selected []gguf.Tensor) (trainer.Demand, error) {
	classes, err := classifier(f)
	if err != nil {
		return trainer.Demand{}, err
	}
	d := trainer.Demand{Model: m, Encoder: classify.IsEncoder(f.File), On: o.On, Vocab: f.VocabBytes(), Data: int64(20 * o.Ctx * o.Seqs),
		Ctx: o.Ctx, Batch: o.Seqs, Threads: o.Threads, MaxMemory: o.MaxMemory}
	if r.Method == run.MethodFull {
		if classes != nil {
			return d, errFullEncoder
		}
		masters, err := trainer.Masters(f)
		for _, master := range masters {
			d.Parameters += len(master.Data)
		}
		d.Prepare = func(g graph.Options) (*graph.Engine, error) { return graph.PrepareFull(m, masters, g) }
		return d, err
	}
	a, err := r.Build(selected)
	if err != nil {
		return d, err
	}
	if err := a.Bind(f.File, quant.Decode); err != nil {
		return d, err
	}
	if err := r.Init(a, 1, f.File, quant.Decode); err != nil {
		return d, err
	}
	d.Parameters = a.Parameters()
	if classes != nil {
		d.Parameters += len(classes.Weights) + len(classes.Biases)
	}
	d.Prepare = func(g graph.Options) (*graph.Engine, error) {
		g.MagnitudeEvery, g.Classes = o.MagnitudeEvery, classes
		return graph.Prepare(m, a.Weights, g)
	}
	return d, nil
}

// forward measures llama.cpp's own speed on the same tokens, with logits for all of them.
func forward(ctx context.Context, o Options, f *model.Base) (_ float64, err error) {
	if classify.IsEncoder(f.File) {
		return encoderForward(ctx, o, f)
	}
	m, err := native.Load(f, o.On)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: o.Ctx, NBatch: o.Ctx, NUBatch: min(512, o.Ctx), Threads: o.Threads})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	output := make([]bool, o.Ctx)
	for i := range output {
		output[i] = true
	}
	tokens := randomWindows(m, o)[0].Tokens
	var times []float64
	for i := range o.Repeat + 1 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		c.ClearMemory()
		start := time.Now()
		if err := c.Decode(llama.Batch{Tokens: tokens, Output: output}); err != nil {
			return 0, err
		}
		c.Logits(0) // waits for the computation
		if i > 0 {
			times = append(times, time.Since(start).Seconds())
		}
	}
	return float64(o.Ctx) / median(times), nil
}

// usefulFlops returns what the arithmetic of a step needs for one trained token: of each product with a weight the
// forward, the gradient of its input and, for Dual LoRA and where it is trained itself, that of the weight; of the head
// the first two, and the third where it is trained; of attention's two products forward and backward over the causal
// half, or all of it where a model reads in both directions, which has no head. Recomputation and the adapter's own products
// do not count.
func usefulFlops(f *model.Base, adapted []gguf.Tensor, method string, ctx int) float64 {
	var matrices, head float64
	attention := 6 * float64(ctx) * attentionWidth(f)
	for _, t := range adapted {
		matrices += float64(t.Elements())
	}
	if classify.IsEncoder(f.File) {
		return perWeight(method)*matrices + 2*attention
	}
	output, ok := f.Tensor("output.weight")
	if !ok {
		output, _ = f.Tensor("token_embd.weight")
	}
	head = float64(output.Elements())
	perHead := 4.0
	if method == run.MethodFull {
		perHead = 6
	}
	return perWeight(method)*matrices + perHead*head + attention
}

// perWeight returns the operations for a weight and token: two for each product.
func perWeight(method string) float64 {
	if method == string(adapter.MethodDual) || method == run.MethodFull {
		return 6
	}
	return 4
}

// attentionWidth returns the width of the heads together, summed over the layers.
func attentionWidth(f *model.Base) float64 {
	arch := f.Architecture()
	layers, _ := f.Uint(arch + ".block_count")
	heads, _ := f.Uint(arch + ".attention.head_count")
	width, err := f.Uint(arch + ".attention.key_length")
	if err != nil {
		embd, _ := f.Uint(arch + ".embedding_length")
		return float64(layers * embd)
	}
	return float64(layers * heads * width)
}

func randomWindows(m *llama.Model, o Options) (all []data.Window) {
	rng := rand.New(rand.NewPCG(1, 2))
	token := func() int32 { return int32(rng.IntN(m.Vocab().NTokens())) }
	for range o.Seqs {
		w := data.Blank(o.Ctx)
		for i := range w.Tokens {
			w.Tokens[i], w.Targets[i], w.LossMask[i] = token(), token(), 1
		}
		all = append(all, w)
	}
	return all
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// name returns the name of the shape, or of the file.
func name(o Options) string {
	if o.Shape != "" {
		return o.Shape
	}
	return strings.TrimSuffix(filepath.Base(o.Model), ".gguf")
}

// typeName returns the mix that was asked for, or the type of most parameters.
func typeName(o Options, f *model.Base) string {
	if o.Type != "" && o.Shape != "" {
		return o.Type
	}
	most, kind := int64(0), ""
	count := map[gguf.Type]int64{}
	for _, t := range f.Tensors() {
		if count[t.Type] += t.Elements(); count[t.Type] > most {
			most, kind = count[t.Type], t.Type.String()
		}
	}
	return kind
}

// Validate says what cannot be measured.
func (o Options) Validate() error {
	switch {
	case o.Model == "" && o.Shape == "":
		return fmt.Errorf("bench: neither a model nor a shape is given")
	case o.Ctx < 2, o.Seqs < 1, o.Repeat < 1, o.Rank < 1:
		return fmt.Errorf("bench: ctx %d, batch %d, repeat %d, rank %d: want 2, 1, 1, 1 at least", o.Ctx, o.Seqs, o.Repeat, o.Rank)
	}
	return nil
}
