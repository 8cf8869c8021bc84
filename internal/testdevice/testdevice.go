// Package testdevice gives tests the device that `make test-gpu` is about.
package testdevice

import (
	"os"
	"testing"

	"finetune/device"
	"finetune/internal/need"
)

// Variable names the device, as device.Choose takes it. Without it the tests run on the best GPU that there is, or are skipped.
const Variable = "FINETUNE_TEST_DEVICE"

// Placement puts layers of a model on the device, device.AllLayers or a number of them.
func Placement(t testing.TB, layers int) device.Placement {
	t.Helper()
	name, wanted := os.LookupEnv(Variable)
	if name == "" {
		name, wanted = device.Auto, false
	}
	on, err := device.Choose(name, layers)
	switch {
	case err != nil:
		t.Fatalf("%s: %v", Variable, err)
	case on.Device.IsNil() && wanted:
		t.Fatalf("%s=%s is the CPU, want a device beside it", Variable, name)
	case on.Device.IsNil():
		need.Skip(t, need.GPU, "this build finds none, and "+Variable+" names none")
	}
	return on
}
