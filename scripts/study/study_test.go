package main

import (
	"path/filepath"
	"strings"
	"testing"

	"finetune/internal/near"
)

func TestNoRunIsMadeTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.jsonl")
	first, err := openResults(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &study{results: first, models: map[string]string{"smollm2": "m.gguf"}}
	r, ok := s.next("")
	if !ok {
		t.Fatal("nothing planned")
	}
	r.Loss, r.Base, r.Seconds = 2.5, 4, 60
	if err := first.add(r); err != nil {
		t.Fatal(err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openResults(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	s = &study{results: again, models: map[string]string{"smollm2": "m.gguf"}}
	for range len(plan(again.all())) {
		next, ok := s.next("")
		if !ok {
			break
		}
		if next.key() == r.key() {
			t.Fatalf("%s is made again", next)
		}
		if tasks[next.Task].model == "gemma3" {
			t.Fatalf("%s without its model", next)
		}
	}
}

func TestARunIsMadeAgainToBeExported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.jsonl")
	made, err := openResults(path)
	if err != nil {
		t.Fatal(err)
	}
	defer made.close()
	r := contenderOf("thin").with("gsm8k", 8, 6e-3, 1)
	r.Group, r.Loss = "compare", 2.5
	if err := made.add(r); err != nil {
		t.Fatal(err)
	}
	r.Group = "exported"
	if made.has(r) {
		t.Errorf("%s counts as exported", r)
	}
	r.Exported, r.Kept = 2.51, 0.99
	if err := made.add(r); err != nil {
		t.Fatal(err)
	}
	again, err := readResults(path)
	if err != nil {
		t.Fatal(err)
	}
	if !made.has(r) || len(again) != 1 || again[0].Kept != r.Kept {
		t.Errorf("%s counts as not exported, the file as %v", r, again)
	}
}

// What is compared has the rate that did best on the tuning seed, and waits for it.
func TestWhatDiffersIsAnotherRun(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range []run{{}, {Alpha: 1}, {MagnitudeLR: 1}, {Every: 2}, {MagnitudeRank: 2}, {Start: "thin"}, {Rho: 0.1}} {
		if seen[r.key()] {
			t.Errorf("%+v is taken for another", r.key())
		}
		seen[r.key()] = true
	}
}

func TestRatesAreTunedOnAnotherSeed(t *testing.T) {
	lora := contenderOf("lora")
	compared := func(made []run) (rates []float64) {
		for _, r := range plan(made) {
			if r.Method == "lora" && r.Task == "gsm8k" && r.Seed != tuningSeed {
				rates = append(rates, r.LR)
			}
		}
		return rates
	}
	if got := compared(nil); got != nil {
		t.Errorf("compared at %v before a rate was found", got)
	}
	var made []run
	for i, rate := range lora.rates {
		r := lora.with("gsm8k", 8, rate, tuningSeed)
		r.Loss = 3 - float64(i)
		made = append(made, r)
	}
	got := compared(made)
	if len(got) != 3 || got[0] != lora.rates[len(lora.rates)-1] {
		t.Errorf("compared at %v, want three runs at %v", got, lora.rates[len(lora.rates)-1])
	}
}

func TestDifferencesArePaired(t *testing.T) {
	var made []run
	for seed, losses := range map[int][2]float64{1: {2, 2.5}, 2: {3, 3.1}} {
		lora, thin := contenderOf("lora").with("gsm8k", 8, 2e-3, seed), contenderOf("thin").with("gsm8k", 8, 6e-3, seed)
		lora.Loss, thin.Loss = losses[0], losses[1]
		made = append(made, lora, thin)
	}
	var text strings.Builder
	printComparison(&text, made)
	if !strings.Contains(text.String(), "| gsm8k | 8 | thin | 2 | 2.8000 ± 0.4243 | +0.3000 ± 0.2828 |") {
		t.Errorf("table\n%s", &text)
	}
	for _, p := range pair(made) {
		if p.name == "lora" && p.differ != nil {
			t.Errorf("LoRA differs from itself by %v", p.differ)
		}
	}
	if mean, deviation := meanAndDeviation([]float64{1}); !near.Within(mean, 1.0, 0.0) || deviation != 0 {
		t.Errorf("of one value: %v ± %v", mean, deviation)
	}
}

func TestScaleIsAlphaOverItsRank(t *testing.T) {
	for name, want := range map[string]float64{"lora": 16, "thin": 4, "gradient": 4, "even": 16} {
		if got := contenderOf(name).with("biomedqa", 8, 1e-3, 1).Alpha; got != want {
			t.Errorf("%s of rank 8 has alpha %v, want %v", name, got, want)
		}
	}
}
