package main

import "slices"

// A contender is a method as the study trains it, with the rates that it is tuned over.
type contender struct {
	name  string
	of    run // what of a run it decides
	rates []float64
	ratio float64 // alpha over rank, of the magnitude's for dual-lora
}

// contenders are the study's. The scale s is 2 for LoRA's kin, 4 for Dual LoRA's starts but the paper's, which has its own. Those
// with one rate have it from the first tasks and keep it for all: it is the program's default.
var contenders = []contender{
	{name: "lora", of: run{Method: "lora"}, rates: []float64{2e-3, 4e-3}, ratio: 2}, // 4e-3 is too much for Gemma: 1e-3 there
	{name: "thin", of: run{Method: "dual-lora", Start: "thin"}, rates: []float64{6e-3}, ratio: 4},
	{name: "gradient", of: run{Method: "dual-lora", Start: "gradient"}, rates: []float64{6e-3}, ratio: 4},
	{name: "even", of: run{Method: "dual-lora", Start: "even"}, rates: []float64{6e-3, 12e-3}, ratio: 4},
	{name: "paper", of: run{Method: "dual-lora", Start: "paper"}, rates: []float64{2e-3, 6e-3}, ratio: 4},
	{name: "rslora", of: run{Method: "rslora"}, rates: []float64{2e-3, 4e-3}, ratio: 0.7071},
	{name: "dora", of: run{Method: "dora"}, rates: []float64{2e-3, 4e-3}, ratio: 2},
}

// tuningSeed is none of those that are compared.
const tuningSeed = 100

// with returns the run of a contender.
func (c contender) with(task string, rank int, lr float64, seed int) run {
	r := c.of
	r.Task, r.Rank, r.LR, r.Seed = task, rank, lr, seed
	r.Alpha = c.ratio * float64(r.scaledRank())
	if r.Start == "thin" || r.Start == "gradient" {
		r.Rho = rhoOf[tasks[task].model]
	}
	return r
}

// rhoOf is the size of a thin start's ΔW where all layers of a base are adapted.
var rhoOf = map[string]float64{"smollm2": 0.01, "gemma3": 0.01}

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

// tenTasks are those on which the default method is decided.
var tenTasks = []string{"biomedqa", "alpaca", "gemma3-shakespeare", "gsm8k", "shakespeare", "wikitext2", "chat", "arc-easy", "openbookqa", "boolq"}

// plan returns the runs in the order in which they are wanted, as far as what was made says which.
func plan(made []run) []run {
	p := planner{made: made}
	p.rho()
	p.magnitude()
	three := tenTasks[:3]
	for seed := 1; seed <= 3; seed++ {
		p.compare(8, seed, tenTasks, "lora", "thin")
	}
	for _, task := range three {
		p.thin(task, rhoOf[tasks[task].model], 3e-3, 12e-3)
	}
	for seed := 1; seed <= 3; seed++ {
		p.compare(16, seed, three, "lora", "thin")
	}
	for seed := 4; seed <= 5; seed++ {
		p.compare(8, seed, three, "lora", "thin")
		p.compare(16, seed, three, "lora", "thin")
	}
	for seed := 1; seed <= 3; seed++ {
		p.asLong(seed, three)
	}
	for seed := 1; seed <= 3; seed++ {
		p.compare(8, seed, three[:2], "gradient", "even", "paper", "rslora", "dora")
	}
	for seed := 1; seed <= 3; seed++ {
		p.compare(8, seed, tenTasks[3:], "gradient")
	}
	return p.runs
}

// compare plans a run of each contender on each task with a seed, after those that find its rate.
func (p *planner) compare(rank, seed int, on []string, names ...string) {
	for _, task := range on {
		for _, name := range names {
			c := contenderOf(name)
			if name == "lora" && tasks[task].model == "gemma3" {
				c.rates = []float64{2e-3, 1e-3}
			}
			lr := c.rates[0]
			if len(c.rates) > 1 {
				for _, rate := range c.rates {
					p.add("tune", c.with(task, rank, rate, tuningSeed))
				}
				var known bool
				if lr, known = c.tuned(p.made, task, rank); !known {
					continue
				}
			}
			group := "compare"
			if seed == 1 && rank == 8 {
				group = "exported"
			}
			p.add(group, c.with(task, rank, lr, seed))
		}
	}
}

// stepsAsLong are as many of LoRA's steps as take the time of 30 of a thin Dual LoRA, 1.15 times as long each (docs/performance.md).
const stepsAsLong = 35

// asLong plans runs of LoRA that take as long as those of a thin Dual LoRA that they are compared with.
func (p *planner) asLong(seed int, on []string) {
	for _, task := range on {
		for _, r := range p.made {
			if r.Task == task && r.Seed == seed && r.Rank == 8 && r.Method == "lora" && r.Steps == 0 {
				r.Steps = stepsAsLong
				p.add("time", r.asked())
			}
		}
	}
}

// magnitude asks how fast a thin start's magnitude should move, and whether every second step will do.
func (p *planner) magnitude() {
	for _, task := range []string{"biomedqa", "alpaca"} {
		for _, way := range []struct {
			rate  float64
			every int
		}{{0.6, 0}, {1, 0}, {1, 2}} {
			r := contenderOf("thin").with(task, 8, 6e-3, tuningSeed)
			r.MagnitudeLR, r.Every = way.rate, way.every
			p.add("magnitude", r)
		}
	}
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
	lora := contenderOf("lora")
	tune := func(task string, rates ...float64) {
		for _, lr := range rates {
			p.add("tune", lora.with(task, 8, lr, tuningSeed))
		}
	}
	tune("biomedqa", 4e-3, 2e-3, 8e-3)
	p.thin("biomedqa", 0.01, 6e-3, 3e-3, 12e-3)
	p.thin("biomedqa", 0.02, 6e-3)
	p.thin("biomedqa", 0.005, 6e-3)
	tune("biomedqa-6layers", 4e-3)
	for _, rho := range []float64{0.01, 0.02, 0.05} {
		p.thin("biomedqa-6layers", rho, 6e-3)
	}
	tune("alpaca", 2e-3, 4e-3)
	p.thin("alpaca", 0.01, 6e-3, 3e-3, 12e-3)
	p.thin("alpaca", 0.02, 6e-3)
	tune("gemma3-shakespeare", 2e-3, 4e-3)
	p.thin("gemma3-shakespeare", 0.01, 6e-3, 3e-3)
	p.thin("gemma3-shakespeare", 0.025, 6e-3)
}

// thin plans runs of the thin start at rank 8 with a given ρ.
func (p *planner) thin(task string, rho float64, rates ...float64) {
	for _, lr := range rates {
		r := contenderOf("thin").with(task, 8, lr, tuningSeed)
		r.Rho = rho
		p.add("rho", r)
	}
}
