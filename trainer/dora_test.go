package trainer

import (
	"path/filepath"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/merge"
	"finetune/model"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// What the engine says of a DoRA at the end of its training is what llama.cpp says of the model that it is merged into.
func TestDoRARunSpeaksAsItsMergedModel(t *testing.T) {
	c := testrun.Tiny(t)
	c.Method, c.Alpha, c.Steps = "dora", 8, 40
	s, _ := mustTrain(t, c, false)
	merged := c
	merged.Model = filepath.Join(t.TempDir(), "merged.gguf")
	_, err := merge.Merge(t.Context(), merge.Config{Model: c.Model, Adapters: []merge.Adapter{{Path: s.Adapter, Scale: 1}}, Out: merged.Model}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := testrun.Model(t, merged)
	_, val := testrun.Data(t, m, c)
	if got := lossOf(t, evaluator(t, m, c.Ctx), val.All()); !near.Within(got, s.ValLoss, sameLossTolerance) {
		t.Errorf("loss of the merged model %.5f, of the run %.5f", got, s.ValLoss)
	}
	if !(s.ValLoss < s.BaseValLoss-0.2) {
		t.Errorf("loss %v → %v: nothing was learned that could be merged", s.BaseValLoss, s.ValLoss)
	}
}

// Magnitudes take no part in the weight decay, which would draw the weights themselves to zero; the factors do.
func TestMagnitudesDoNotDecay(t *testing.T) {
	c := testrun.Tiny(t)
	c.Method = "dora"
	base, err := model.Open(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	trained, err := newTrainable(base, c, true)
	if err != nil {
		t.Fatal(err)
	}
	params, _ := trained.params()
	magnitudes := 0
	for _, p := range params {
		is := strings.HasSuffix(p.Name, ".dora_m")
		if p.NoDecay != is {
			t.Errorf("%s: takes no part in the weight decay: %v", p.Name, p.NoDecay)
		}
		if is {
			magnitudes++
		}
	}
	if magnitudes != len(params)/3 {
		t.Errorf("%d magnitudes among %d tensors, want one for two factors", magnitudes, len(params))
	}
}

// The run over a quantized base starts as no change: the magnitudes are the lengths of the rows as they are decoded.
func TestDoRAOverAQuantizedBase(t *testing.T) {
	c := testrun.Tiny(t)
	c.Method, c.Steps = "dora", 20
	c.Model = filepath.Join(t.TempDir(), "q4_0.gguf")
	if err := llama.Quantize(testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 64, FF: 96, Ctx: 64}), c.Model, "q4_0", 1); err != nil {
		t.Fatal(err)
	}
	lora := testrun.By("lora", testrun.Elsewhere(t, c))
	s, losses := mustTrain(t, c, false)
	_, want := mustTrain(t, lora, false)
	if losses[0] != want[0] {
		t.Errorf("the first loss is %v, of a LoRA %v, and neither has changed anything yet", losses[0], want[0])
	}
	if !(s.ValLoss < s.BaseValLoss) {
		t.Errorf("loss %v → %v, want less", s.BaseValLoss, s.ValLoss)
	}
	a, err := adapter.Load(s.Adapter)
	if err != nil || !a.NeedsBase() {
		t.Errorf("the file holds %v, %v, want what needs its base", a.Method(), err)
	}
}
