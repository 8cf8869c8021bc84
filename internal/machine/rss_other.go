//go:build !unix

package machine

// PeakMemory is not known on this system.
func PeakMemory() int64 { return 0 }
