package main

import (
	"fmt"
	"strings"

	"finetune/trainer"
)

// sayPlan prints the planned memory of a run by purpose, and what was given up to stay below a limit. opening is the
// process's peak before the run, in bytes.
func (u *ui) sayPlan(p *trainer.Plan, opening int64) {
	text := fmt.Sprintf("memory: %s at most", mebibytes(p.Total()))
	if p.Limit > 0 {
		text += fmt.Sprintf(" of --max-memory %s, %s left", mebibytes(p.Limit), mebibytes(p.Limit-p.Total()))
	}
	if opening > p.Total() {
		text += fmt.Sprintf("; opening the base and reading the data took %s", mebibytes(opening))
	}
	u.say("%s", text)
	for _, part := range p.Parts() {
		if part.Bytes >= leastShown {
			line := fmt.Sprintf("  %-12s %10s  %s", part.Name, mebibytes(part.Bytes), decided(p, part.Name))
			u.say("%s", strings.TrimRight(line, " "))
		}
	}
	if p.Device != nil {
		u.sayDevicePlan(p)
	}
}

// sayDevicePlan prints what a run takes on a device.
func (u *ui) sayDevicePlan(p *trainer.Plan) {
	d := p.Device
	text := fmt.Sprintf("memory of device %s: %s at most", d.Name, mebibytes(d.Total()))
	if d.Limit > 0 {
		text += fmt.Sprintf(" of %s", mebibytes(d.Limit))
	}
	u.say("%s", text)
	for _, part := range d.Parts() {
		if part.Bytes >= leastShown {
			line := fmt.Sprintf("  %-12s %10s  %s", part.Name, mebibytes(part.Bytes), decided(p, part.Name))
			u.say("%s", strings.TrimRight(line, " "))
		}
	}
}

// leastShown is the smallest part of a plan that has a line of its own.
const leastShown = 1 << 19 // half a MiB

// decided returns what was given up to make a part of a plan smaller, nothing where nothing was.
func decided(p *trainer.Plan, part string) string {
	var given []string
	switch {
	case part == "weights" && p.Device != nil:
	case part == "weights" && p.Weights < p.Base:
		given = append(given, fmt.Sprintf("of %s, the others paged out between their uses", mebibytes(p.Base)))
	case part == "activations" && p.Recomputed > 0:
		given = append(given, fmt.Sprintf("%d of %d segments recomputed for the backward pass (activation checkpointing)", p.Recomputed, p.Segments))
	}
	if part == "activations" && p.MicroBatch < p.Batch {
		given = append(given, fmt.Sprintf("%d of %d sequences at once", p.MicroBatch, p.Batch))
	}
	return strings.Join(given, ", ")
}
