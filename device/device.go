// Package device chooses what a model is held and computed by, from the names that commands take: the CPU, or a GPU that one of
// llama.cpp's backends found. Nothing else in the program asks for devices.
//
//	on, err := device.Choose("vulkan", device.AllLayers)
//	m, err := native.Load(base, on)
package device

import (
	"fmt"
	"slices"
	"strings"

	"finetune/internal/hint"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// The names that Choose takes besides those of backends and devices.
const (
	Auto = "auto" // the best GPU that there is, never a software one; else the CPU
	CPU  = "cpu"
)

// AllLayers is all layers of a model, whatever their number.
const AllLayers = llama.AllLayers

// Placement says where a model lies and is computed. The zero value is the CPU.
type Placement struct {
	Device ggml.Device // none: the CPU
	Layers int         // with a device, those in its memory, as llama.cpp counts them: from the last, the output as one; or AllLayers
}

// OnCPU reports whether no device has a part in it.
func (p Placement) OnCPU() bool { return p.Device.IsNil() || p.Layers == 0 }

// Params returns what llama.cpp is told to load a model there.
func (p Placement) Params() llama.ModelParams {
	if p.OnCPU() {
		return llama.ModelParams{}
	}
	return llama.ModelParams{Devices: []ggml.Device{p.Device}, GPULayers: p.Layers}
}

// String names the device: "CPU", "Vulkan0".
func (p Placement) String() string {
	if p.OnCPU() {
		return "CPU"
	}
	return p.Device.Name()
}

// Info describes a device of this machine that this build can use.
type Info struct {
	Name        string          `json:"name"`        // ggml's: "Vulkan0", "CPU"
	Description string          `json:"description"` // the driver's: "NVIDIA GeForce RTX 3060"
	Backend     string          `json:"backend"`     // "Vulkan", "CUDA", "MTL", "CPU"
	Type        ggml.DeviceType `json:"-"`
	Kind        string          `json:"kind"`         // "GPU", "integrated GPU", "software", "CPU"
	Free        int64           `json:"memory_free"`  // bytes, 0 where the backend does not know
	Total       int64           `json:"memory_total"` // the same
	Features    []string        `json:"features,omitempty"`

	device ggml.Device
}

const software = "software" // the Kind of a GPU that the CPU pretends to be

// List returns the devices of this machine that this build can use, the CPU last. The first call starts the drivers.
func List() []Info {
	var all []Info
	for _, d := range ggml.Devices() {
		i := Info{Name: d.Name(), Description: d.Description(), Backend: d.Backend(), Type: d.Type(), Kind: d.Type().String(),
			Features: d.Features(), device: d}
		if d.Software() {
			i.Kind = software
		}
		i.Free, i.Total = d.Memory()
		all = append(all, i)
	}
	return all
}

// String returns the device as messages list it: "Vulkan0 (NVIDIA GeForce RTX 3060, 12.0 GiB)".
func (i Info) String() string {
	about := i.Description
	if i.Total > 0 && i.Type != ggml.DeviceCPU {
		about += fmt.Sprintf(", %.1f GiB", float64(i.Total)/(1<<30))
	}
	if i.Kind == software && !strings.Contains(about, software) {
		about += ", " + software
	}
	return i.Name + " (" + about + ")"
}

// gpu reports whether models can be put on the device.
func (i Info) gpu() bool { return i.Type == ggml.DeviceGPU || i.Type == ggml.DeviceIGPU }

// backends are the names that commands have for llama.cpp's backends, and how each comes into a build.
var backends = []struct{ name, ggml, title, build string }{
	{"vulkan", "Vulkan", "Vulkan", "make GPU=vulkan builds one with it"},
	{"cuda", "CUDA", "CUDA", "make GPU=cuda builds one with it"},
	{"metal", "MTL", "Metal", "on a Mac, make GPU=metal builds one with it"},
}

// Choose returns where a model goes by the name of a device: auto, cpu or none, a backend's name (vulkan, cuda, metal), which is its best
// device, or one device's own name, in any case of letters. layers is that of Placement. An error says what there is.
func Choose(name string, layers int) (Placement, error) {
	if name == "" || strings.EqualFold(name, CPU) {
		if layers > 0 {
			return Placement{}, hint.With(fmt.Errorf("gpu-layers %d: with device cpu there is no GPU to hold them", layers), "leave --gpu-layers out, or name a --device")
		}
		return Placement{}, nil
	}
	chosen, err := choose(name, List(), ggml.Backends())
	if err != nil || chosen.device.IsNil() {
		return Placement{}, err
	}
	return Placement{Device: chosen.device, Layers: layers}, nil
}

// choose returns the device by that name among all; an Info without a device is the CPU. built names the backends of the build.
func choose(name string, all []Info, built []string) (Info, error) {
	if name == Auto {
		return best(all, func(i Info) bool { return i.Kind != software }), nil
	}
	if i := slices.IndexFunc(all, func(i Info) bool { return strings.EqualFold(i.Name, name) && (i.gpu() || i.Type == ggml.DeviceCPU) }); i >= 0 {
		if all[i].gpu() {
			return all[i], nil
		}
		return Info{}, nil
	}
	for _, b := range backends {
		if !strings.EqualFold(b.name, name) {
			continue
		}
		if !slices.Contains(built, b.ggml) {
			return Info{}, hint.With(fmt.Errorf("device %q: this program was built without %s; there is %s", name, b.title, listed(all)), b.build)
		}
		found := best(all, func(i Info) bool { return i.Backend == b.ggml })
		if found.Name == "" {
			return Info{}, hint.With(fmt.Errorf("device %q: %s finds no device with a driver for it; there is %s", name, b.title, listed(all)), missing(b.name))
		}
		return found, nil
	}
	return Info{}, hint.With(fmt.Errorf("device %q: there is none of that name; there is %s", name, listed(all)), "--device takes auto, cpu, vulkan, cuda, metal or a name of that list")
}

// missing says what a backend without devices may lack.
func missing(backend string) string {
	if backend == "vulkan" {
		return "install the GPU's Vulkan driver (mesa-vulkan-drivers, or NVIDIA's); GGML_VK_VISIBLE_DEVICES=0 takes the first device even if it is a software one"
	}
	return "install the GPU's driver"
}

// best returns the best of the GPUs that suit: one with memory of its own before an integrated one before a software one, the
// first of equals; none if there is none.
func best(all []Info, suits func(Info) bool) Info {
	for _, wanted := range []func(Info) bool{
		func(i Info) bool { return i.Type == ggml.DeviceGPU && i.Kind != software },
		func(i Info) bool { return i.Type == ggml.DeviceIGPU && i.Kind != software },
		Info.gpu,
	} {
		if n := slices.IndexFunc(all, func(i Info) bool { return suits(i) && wanted(i) }); n >= 0 {
			return all[n]
		}
	}
	return Info{}
}

// listed is what there is, for a message.
func listed(all []Info) string {
	var names []string
	for _, i := range all {
		if i.gpu() || i.Type == ggml.DeviceCPU {
			names = append(names, i.String())
		}
	}
	return strings.Join(names, ", ")
}
