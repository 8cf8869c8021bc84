//go:build !linux

package machine

// Memory returns 0: what the process can take is not known on this system.
func Memory() int64 { return 0 }

// MemoryLimit returns 0: this system has no control groups.
func MemoryLimit() int64 { return 0 }

// FreeMemory returns 0: how much a program could take is not known on this system.
func FreeMemory() int64 { return 0 }

// ProcessorName returns "": what the processor is called is not known on this system.
func ProcessorName() string { return "" }
