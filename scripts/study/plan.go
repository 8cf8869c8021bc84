package main

import "slices"

// A contender is a method as the study trains it, with the rates that it is tuned over.
type contender struct {
	name  string
	of    run // what of a run it decides
	rates []float64
	ratio float64 // alpha over rank, of the magnitude's for dual-lora
}

// contenders are the study's. The scale s is 2 for LoRA's kin, 4 for Dual LoRA's starts.
var contenders = []contender{
	{name: "lora", of: run{Method: "lora"}, rates: []float64{2e-3, 4e-3, 8e-3}, ratio: 2},
	{name: "thin", of: run{Method: "dual-lora", Start: "thin"}, rates: []float64{3e-3, 6e-3, 12e-3}, ratio: 4},
	{name: "gradient", of: run{Method: "dual-lora", Start: "gradient"}, rates: []float64{3e-3, 6e-3, 12e-3}, ratio: 4},
	{name: "even", of: run{Method: "dual-lora", Start: "even"}, rates: []float64{3e-3, 6e-3, 12e-3}, ratio: 4},
}

// tuningSeed is none of those that are compared.
const tuningSeed = 100

// with returns the run of a contender.
func (c contender) with(task string, rank int, lr float64, seed int) run {
	r := c.of
	r.Task, r.Rank, r.LR, r.Seed = task, rank, lr, seed
	r.Alpha = c.ratio * float64(r.scaledRank())
	return r
}

// scaledRank is what alpha is divided by.
func (r run) scaledRank() int {
	switch {
	case r.Method != "dual-lora":
		return r.Rank
	case r.MagnitudeRank > 0:
		return r.MagnitudeRank
	case r.Start == "thin" || r.Start == "gradient":
		return 1
	}
	return (r.Rank + 1) / 2
}

func contenderOf(name string) contender {
	i := slices.IndexFunc(contenders, func(c contender) bool { return c.name == name })
	return contenders[i]
}

// tuned returns the rate that did best on the tuning seed; none before all were tried.
func (c contender) tuned(made []run, task string, rank int) (float64, bool) {
	best, lr := 0.0, 0.0
	for _, rate := range c.rates {
		want := c.with(task, rank, rate, tuningSeed).key()
		i := slices.IndexFunc(made, func(r run) bool { return r.key() == want })
		if i < 0 {
			return 0, false
		}
		if lr == 0 || made[i].Loss < best {
			best, lr = made[i].Loss, rate
		}
	}
	return lr, true
}

// plan returns the runs in the order in which they are wanted, as far as what was made says which.
func plan(made []run) []run {
	var p planner
	p.made = made
	p.rho()
	return p.runs
}

type planner struct {
	made []run
	runs []run
}

func (p *planner) add(group string, r run) {
	r.Group = group
	p.runs = append(p.runs, r)
}

// rho asks how large a constant magnitude should be, with few and with all layers adapted.
func (p *planner) rho() {
	lora, thin := contenderOf("lora"), contenderOf("thin")
	for _, task := range []string{"biomedqa", "alpaca"} {
		for _, lr := range []float64{4e-3, 2e-3, 8e-3} {
			p.add("tune", lora.with(task, 8, lr, tuningSeed))
		}
		for _, rho := range []float64{0.01, 0.02, 0.005} {
			for _, lr := range []float64{6e-3, 3e-3, 12e-3} {
				r := thin.with(task, 8, lr, tuningSeed)
				r.Rho = rho
				p.add("rho", r)
			}
		}
	}
	for _, rho := range []float64{0.01, 0.02, 0.05} {
		r := thin.with("biomedqa-6layers", 8, 6e-3, tuningSeed)
		r.Rho = rho
		p.add("rho", r)
	}
	for _, lr := range []float64{2e-3, 4e-3, 1e-3} {
		p.add("tune", lora.with("gemma3-shakespeare", 8, lr, tuningSeed))
	}
	for _, rho := range []float64{0.01, 0.025} {
		for _, lr := range []float64{6e-3, 3e-3} {
			r := thin.with("gemma3-shakespeare", 8, lr, tuningSeed)
			r.Rho = rho
			p.add("rho", r)
		}
	}
}
