package main

import (
	"fmt"
	"strings"

	"finetune/trainer"
)

// sayPlan shows the memory of a run before it is taken: what it is for, and what was given up for a limit.
func (u *ui) sayPlan(p *trainer.Plan) {
	text := fmt.Sprintf("memory: %s at most", mebibytes(p.Total()))
	if p.Limit > 0 {
		text += fmt.Sprintf(" of --max-memory %s, %s left", mebibytes(p.Limit), mebibytes(p.Limit-p.Total()))
	}
	u.say("%s", text)
	for _, part := range p.Parts() {
		if part.Bytes >= leastShown {
			line := fmt.Sprintf("  %-12s %10s  %s", part.Name, mebibytes(part.Bytes), decided(p, part.Name))
			u.say("%s", strings.TrimRight(line, " "))
		}
	}
}

// leastShown is the smallest part of a plan that has a line of its own.
const leastShown = 1 << 19 // half a MiB

// decided is what was chosen about a part of a plan, nothing where there was no choice.
func decided(p *trainer.Plan, part string) string {
	switch {
	case part == "weights" && p.Weights < p.Base:
		return fmt.Sprintf("of %s, the others let go between their uses", mebibytes(p.Base))
	case part == "activations" && p.MicroBatch < p.Batch:
		return fmt.Sprintf("%s, %s", again(p), sequences(p))
	case part == "activations" && p.Recomputed > 0:
		return again(p)
	}
	return ""
}

func again(p *trainer.Plan) string {
	return fmt.Sprintf("%d of %d stretches formed again for the backward pass", p.Recomputed, p.Stretches)
}

func sequences(p *trainer.Plan) string {
	return fmt.Sprintf("%d of %d sequences at once", p.MicroBatch, p.Batch)
}
