package trainer

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/device"
	"finetune/internal/hint"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testdevice"
	"finetune/internal/testrun"
	"finetune/run"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// deviceLossTolerance is how far the loss of a step on a device may be from the CPU's, where each takes its own steps: products are
// rounded otherwise, to half precision or by blocks of eight bits, and the steps add that up.
const deviceLossTolerance = 5e-3

// freshDualTolerance is for a fresh Dual LoRA on a device that rounds otherwise: the signs of its first steps, see goesOn. Six steps of
// stories260K were 7.4e-3 apart on llvmpipe.
const freshDualTolerance = 2e-2

// on has the runs of a test be there.
func on(t *testing.T, p device.Placement) {
	t.Helper()
	testOnlyPlacement = p
	t.Cleanup(func() { testOnlyPlacement = device.Placement{} })
}

// cpuDevice is the CPU as a device of its own.
func cpuDevice(layers int) device.Placement {
	all := ggml.Devices()
	return device.Placement{Device: all[len(all)-1], Layers: layers}
}

// sameOn compares a run there with the run on the CPU.
func sameOn(t *testing.T, c run.Config, there device.Placement) {
	t.Helper()
	cpu, elsewhere := testrun.Elsewhere(t, c), testrun.Elsewhere(t, c)
	cpu.Device = device.CPU
	want, wantLosses := mustTrain(t, cpu, false)
	on(t, there)
	got, losses := mustTrain(t, elsewhere, false)
	tolerance := deviceLossTolerance
	if c.Method == string(adapter.MethodDual) && there.Device.Type() != ggml.DeviceCPU {
		tolerance = freshDualTolerance
	}
	if d := near.Farthest(losses, wantLosses); d > tolerance {
		t.Errorf("%s on %s: the losses of the %d steps differ by %v, want within %v", c.Method, there, len(losses), d, tolerance)
	} else {
		t.Logf("%s on %s: the losses of the %d steps differ by %.2g at most", c.Method, there, len(losses), d)
	}
	if !near.Enough(got.ValLoss, want.ValLoss, tolerance) {
		t.Errorf("%s on %s: validation loss %v, on the CPU %v", c.Method, there, got.ValLoss, want.ValLoss)
	}
}

// A run with the CPU as a device goes all the way that one with a GPU does, on every machine.
func TestRunOverTwoSidesIsThatOfOne(t *testing.T) {
	for _, method := range append([]string{run.MethodFull}, testrun.Methods...) {
		for _, layers := range []int{device.AllLayers, 1} {
			t.Run(fmt.Sprintf("%s, %d layers", method, layers), func(t *testing.T) {
				c := testrun.By(method, testrun.Tiny(t))
				c.Steps, c.Threads = 20, 1
				sameOn(t, c, cpuDevice(layers))
			})
		}
	}
}

// The state of a run on a device is in its checkpoints: parameters, moments, statistics.
func TestRunOverTwoSidesResumes(t *testing.T) {
	on(t, cpuDevice(device.AllLayers))
	for _, method := range testrun.Methods {
		c := epochs(t, method, 2)
		c.Threads = 1
		whole, stopped := testrun.Elsewhere(t, c), testrun.Elsewhere(t, c)
		_, losses := mustTrain(t, whole, false)
		interrupt(t, stopped, false, 3)
		mustTrain(t, stopped, true)
		sameResult(t, method, whole.Out, stopped.Out, len(losses))
	}
}

// The device named by FINETUNE_TEST_DEVICE trains as the CPU does.
func TestRunOnTheDeviceIsTheCPUs(t *testing.T) {
	need.Long(t, "compiles shaders for minutes on a GPU in software")
	need.Each(t, []string{"demo/base.gguf"}, []string{"models/stories260K-q8_0.gguf"}, func(t *testing.T, path string) {
		for _, layers := range []int{device.AllLayers, 3} {
			there := testdevice.Placement(t, layers)
			for _, method := range testrun.Methods {
				c := testrun.By(method, testrun.Tiny(t))
				c.Model, c.Steps, c.Threads = path, 6, 1
				sameOn(t, c, there)
			}
		}
	})
}

