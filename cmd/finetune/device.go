package main

import (
	"finetune/device"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/spf13/pflag"
)

// deviceFlags say what a model is held and computed by.
type deviceFlags struct {
	device    string
	gpuLayers int
}

const (
	deviceUsage    = "auto (the best GPU that this build can use, else the CPU), cpu, vulkan, cuda, metal or the `NAME` of a device"
	gpuLayersUsage = "layers in the GPU's memory, from the last, the output as one; -1 is all, the others stay on the CPU"
)

func (d *deviceFlags) add(f *pflag.FlagSet) {
	f.StringVar(&d.device, "device", device.Auto, deviceUsage)
	f.IntVar(&d.gpuLayers, "gpu-layers", device.AllLayers, gpuLayersUsage)
}

// choose finds the device, and says which unless it is the CPU.
func (d deviceFlags) choose(u *ui) (device.Placement, error) {
	on, err := device.Choose(d.device, d.gpuLayers)
	if err == nil && !on.OnCPU() {
		u.say("on device %s: %s", on, on.Device.Description())
		if on.Device.Software() {
			ggml.KeepBlocks()
		}
	}
	return on, err
}
