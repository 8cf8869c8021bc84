package bench

import (
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/device"
	"finetune/internal/testmodel"
	"finetune/model/native"
	"finetune/run"

	"github.com/go-skynet/go-llama.cpp/ggml"
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
	if r.Device != "" {
		t.Errorf("device %q, want none", r.Device)
	}
	for i, c := range r.Cases {
		if c.Method != o.Methods[i] || !(c.TokensPerSecond > 0 && c.ForwardPerSecond > 0 && c.UsefulShare > 0) || c.WorkBytes == 0 || len(c.Profile) == 0 || c.Moved != 0 {
			t.Errorf("case %d: %+v", i, c)
		}
	}
}

// An encoder is measured with a classifier, and its forward pass up to the pooled states.
func TestRunOfAnEncoder(t *testing.T) {
	path := testmodel.EncoderPath(t, "bert")
	o := Options{Model: path, Methods: []string{string(adapter.MethodLoRA), string(adapter.MethodDual)}, Rank: 2, Ctx: 8, Seqs: 3, Threads: 1, Repeat: 1}
	r, err := Run(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range r.Cases {
		if c.Method != o.Methods[i] || !(c.TokensPerSecond > 0 && c.ForwardPerSecond > 0 && c.UsefulShare > 0) {
			t.Errorf("case %d: %+v", i, c)
		}
	}
	if lora, dual := r.Cases[0].UsefulFlopsToken, r.Cases[1].UsefulFlopsToken; !(dual > lora) {
		t.Errorf("%v operations a token for LoRA, %v for Dual LoRA, want more", lora, dual)
	}
	o.Methods = []string{run.MethodFull}
	if _, err := Run(t.Context(), o, nil); err == nil || !strings.Contains(err.Error(), "an encoder learns by adapters only") {
		t.Errorf("Run of all weights = %v, want that an encoder learns by adapters only", err)
	}
}

// With a device, here the CPU as one, what crosses the bus in a step is counted: factors and their gradients, hidden states to the
// head and back and their derivatives, and beside those little.
func TestRunCountsWhatCrossesTheBus(t *testing.T) {
	path := testmodel.Path(t, testmodel.Spec{Ctx: 64})
	all := ggml.Devices()
	o := Options{Model: path, Methods: []string{string(adapter.MethodLoRA)}, Rank: 2, Ctx: 8, Seqs: 2, Threads: 1, Repeat: 1, NoForward: true,
		On: device.Placement{Device: all[len(all)-1], Layers: device.AllLayers}}
	r, err := Run(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := r.Cases[0]
	if r.Device != "CPU" || c.Plan.Device == nil || !(r.PeakFlops > 0) {
		t.Fatalf("device %q, its plan %v, peak %v", r.Device, c.Plan.Device, r.PeakFlops)
	}
	m, err := native.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	least := c.Plan.Device.Adapter + c.Plan.Device.Gradients
	states := int64(4 * 4 * m.NEmbd() * o.Ctx * o.Seqs)
	if c.Moved < least || c.Moved > 2*(least+states) {
		t.Errorf("%d bytes moved, want %d for factors and gradients at least, and not twice that and %d for states", c.Moved, least, states)
	}
}
