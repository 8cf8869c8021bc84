package machine

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// PeakMemory returns the largest resident size of the process so far, in bytes; 0 where the system does not tell.
// getrusage is no help here: its figure is that of the process that started this one, where that was larger.
func PeakMemory() int64 { return status("VmHWM:") }

// ResidentMemory returns the resident size of the process, in bytes; 0 where the system does not tell.
func ResidentMemory() int64 { return status("VmRSS:") }

// status returns a size that the system tells of the process, in bytes.
func status(key string) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if value, ok := strings.CutPrefix(string(line), key); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}
