//go:build unix && !linux

package machine

import (
	"runtime"
	"syscall"
)

// PeakMemory returns the largest resident size of the process so far, in bytes; 0 where the system does not tell.
func PeakMemory() int64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return int64(usage.Maxrss) // bytes there, KiB elsewhere
	}
	return int64(usage.Maxrss) * 1024
}

// ResidentMemory returns 0: what the process takes now, and not at most so far, is not known on this system.
func ResidentMemory() int64 { return 0 }
