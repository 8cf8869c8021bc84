// Package machine knows the computer that the program runs on: cores, memory, processor time, locks of files, and how many
// threads are worth it while other programs run.
package machine

import (
	"os"
	"path/filepath"
	"runtime"
)

// PhysicalCores returns the number of cores that this process may use, two threads of one core counted once: ggml's
// threads wait for each other after every operation, and more of them than cores make a step several times slower.
// Where the system does not tell, it is the number of logical CPUs.
func PhysicalCores() int {
	siblings, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list")
	cores := map[string]bool{}
	for _, path := range siblings {
		if list, err := os.ReadFile(path); err == nil {
			cores[string(list)] = true
		}
	}
	if n := len(cores); n > 0 && n < runtime.NumCPU() {
		return n
	}
	return runtime.NumCPU()
}

// ThreadCount returns the number of threads that a setting stands for: 0 is one per physical core, and more than the process
// has CPUs are as many as those.
func ThreadCount(setting int) int {
	if setting > 0 {
		return min(setting, runtime.NumCPU())
	}
	return PhysicalCores()
}

// Mebibytes rounds bytes to MiB.
func Mebibytes(n int64) int64 { return (n + 1<<19) >> 20 }
