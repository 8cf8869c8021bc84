package bench

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// resetPeakRSS begins a new measurement: the system forgets the process's largest resident size.
func resetPeakRSS() {
	debug.FreeOSMemory()
	ggml.Trim()
	os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // where that is not allowed the figure is that of the process
}

// peakRSS is the largest resident size since then, in bytes; 0 if the system does not tell.
func peakRSS() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if value, ok := strings.CutPrefix(string(line), "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}
