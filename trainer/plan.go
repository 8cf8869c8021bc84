package trainer

import (
	"fmt"
	"strings"

	"finetune/internal/machine"
)

// Plan is the memory of a run in bytes, by what it is for, and what was decided to make it so. It is made before any of
// that memory is taken, from the header of the base, the sizes of the adapter and ggml's own layout of the graph.
type Plan struct {
	Weights     int64 `json:"weights"`     // pages of the base's mapped file that are in memory at once
	Adapter     int64 `json:"adapter"`     // the factors, and the copy that the graph reads
	Gradients   int64 `json:"gradients"`   // of the factors
	Optimizer   int64 `json:"optimizer"`   // two moments of each
	Activations int64 `json:"activations"` // of a forward and backward pass
	Head        int64 `json:"head"`        // logits, a chunk at a time
	Workspace   int64 `json:"workspace"`   // scratch memory of the kernels, descriptors of the graph
	Vocabulary  int64 `json:"vocabulary"`
	Data        int64 `json:"data"`    // tokens of the training data
	Program     int64 `json:"program"` // everything else
	Tracing     int64 `json:"tracing"` // what llama.cpp takes beyond all of that while it lists the graph, before the first step
	Start       int64 `json:"start"`   // what the start by gradients takes beyond all of that, before the first step

	Base       int64 `json:"base"`                 // bytes of all weights of the base
	Limit      int64 `json:"max_memory,omitempty"` // 0: none
	Recomputed int   `json:"recomputed"`           // segments of the forward pass that are recomputed (activation checkpointing)
	Segments   int   `json:"stretches"`            // of so many in the graph
	MicroBatch int   `json:"micro_batch"`          // sequences in one forward pass
	Batch      int   `json:"batch"`                // of so many that were asked for

	Device *DevicePlan `json:"device,omitempty"` // what is taken on a device beside that; nil: nothing
}

// Part is a line of a Plan.
type Part struct {
	Name  string
	Bytes int64
}

// Parts lists the parts in the order in which people think of them.
func (p Plan) Parts() []Part {
	return []Part{
		{"weights", p.Weights}, {"adapter", p.Adapter}, {"gradients", p.Gradients}, {"optimizer", p.Optimizer},
		{"activations", p.Activations}, {"head", p.Head}, {"workspace", p.Workspace}, {"vocabulary", p.Vocabulary},
		{"data", p.Data}, {"program", p.Program}, {"tracing", p.Tracing}, {"start", p.Start},
	}
}

// Total returns the sum of the parts: the most that the process is expected to take, in bytes.
func (p Plan) Total() int64 { return total(p.Parts()) }

// traced adds what llama.cpp takes while it lists the graph, in bytes: before that is given back, what training takes is not yet
// taken.
func (p Plan) traced(bytes int64) Plan {
	p.Tracing = max(0, bytes-(p.Gradients+p.Optimizer+p.Activations+p.Head+p.Workspace))
	return p
}

func total(parts []Part) (n int64) {
	for _, part := range parts {
		n += part.Bytes
	}
	return n
}

// notes returns warnings of what a plan cannot promise. opening is the process's peak before training.
func (p Plan) notes(opening int64) (lines []string) {
	if p.Device == nil && p.Limit > 0 && opening > p.Limit {
		lines = append(lines, fmt.Sprintf("opening the base and reading the data took %d MiB, more than --max-memory; training itself stays below", machine.Mebibytes(opening)))
	}
	if total := machine.Memory(); total > 0 && p.Total() > total {
		lines = append(lines, fmt.Sprintf("the run needs more than the %d MiB that this process can take", machine.Mebibytes(total)))
	}
	return lines
}

// String returns the plan on one line, in MiB.
func (p Plan) String() string { return listed(p.Parts()) }

func listed(parts []Part) string {
	var words []string
	for _, part := range parts {
		words = append(words, fmt.Sprintf("%s %d", part.Name, machine.Mebibytes(part.Bytes)))
	}
	return strings.Join(words, ", ")
}

// MemoryError is the refusal of a run that needs more memory than it may take. It carries what would fit as a hint.
type MemoryError struct {
	What      string // that does not fit
	Plan      Plan   // the least there is: one sequence at once, everything recomputed, weights paged out
	MaxMemory int64  // bytes
	Given     bool   // MaxMemory is a setting, not what the machine or its control group has
}

// Error names what does not fit, the limit and the plan.
func (e *MemoryError) Error() string {
	limit := "memory that this process can take,"
	if e.Given {
		limit = "max-memory"
	}
	return fmt.Sprintf("trainer: %s %d MiB: %s needs at least %d MiB: %v", limit, machine.Mebibytes(e.MaxMemory), e.What, e.Enough(), e.Plan)
}

// Enough returns the least limit that the plan fits under, in MiB.
func (e *MemoryError) Enough() int64 {
	const mebibyte = 1 << 20
	return (needed(e.Plan.Total()) + mebibyte - 1) / mebibyte
}
