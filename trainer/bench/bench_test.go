package bench

import (
	"testing"

	"finetune/adapter"
	"finetune/internal/testmodel"
	"finetune/run"
)

// No figure is checked: a time is no test. What is measured without being told of it is there.
func TestRunWithNobodyToTell(t *testing.T) {
	o := Options{Model: testmodel.Path(t, testmodel.Spec{Ctx: 64}), Methods: []string{string(adapter.MethodLoRA), run.MethodFull},
		Rank: 2, Ctx: 8, Seqs: 2, Threads: 1, Repeat: 1, Profile: true}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cases) != len(o.Methods) || !(r.PeakFlops > 0) {
		t.Fatalf("%d cases, peak %v", len(r.Cases), r.PeakFlops)
	}
	for i, c := range r.Cases {
		if c.Method != o.Methods[i] || !(c.TokensPerSecond > 0 && c.ForwardPerSecond > 0 && c.UsefulShare > 0) || c.WorkBytes == 0 || len(c.Profile) == 0 {
			t.Errorf("case %d: %+v", i, c)
		}
	}
}
