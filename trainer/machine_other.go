//go:build !linux

package trainer

// machineMemory is not known on this system.
func machineMemory() int64 { return 0 }
