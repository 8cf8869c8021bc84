package device

import (
	"strings"
	"testing"

	"finetune/internal/hint"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Devices as backends describe them.
var (
	cpu      = Info{Name: "CPU", Description: "some processor", Backend: "CPU", Type: ggml.DeviceCPU, Kind: "CPU", Total: 16 << 30}
	blas     = Info{Name: "BLAS", Description: "OpenBLAS", Backend: "BLAS", Type: ggml.DeviceAccel, Kind: "accelerator"}
	nvidia   = Info{Name: "Vulkan1", Description: "NVIDIA GeForce RTX 3060", Backend: "Vulkan", Type: ggml.DeviceGPU, Kind: "GPU", Total: 12 << 30}
	intel    = Info{Name: "Vulkan0", Description: "Intel(R) Iris(R) Xe Graphics", Backend: "Vulkan", Type: ggml.DeviceIGPU, Kind: "integrated GPU", Total: 8 << 30}
	llvmpipe = Info{Name: "Vulkan0", Description: "llvmpipe (LLVM 15.0.6, 256 bits)", Backend: "Vulkan", Type: ggml.DeviceGPU, Kind: software, Total: 24 << 30}
	apple    = Info{Name: "MTL0", Description: "Apple M2", Backend: "MTL", Type: ggml.DeviceGPU, Kind: "GPU", Total: 11 << 30}
)

func TestChoice(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		all  []Info
		want string // the device's name; empty: the CPU
	}{
		{"auto", []Info{cpu}, ""},
		{"auto", []Info{blas, cpu}, ""},
		{"auto", []Info{llvmpipe, cpu}, ""}, // slower than the CPU itself
		{"auto", []Info{intel, nvidia, cpu}, "Vulkan1"},
		{"auto", []Info{intel, cpu}, "Vulkan0"},
		{"auto", []Info{apple, blas, cpu}, "MTL0"},
		{"vulkan", []Info{llvmpipe, cpu}, "Vulkan0"}, // asked for
		{"vulkan", []Info{llvmpipe, nvidia, cpu}, "Vulkan1"},
		{"Vulkan", []Info{intel, nvidia, cpu}, "Vulkan1"},
		{"vulkan0", []Info{intel, nvidia, cpu}, "Vulkan0"},
		{"metal", []Info{apple, cpu}, "MTL0"},
		{"CPU", []Info{apple, cpu}, ""},
	} {
		got, err := choose(tt.name, tt.all, []string{"Vulkan", "MTL", "BLAS", "CPU"})
		if err != nil || got.Name != tt.want {
			t.Errorf("choose(%q, %v) = %q, %v, want %q", tt.name, tt.all, got.Name, err, tt.want)
		}
	}
}

func TestRefusalsSayWhatThereIs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, want, advice string
		built              []string
	}{
		{"cuda", `device "cuda": this program was built without CUDA; there is Vulkan0 (llvmpipe (LLVM 15.0.6, 256 bits), 24.0 GiB, software), CPU (some processor)`,
			"make GPU=cuda", []string{"Vulkan", "CPU"}},
		{"cuda", `device "cuda": CUDA finds no device with a driver for it; there is Vulkan0`, "driver", []string{"Vulkan", "CUDA", "CPU"}},
		{"Vulkan7", `device "Vulkan7": there is none of that name; there is Vulkan0`, "--device takes auto, cpu", []string{"Vulkan", "CPU"}},
		{"BLAS", `device "BLAS": there is none of that name`, "--device takes", []string{"BLAS", "CPU"}}, // models do not lie there
	} {
		_, err := choose(tt.name, []Info{llvmpipe, blas, cpu}, tt.built)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || !strings.Contains(strings.Join(hint.Of(err), "\n"), tt.advice) {
			t.Errorf("choose(%q) of %v: %v, hints %q; want %s… with %q among the hints", tt.name, tt.built, err, hint.Of(err), tt.want, tt.advice)
		}
	}
	if _, err := Choose("cpu", 3); err == nil || !strings.Contains(err.Error(), "gpu-layers 3") {
		t.Errorf("Choose(cpu, 3) = %v, want a refusal of the layers", err)
	}
}

func TestTheCPUIsAlwaysThere(t *testing.T) {
	t.Parallel()
	all := List()
	if last := all[len(all)-1]; last.Type != ggml.DeviceCPU || last.Name != "CPU" || last.Kind != "CPU" || len(last.Features) == 0 {
		t.Errorf("the last of %v is %+v, want the CPU with its features", all, last)
	}
	for _, name := range []string{"cpu", ""} {
		if on, err := Choose(name, AllLayers); err != nil || !on.OnCPU() || on.String() != "CPU" {
			t.Errorf("Choose(%q) = %v, %v, want the CPU", name, on, err)
		}
	}
	for _, i := range all {
		if on, err := Choose(i.Name, AllLayers); (err != nil || on.String() != i.Name) && i.gpu() {
			t.Errorf("Choose(%q) = %v, %v, want that device", i.Name, on, err)
		}
	}
}
