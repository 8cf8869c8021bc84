//go:build unix

package machine

import (
	"syscall"
	"time"
)

// ProcessorTime returns what all threads of the process have computed so far; below 0 where the system does not tell.
func ProcessorTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return -1
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
