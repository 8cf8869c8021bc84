package bench

import (
	"os"
	"runtime/debug"

	"finetune/kernels"
)

// resetPeak begins a new measurement: what is left of the last one is given back, and the system forgets the process's
// largest resident size.
func resetPeak() {
	debug.FreeOSMemory()
	kernels.Trim()
	os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // where that is not allowed the figure is that of the process
}
