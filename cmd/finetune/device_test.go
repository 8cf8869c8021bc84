//go:build unix

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"finetune/device"
	"finetune/internal/need"
	"finetune/internal/testdevice"
)

// A device whose driver has less memory than it says is one line and what would fit, and no run is begun. Vulkan's backend can be
// told that its driver refuses buffers above a size.
func TestDeviceWithoutMemoryIsAnErrorLine(t *testing.T) {
	if on := testdevice.Placement(t, device.AllLayers); on.Device.Backend() != "Vulkan" {
		need.Skip(t, need.GPU, "only Vulkan's can be told to have less memory")
	}
	base, text := need.Own(t, "demo/base.gguf"), need.Own(t, "trainer/testdata/reference.txt")
	out := filepath.Join(t.TempDir(), "run")
	for what, args := range map[string][]string{
		"train": {"train", "--model", base, "--data", text, "--out", out, "--ctx", "32", "--method", "lora"},
		"eval":  {"eval", "--model", base, "--data", text},
	} {
		code, said := ends(under("export GGML_VK_FORCE_MAX_BUFFER_SIZE=100000", append(args, "--device", "vulkan", "--threads", "1")...))
		lines := strings.Split(strings.TrimSpace(said), "\n")
		last := strings.Join(lines[max(0, len(lines)-2):], "\n")
		if code != exitFailed || !strings.Contains(last, "Vulkan0") || !strings.Contains(last, "finetune: hint: ") || !strings.Contains(last, "--gpu-layers ") {
			t.Errorf("%s on a device without memory: exit code %d, want %d and a hint: %s", what, code, exitFailed, said)
		}
	}
}