// goesOn stops a run of the CPU, lets it go on there and on the CPU, and compares the steps that follow. Where a Dual LoRA begins, a
// sign or two that come out otherwise take its run another way, as a rate that differs by a ten-thousandth does on the CPU itself
// (docs/gpu.md): from one state on, the steps are the same.
func goesOn(t *testing.T, c run.Config, after int, there device.Placement) {
	t.Helper()
	cpu, elsewhere := testrun.Elsewhere(t, c), testrun.Elsewhere(t, c)
	cpu.Device = device.CPU
	interrupt(t, cpu, false, after)
	if err := os.CopyFS(elsewhere.Out, os.DirFS(cpu.Out)); err != nil {
		t.Fatal(err)
	}
	_, want := mustTrain(t, cpu, true)
	on(t, there)
	_, got := mustTrain(t, elsewhere, true)
	if d := near.Farthest(got, want); len(got) != c.Steps-after || d > deviceLossTolerance {
		t.Errorf("%s on %s: the losses of %d steps after %d on the CPU differ by %v, want %d within %v", c.Method, there, len(got), after, d, c.Steps-after, deviceLossTolerance)
	} else {
		t.Logf("%s on %s: the losses of %d steps after %d on the CPU differ by %.2g at most", c.Method, there, len(got), after, d)
	}
}

func TestRunOfTheCPUGoesOnOverTwoSides(t *testing.T) {
	for _, method := range testrun.Methods {
		c := testrun.By(method, testrun.Tiny(t))
		c.Steps, c.Threads = 20, 1
		goesOn(t, c, 12, cpuDevice(device.AllLayers))
	}
}

func TestRunOfTheCPUGoesOnOnTheDevice(t *testing.T) {
	need.Long(t, "compiles shaders for minutes on a GPU in software")
	need.Each(t, []string{"demo/base.gguf"}, []string{"models/stories260K-q8_0.gguf"}, func(t *testing.T, path string) {
		there := testdevice.Placement(t, device.AllLayers)
		for _, method := range testrun.Methods {
			c := testrun.By(method, testrun.Tiny(t))
			c.Model, c.Steps, c.Threads = path, 30, 1
			goesOn(t, c, 24, there)
		}
	})
}

// A run that the device has no memory for is refused before any of it is taken, with what would fit.
func TestDeviceMemoryIsALimit(t *testing.T) {
	c := testrun.Tiny(t)
	c.Batch, c.Threads = 1, 1
	on(t, cpuDevice(device.AllLayers))
	s, err := newSetup(t.Context(), c, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	plan := *s.plan.Device
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if plan.Weights == 0 || plan.Gradients == 0 || plan.Activations == 0 || plan.Head == 0 {
		t.Errorf("the plan of the device lacks a part: %v", plan)
	}
	c.MaxMemory = fmt.Sprintf("%dKiB", needed(plan.Total())>>10+1)
	if s, err = newSetup(t.Context(), c, true, nil); err != nil {
		t.Fatalf("with as much as it takes: %v", err)
	}
	s.close()
	c.MaxMemory = fmt.Sprintf("%dKiB", (plan.Weights+plan.Adapter+plan.Gradients)>>10)
	s, err = newSetup(t.Context(), c, true, nil)
	if err == nil {
		s.close()
	}
	refused := (*DeviceMemoryError)(nil)
	// The CPU as a device shares its memory with the CPU beside it, and fewer layers take no less of that.
	if !errors.As(err, &refused) || !strings.Contains(strings.Join(hint.Of(err), "; "), "--") {
		t.Errorf("with memory for weights and factors alone: %v (%v), want a refusal and what would fit", err, hint.Of(err))
	}
}

// A device that had less memory than planned is an error that says what would take less, and that does fit by the plan.
func TestDeviceWithoutMemorySaysWhatFits(t *testing.T) {
	c := testrun.Tiny(t)
	c.Batch, c.Threads = 4, 1
	on(t, cpuDevice(device.AllLayers))
	s, err := newSetup(t.Context(), c, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if other := errors.New("other"); s.explained(other) != other || s.engine.Failed() != nil {
		t.Error("an error that has nothing to do with memory was changed")
	}
	err = s.explained(fmt.Errorf("ggml: graph: %w", ggml.ErrNoMemory))
	hints := strings.Join(hint.Of(err), "; ")
	if !errors.Is(err, ggml.ErrNoMemory) || !strings.Contains(err.Error(), "device CPU has less memory than") {
		t.Errorf("without memory: %v", err)
	}
	limit := regexp.MustCompile(`^--max-memory (\d+KiB) `).FindStringSubmatch(hints)
	if limit == nil {
		t.Fatalf("hints %q, want a --max-memory that fits", hints)
	}
	planned := s.plan.Device.Total()
	c.MaxMemory = limit[1]
	less, err := newSetup(t.Context(), c, true, nil)
	if err != nil {
		t.Fatalf("with --max-memory %s, as it was told: %v", c.MaxMemory, err)
	}
	defer less.close()
	if got := less.plan.Device.Total(); got >= planned {
		t.Errorf("with --max-memory %s it takes %d bytes, %d without", c.MaxMemory, got, planned)
	}
}
