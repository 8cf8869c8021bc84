package trainer

import (
	"errors"
	"fmt"
	"runtime/metrics"

	"finetune/device"
	"finetune/internal/hint"
	"finetune/internal/machine"
	"finetune/trainer/graph"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Demand says what memory is planned for.
type Demand struct {
	Model      *llama.Model
	On         device.Placement                           // of the layers that are trained on a device
	Parameters int                                        // trainable parameters
	Encoder    bool                                       // the model is an encoder
	Prepare    func(graph.Options) (*graph.Engine, error) // graph.Prepare over the model, or PrepareFull
	Leaner     string                                     // a hint for who has too little memory
	Vocab      int64                                      // bytes of the vocabulary, model.Base.VocabBytes
	Data       int64                                      // bytes of the training data in memory
	Optimizer  bool                                       // whether AdamW's moments are kept
	Copies     int                                        // of the parameters, beside themselves and what the graph reads
	Statistics int64                                      // bytes of what activation statistics were before a step, kept beside the engine's
	Ctx        int                                        // tokens a sequence
	Batch      int                                        // sequences wanted in a forward pass
	Threads    int
	Kept       int64 // bytes of factors that are in memory besides those that are planned
	MaxMemory  int64 // the most that the process may take, or with a device that the run may take there, in bytes; 0 = automatic
	Memory     int64 // the most that it can take, in bytes; 0 = machine.Memory
}

// maxSequences is LLAMA_MAX_SEQ, above which llama.cpp makes no context to trace.
const maxSequences = 256

// Engine plans the memory of a training run and returns the plan and the engine, which has not taken any of it yet. To
// stay below MaxMemory it pages out weights between their uses, then recomputes segments, then divides the batch; where all
// of that is not enough the error is a *MemoryError. Without MaxMemory it does so only where the process would take more than it
// can: than the machine or its control group has.
func (d Demand) Engine() (*graph.Engine, Plan, error) {
	for seqs := min(d.Batch, maxSequences); ; seqs = (seqs + 1) / 2 {
		e, p, err := d.engine(seqs)
		if e != nil || err != nil {
			return e, p, err
		}
		if seqs == 1 && p.Device != nil && p.Device.Limit > 0 && p.Device.Total() > usable(p.Device.Limit) {
			return nil, p, d.refuseDevice(p)
		}
		if seqs == 1 {
			return nil, p, d.refusal(p)
		}
	}
}

// engine plans for a number of sequences at once. It returns no engine, and the least plan there is, where that needs too
// much memory.
func (d Demand) engine(seqs int) (*graph.Engine, Plan, error) {
	if p := d.atLeast(seqs); d.limit() > 0 && p.Total() > usable(d.limit()) {
		return nil, p, nil
	}
	e, err := d.Prepare(graph.Options{Shape: graph.Shape{Ctx: d.Ctx, Seqs: seqs}, Threads: d.Threads, On: d.On, Statistics: true})
	if err != nil {
		return nil, Plan{}, d.withoutRoom(err)
	}
	fits, err := d.fit(e)
	p := d.plan(e)
	if err == nil && fits {
		return e, p, nil
	}
	return nil, p, errors.Join(err, e.Close())
}

// limit returns the bytes that cannot be exceeded: MaxMemory, or what the process can take; 0 = not known. With a device
// MaxMemory is about that.
func (d Demand) limit() int64 {
	if d.MaxMemory > 0 && d.On.OnCPU() {
		return d.MaxMemory
	}
	return d.memory()
}

func (d Demand) memory() int64 {
	if d.Memory > 0 {
		return d.Memory
	}
	return machine.Memory()
}

// atLeast returns a lower bound of the plan from the header alone, so that a hopeless run is refused before its graph is
// traced: whatever is recomputed, the residual stream between the blocks stays, 4·N·n_embd bytes a block, and the mask of
// the attention; and what the tracing takes.
func (d Demand) atLeast(seqs int) Plan {
	tokens := int64(d.Ctx) * int64(seqs)
	p := d.fixedCosts()
	if d.On.OnCPU() {
		p.Activations = 4 * tokens * (int64(d.Model.NEmbd())*int64(d.Model.NLayer()) + int64(d.Ctx))
	}
	p.Weights, p.MicroBatch = min(leastResident, int64(d.Model.Bytes())), seqs
	return p.traced(d.tracing(seqs))
}

func (d Demand) tracing(seqs int) int64 {
	return graph.TraceBytes(d.Model, graph.Shape{Ctx: d.Ctx, Seqs: seqs}, d.Encoder)
}

// fit trades the engine's memory against work, and reports whether the result is within what d may take.
func (d Demand) fit(e *graph.Engine) (bool, error) {
	if !d.On.OnCPU() {
		e.SetResidentWeights(d.automaticWeights())
		fits, err := d.fitDevice(e)
		can := d.memory()
		return fits && (can == 0 || d.plan(e).Total() <= usable(can)), err
	}
	if d.MaxMemory == 0 {
		resident := d.automaticWeights()
		e.SetResidentWeights(resident)
		limit := max(leastWork, resident)
		if err := e.FitMemory(limit); err != nil {
			return false, err
		}
		switch can := d.memory(); {
		case can > 0 && d.plan(e).Total() > usable(can): // less work is not what it is about
		case e.WorkBytes() <= limit || e.Shape().Seqs == 1:
			return true, nil
		default:
			return false, nil
		}
	}
	limit := usable(d.limit())
	for range fitRounds {
		p := d.plan(e)
		if p.Total() <= limit {
			return true, nil
		}
		s := e.Sizes()
		available := limit - (p.Total() - p.Tracing - s.Weights - s.Work()) // for weights and work
		least := min(int64(d.Model.Bytes()), max(s.LeastWeights, leastResident))
		if err := e.FitMemory(available - least); err != nil {
			return false, err
		}
		e.SetResidentWeights(available - e.WorkBytes() - d.plan(e).Tracing)
	}
	return d.plan(e).Total() <= limit, nil
}

// usable returns the bytes that may be planned under a limit: all but a fiftieth, which is left for what no plan knows, how
// allocators round and how the system counts.
func usable(limit int64) int64 { return limit - limit/50 }

// needed returns the least limit of which so many bytes are usable.
func needed(planned int64) int64 { return planned + planned/49 + 1 }

// fitRounds is how often fit corrects itself: recomputing adds nodes to the graph, whose descriptors take memory in turn, a
// thousandth of what they save.
const fitRounds = 3

// leastResident is the fewest bytes of the base's weights that are kept at once where there is a choice: sections of a graph
// that read less are so short that the time to start them shows.
const leastResident = 64 << 20

// leastWork is the work memory, in bytes, that is always taken where it helps: enough to keep all activations of a model of
// some hundred million parameters at 512 tokens.
const leastWork = 640 << 20

// automaticWeights returns the bytes of the base that stay in memory without a limit: nine bits a weight, what it takes in
// 8-bit blocks with their scales and a few tensors in F32. Small and quantized bases stay whole; one of twice the size is not
// worth twice the memory, since what was paged out comes back from the file cache.
func (d Demand) automaticWeights() int64 {
	return min(int64(d.Model.Bytes()), max(leastResident, int64(d.Model.NParams())*9/8))
}

// plan adds up what the engine takes and what stands around it.
func (d Demand) plan(e *graph.Engine) Plan {
	s, p := e.Sizes(), d.fixedCosts()
	p.Weights, p.Activations, p.Head, p.Workspace, p.MicroBatch = s.Weights, s.Activations, s.Head, s.Workspace+s.Mirrors+d.Statistics, e.Shape().Seqs
	if !d.On.OnCPU() {
		p.Device = newDevicePlan(d.On, s.Device, d.deviceLimit())
	}
	p.Recomputed, p.Segments = e.Segments()
	return p.traced(d.tracing(e.Shape().Seqs))
}

// fixedCosts returns the part of a plan that does not depend on the graph.
func (d Demand) fixedCosts() Plan {
	n := int64(d.Parameters)
	p := Plan{Adapter: 4*n*int64(2+d.Copies) + d.Kept, Gradients: 4 * n, Vocabulary: d.Vocab, Data: d.Data, Base: int64(d.Model.Bytes()), Batch: d.Batch}
	if d.On.OnCPU() {
		p.Limit = d.MaxMemory
	}
	if d.Optimizer {
		p.Optimizer = 2 * 4 * n
	}
	p.Program = programBytes + slack(p.Adapter-4*n+p.Optimizer+p.Data)
	return p
}

// programBytes is what a run holds that does not depend on the model: code and tables of the program and of llama.cpp, Go's
// runtime, stacks, buffers of files. Measured as the resident size of training runs over models of a megabyte, less all
// other parts of their plans.
const programBytes = 34 << 20

// slack returns the bytes that Go's collector lets the heap grow by before it looks for garbage: the percentage that is set
// (GOGC) of what is in use.
func slack(live int64) int64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	percent := sample[0].Value.Uint64()
	return int64(float64(live) * float64(min(percent, 100)) / 100)
}

