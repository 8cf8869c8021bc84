package eval_test

import (
	"cmp"
	"fmt"
	"path/filepath"
	"testing"

	"finetune/device"
	"finetune/eval"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testdevice"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/internal/testrun/trained"
	"finetune/model"
	"finetune/model/native"
	"finetune/run"
	"finetune/trainer/data"
)

// deviceTolerance is how far a device's loss may be from the CPU's: both round activations, to 16 bits or to eight, each at
// other places.
const deviceTolerance = 5e-3

// The loss of a model, without and with an adapter, is the same wherever its layers lie.
func TestLossOnTheDeviceIsTheCPUs(t *testing.T) {
	for _, spec := range []testmodel.Spec{{Type: gguf.TypeF32}, {Type: gguf.TypeF16}, {Type: gguf.TypeQ8_0}, {Arch: "qwen3"}, {Arch: "gemma3"}} {
		t.Run(fmt.Sprintf("%s %s", cmp.Or(spec.Arch, "llama"), spec.Type), func(t *testing.T) {
			if spec.Type != gguf.TypeQ8_0 {
				need.Long(t, "compiles shaders for minutes on a GPU in software")
			}
			lossesAgree(t, testmodel.Path(t, spec))
		})
	}
	for _, v := range testmodel.Variants() {
		if v.Name == "lfm2" || v.Name == "qwen35" { // hybrids
			t.Run(v.Name, func(t *testing.T) {
				need.Long(t, "compiles shaders for minutes on a GPU in software")
				path := filepath.Join(t.TempDir(), "model.gguf")
				if err := v.Write(path); err != nil {
					t.Fatal(err)
				}
				lossesAgree(t, path)
			})
		}
	}
}

// lossesAgree compares the losses of a model with those of the CPU, with an adapter that was trained for it too.
func lossesAgree(t *testing.T, path string) {
	t.Helper()
	on := testdevice.Placement(t, device.AllLayers)
	c := testrun.By("lora", testrun.Tiny(t))
	c.Model, c.Steps = path, 3
	trained.Run(t, c)
	_, val := testrun.Data(t, testrun.Model(t, c), c)
	sameLosses(t, c.Model, c.Ctx, val.All(), on, filepath.Join(c.Out, run.AdapterFile))
}

// The same of real models, some of ../shared/data.
func TestLossOfRealModelsOnTheDevice(t *testing.T) {
	need.Long(t, "compiles shaders for minutes on a GPU in software")
	need.Each(t, []string{"demo/base.gguf"}, []string{"models/stories260K-q8_0.gguf", "models/stories260K-f16.gguf"}, func(t *testing.T, path string) {
		on := testdevice.Placement(t, device.AllLayers)
		c := testrun.Tiny(t)
		c.Model, c.Ctx = path, 64
		_, val := testrun.Data(t, testrun.Model(t, c), c)
		sameLosses(t, path, c.Ctx, val.All(), on)
	})
}

// sameLosses compares the losses on the device, with all layers and with one of them there, with the CPU's.
func sameLosses(t *testing.T, path string, ctx int, windows []data.Window, on device.Placement, adapters ...string) {
	t.Helper()
	want := lossesOn(t, path, ctx, windows, device.Placement{}, adapters)
	for _, layers := range []int{device.AllLayers, 2} {
		on.Layers = layers
		for i, got := range lossesOn(t, path, ctx, windows, on, adapters) {
			if !near.Within(got, want[i], deviceTolerance) {
				t.Errorf("with %d adapters, %d layers on device %s: loss %.6f, on the CPU %.6f", i, layers, on, got, want[i])
			}
		}
	}
}

// lossesOn returns the loss of a model that lies there, without adapters and with one after the other.
func lossesOn(t *testing.T, path string, ctx int, windows []data.Window, on device.Placement, adapters []string) (losses []float64) {
	t.Helper()
	base, err := model.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	m, err := native.Load(base, on)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e, err := eval.NewEvaluator(m, ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	losses = append(losses, trained.Loss(t, e, windows))
	for _, adapter := range adapters {
		if _, err := e.Attach(adapter, 1); err != nil {
			t.Fatal(err)
		}
		losses = append(losses, trained.Loss(t, e, windows))
	}
	return losses
}