// refusal returns the error that one sequence needs p, and what would fit as hints: the longest context, halved until it
// does, and, where the graph was planned, the memory that is enough.
func (d Demand) refusal(p Plan) error {
	var hints []string
	for shorter := d; len(hints) == 0 && shorter.Ctx/2 >= leastCtx; {
		shorter.Ctx /= 2
		e, _, err := shorter.engine(1)
		if err != nil {
			return err
		}
		if e != nil {
			e.Close()
			hints = append(hints, fmt.Sprintf("--ctx %d fits", shorter.Ctx))
		}
	}
	if len(hints) == 0 {
		hints = append(hints, "no shorter --ctx fits; "+d.Leaner)
	}
	err := &MemoryError{Plan: p, MaxMemory: d.limit(), Given: d.MaxMemory > 0, What: fmt.Sprintf("one sequence of %d tokens", d.Ctx)}
	switch {
	case p.Segments == 0: // not planned so far
	case d.MaxMemory > 0:
		hints = append(hints, fmt.Sprintf("--max-memory %dMiB is enough for %d tokens", err.Enough(), d.Ctx))
	default:
		hints = append(hints, fmt.Sprintf("--max-memory %dMiB tries it all the same", err.Enough()))
	}
	return hint.With(err, hints...)
}

// leastCtx is the shortest context that is worth a hint.
const leastCtx = 16
